"""Configuration of MCSAM (Memory-based Cross-modal Semantic Alignment, arXiv 2404.00588).

The paper's text with its sizes is not available to us: each number below carries the reason for its default.
"S5" is the released code of R2GenCMN, the nearest ancestor, whose settings this line of work shares.
"""

from typing import Any, ClassVar

from transformers import AutoConfig
from transformers.models.marian.configuration_marian import MarianConfig

from .configuration_report import ReportConfig, SubConfig, make_visual_config


class MCSAMConfig(ReportConfig):
    r"""
    Sizes, weights and parts of MCSAM. The defaults are the full model on 224-px films.

    Args:
        encoder (`PretrainedConfig` or `dict`): visual backbone, any vision model of Transformers (ResNet, Dinov2,
            `timm_wrapper`). A dict needs its `model_type`. Default: ResNet-50.
        decoder (`PretrainedConfig` or `dict`): Marian decoder: `d_model`, `decoder_layers`, `decoder_ffn_dim`,
            `decoder_attention_heads`, `dropout`. Its width is the D of the whole model.
        vocab_size (`int`): words of the tokenizer, special tokens included.
        max_views (`int`): most images of one study.
        encoder_layers (`int`): Transformer layers over the consolidated visual tokens.
        visual_dropout (`float`): dropout behind the projection of the visual features.
        memory_size (`int`): bank vectors N^m; 0 leaves the memory out.
        memory_dim (`int`): width D_M of a bank vector.
        memory_top_k (`int`): bank vectors that one token retrieves, per head.
        memory_heads (`int`): heads of the retrieval.
        sam_layers (`int`): layers of the siamese BERT; 0 leaves cross-modal semantic alignment out.
        semantic_embedding (`bool`): add the semantic visual embedding e^v to what the decoder attends to.
        alignment_weight (`float`): weight of L_align beside L_gen.
        initial_temperature (`float`): first value of the learned InfoNCE temperature.
        num_prompts (`int`): learnable memory tokens before the words of the decoder; 0 leaves them out.
        observations (`dict[str, float]`): what is named from the films and told to the decoder, "+ labels", each with
            the probability from which on it counts as seen; None, as in the paper, leaves this out.
        hint_emphasis (`float`): how many times what the decoder is told counts in writing; 1: as it learnt.
        global_negatives (`bool`): compare films and reports of the batches of all processes; False: of each process
            alone. With one process there is no difference.
        initializer_range (`float`): standard deviation of fresh weights; None means D^-0.5.

    Raises:
        ValueError: a size that cannot work, with the field, what was expected and what came.
    """

    model_type = "mcsam"
    sub_configs = {"encoder": AutoConfig, "decoder": MarianConfig}
    keys_to_ignore_at_inference = ["past_key_values", "generation_loss", "alignment_loss"]
    decoder_sizes: ClassVar[dict[str, Any]] = {
        "d_model": 512,  # S5
        "decoder_layers": 3,  # S5
        "decoder_ffn_dim": 512,  # S5
        "decoder_attention_heads": 8,  # S5
        "dropout": 0.1,  # S5
        "attention_dropout": 0.1,  # S5
        "activation_function": "relu",  # S5
        "max_position_embeddings": 256,  # 100 words of MIMIC-CXR and the prompts, with room
    }

    def __init__(
        self,
        encoder: SubConfig = None,
        decoder: SubConfig = None,
        vocab_size: int = 4335,  # words of MIMIC-CXR at the line's threshold of 10 (peers.md)
        max_views: int = 4,  # our reading: IU X-ray has studies of up to four films
        encoder_layers: int = 3,  # S5
        visual_dropout: float = 0.5,  # S5
        memory_size: int = 100,  # our reading: the number of topics of NSTM; S5's random bank has 2048
        memory_dim: int = 512,  # our reading: the width of the decoder
        memory_top_k: int = 25,  # our reading: min(32 of S5, a quarter of the bank)
        memory_heads: int = 8,  # S5
        sam_layers: int = 3,  # our reading: a small BERT, trained from scratch
        semantic_embedding: bool = True,  # paper, abstract
        alignment_weight: float = 1.0,  # the printed sum L_gen + L_align has no weights
        initial_temperature: float = 0.07,  # MedCLIP, whose image encoder the paper starts from
        num_prompts: int = 10,  # our reading: size of a short prompt
        observations: dict[str, float] | None = None,  # ours
        hint_emphasis: float = 1.0,  # ours
        global_negatives: bool = True,  # in-batch negatives: of the whole batch
        initializer_range: float | None = None,  # D^-0.5: what S5's Xavier comes to; 0.02 starves narrow models
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.encoder = make_visual_config(encoder)
        self.visual_dropout = visual_dropout
        self.memory_size = memory_size
        self.memory_dim = memory_dim
        self.memory_top_k = memory_top_k
        self.memory_heads = memory_heads
        self.sam_layers = sam_layers
        self.semantic_embedding = semantic_embedding
        self.alignment_weight = alignment_weight
        self.initial_temperature = initial_temperature
        self.num_prompts = num_prompts
        super().__init__(
            decoder=decoder,
            vocab_size=vocab_size,
            max_views=max_views,
            encoder_layers=encoder_layers,
            observations=observations,
            hint_emphasis=hint_emphasis,
            global_negatives=global_negatives,
            initializer_range=initializer_range,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )
        self._check_sizes()

    @property
    def max_words(self) -> int:
        """Longest report that the decoder has positions for, beside its prompts."""
        return self.decoder.max_position_embeddings - self.num_prompts

    def _check_sizes(self) -> None:
        self.check_at_least(1, "max_views", "memory_dim", "memory_heads")
        self.check_at_least(0, "encoder_layers", "memory_size", "sam_layers", "num_prompts", "alignment_weight")
        if self.memory_size and not 0 < self.memory_top_k <= self.memory_size:
            raise ValueError(
                f"`memory_top_k` must be 1 to `memory_size` ({self.memory_size}). Got {self.memory_top_k}."
            )
        self.check_width(memory_heads=self.memory_heads)
        if self.max_words < 1:
            raise ValueError(
                f"`num_prompts` must leave room for words in the decoder's {self.decoder.max_position_embeddings} "
                f"positions. Got {self.num_prompts}."
            )
