"""Configuration of MCSAM (Memory-based Cross-modal Semantic Alignment, arXiv 2404.00588).

The paper's text with its sizes is not available to us: each number below carries the reason for its default.
"S5" is the released code of R2GenCMN, the nearest ancestor, whose settings this line of work shares.
"""

from typing import Any, TypeAlias

from transformers import AutoConfig, PretrainedConfig, ResNetConfig
from transformers.models.marian.configuration_marian import MarianConfig

SubConfig: TypeAlias = PretrainedConfig | dict[str, Any] | None


class MCSAMConfig(PretrainedConfig):
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
        initializer_range (`float`): standard deviation of fresh weights; None means D^-0.5.

    Raises:
        ValueError: a size that cannot work, with the field, what was expected and what came.
    """

    model_type = "mcsam"
    sub_configs = {"encoder": AutoConfig, "decoder": MarianConfig}
    keys_to_ignore_at_inference = ["past_key_values", "generation_loss", "alignment_loss"]

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
        pad_token_id: int = 0,
        bos_token_id: int = 1,
        eos_token_id: int = 2,
        decoder_start_token_id: int = 1,
        initializer_range: float | None = None,  # D^-0.5: what S5's Xavier comes to; 0.02 starves narrow models
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.encoder = _visual_config(encoder)
        self.vocab_size = vocab_size
        self.max_views = max_views
        self.encoder_layers = encoder_layers
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
        special = {"pad_token_id": pad_token_id, "bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
        special["decoder_start_token_id"] = decoder_start_token_id
        self.decoder = _decoder_config(decoder, vocab_size, special)
        self.initializer_range = self.decoder.d_model**-0.5 if initializer_range is None else initializer_range
        self.decoder.init_std = self.initializer_range
        kwargs.pop("is_encoder_decoder", None)
        super().__init__(is_encoder_decoder=True, tie_word_embeddings=tie_word_embeddings, **special, **kwargs)
        # On transformers 5.x the base class keeps no special ids of an encoder-decoder but those set by hand.
        for name, value in special.items():
            setattr(self, name, value)
        self._check_sizes()

    @property
    def d_model(self) -> int:
        """Width D of visual tokens, words, prompts and the siamese BERT."""
        return self.decoder.d_model

    # The generation code of Transformers reads these three from the outer configuration.
    @property
    def hidden_size(self) -> int:
        return self.decoder.d_model

    @property
    def num_attention_heads(self) -> int:
        return self.decoder.decoder_attention_heads

    @property
    def num_hidden_layers(self) -> int:
        return self.decoder.decoder_layers

    def _check_sizes(self) -> None:
        least = dict.fromkeys(("max_views", "memory_dim", "memory_heads"), 1)
        least |= dict.fromkeys(("encoder_layers", "memory_size", "sam_layers", "num_prompts"), 0)
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"`{name}` must be at least {smallest}. Got {getattr(self, name)}.")
        if self.memory_size and not 0 < self.memory_top_k <= self.memory_size:
            raise ValueError(
                f"`memory_top_k` must be 1 to `memory_size` ({self.memory_size}). Got {self.memory_top_k}."
            )
        for name, heads in (("memory_heads", self.memory_heads), ("decoder heads", self.num_attention_heads)):
            if self.d_model % heads:
                raise ValueError(f"`d_model` ({self.d_model}) must be a multiple of `{name}`. Got {heads}.")
        if self.d_model % 4:
            raise ValueError(f"`d_model` must be a multiple of 4 (2-D sine positions). Got {self.d_model}.")
        if self.num_prompts >= self.decoder.max_position_embeddings:
            raise ValueError(
                f"`num_prompts` must leave room for words in the decoder's {self.decoder.max_position_embeddings} "
                f"positions. Got {self.num_prompts}."
            )


def _visual_config(encoder: SubConfig) -> PretrainedConfig:
    """The backbone's configuration; `for_model` turns a plain dict into the class of its `model_type`."""
    if encoder is None:
        return ResNetConfig()
    if isinstance(encoder, PretrainedConfig):
        return encoder
    if "model_type" not in encoder:
        raise ValueError(f"`encoder` as a dict needs its `model_type`, e.g. 'resnet'. Got keys {sorted(encoder)}.")
    values = dict(encoder)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _decoder_config(decoder: SubConfig, vocab_size: int, special: dict[str, int]) -> MarianConfig:
    """A Marian configuration for its decoder alone: the words are the outer model's."""
    values = decoder.to_dict() if isinstance(decoder, PretrainedConfig) else dict(decoder or {})
    sizes = {
        "d_model": 512,  # S5
        "decoder_layers": 3,  # S5
        "decoder_ffn_dim": 512,  # S5
        "decoder_attention_heads": 8,  # S5
        "dropout": 0.1,  # S5
        "attention_dropout": 0.1,  # S5
        "activation_function": "relu",  # S5
        "max_position_embeddings": 256,  # 100 words of MIMIC-CXR and the prompts, with room
    }
    values = sizes | values | special
    # Marian maps `num_hidden_layers` to its encoder; unequal counts break the caches of the decoder.
    values |= {"encoder_layers": values["decoder_layers"], "encoder_ffn_dim": values["decoder_ffn_dim"]}
    values |= {"encoder_attention_heads": values["decoder_attention_heads"], "scale_embedding": False}
    values |= {"vocab_size": vocab_size, "decoder_vocab_size": vocab_size, "forced_eos_token_id": None}
    for name in ("model_type", "is_encoder_decoder", "transformers_version"):
        values.pop(name, None)
    return MarianConfig(**values)
