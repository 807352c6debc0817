"""Configuration of UAR (Unify, Align and Refine, ICCV 2023, arXiv 2303.15932).

Each number carries its source: "paper", or the row of our list of open points ("our reading n", uar.md section 8).
Appendix values (schedules, the tokenizer's details, the margin) are not available to us.
"""

from typing import Any, ClassVar

from transformers import AutoConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.marian.configuration_marian import MarianConfig

from .configuration_image_tokenizer import downsampling, make_tokenizer_config
from .configuration_report import PresentParts, ReportConfig, SubConfig, make_visual_config


class UARConfig(ReportConfig):
    r"""
    Sizes, weights and parts of UAR. The defaults are the paper's model on 112-px films.

    Args:
        image_tokenizer (`PretrainedConfig` or `dict`): frozen tokenizer of the LSU: `FlavaImageCodebookConfig` (the
            DALL-E dVAE, the default), `JanusVQVAEConfig` (a VQ model that one can train) or `VisualWordsConfig` (a
            backbone and a codebook). A dict needs `model_type`.
        encoder (`PretrainedConfig` or `dict`): a visual backbone in place of the LSU's image side, as the paper's rows
            without LSU have; then there is no `image_tokenizer`.
        decoder (`PretrainedConfig` or `dict`): Marian decoder; `max_position_embeddings` is the T_max of the mask.
        vocab_size (`int`): words of the tokenizer, special tokens included.
        image_size (`int`): side of a film in pixels.
        max_views (`int`): most images of one study.
        encoder_layers (`int`): Transformer layers over the aligned visual tokens.
        basis_size (`int`): rows K of the aligner's basis; 0 leaves the aligner (CRA) out.
        basis (`str`): distribution of the basis: "orthogonal", or Table 3's rivals "uniform" and "normal".
        fusion (`str`): "dual_gate", or Table 4's rivals "none" (F = F~) and "addition" (F = E + F~).
        aligner_heads (`int`): heads of the attention over the basis.
        alignment_weight (`float`): weight of L_Global; 0 leaves it out.
        margin (`float`): alpha of L_Global, in cosines.
        negatives (`str`): "hardest" of the batch, or "semi_hard", no nearer than the match.
        refine (`bool`): text-to-image refiner (TIR), the second stage: the mask inside the cross-attention.
        mask_scale (`float`): k of Eq. 11.
        mask_weight (`float`): weight of L_Mask.
        loss_reduction (`str`): "mean" over words and mask cells, or "sum" over a report as printed.
        observations (`dict[str, float]`): what is named from the films and told to the decoder, "+ labels", each with
            the probability from which on it counts as seen; None, as in the paper, leaves this out.
        hint_emphasis (`float`): how many times what the decoder is told counts in writing; 1: as it learnt.
        global_negatives (`bool`): compare films and reports of the batches of all processes; False: of each process
            alone. With one process there is no difference.
        initializer_range (`float`): standard deviation of fresh weights; None means D^-0.5.

    Raises:
        ValueError: a size that cannot work, with the field, what was expected and what came.
    """

    model_type = "uar"
    # One class for the generic code of Transformers; `make_tokenizer_config` chooses by `model_type`.
    sub_configs = PresentParts(image_tokenizer=FlavaImageCodebookConfig, encoder=AutoConfig, decoder=MarianConfig)
    keys_to_ignore_at_inference = ["past_key_values", "generation_loss", "alignment_loss", "mask_loss"]
    decoder_sizes: ClassVar[dict[str, Any]] = {
        "d_model": 512,  # our reading 2: Transformer-Base
        "decoder_layers": 3,  # paper
        "decoder_ffn_dim": 2048,  # our reading 2: Transformer-Base; R2GenCMN has 512
        "decoder_attention_heads": 8,  # our reading 2
        "dropout": 0.1,  # our reading 2
        "attention_dropout": 0.1,  # our reading 2
        "activation_function": "relu",  # Transformer-Base
        "max_position_embeddings": 100,  # our reading 21: words of MIMIC-CXR
    }

    def __init__(
        self,
        image_tokenizer: SubConfig = None,
        encoder: SubConfig = None,
        decoder: SubConfig = None,
        vocab_size: int = 4000,  # paper: about 4,000 words of MIMIC-CXR
        image_size: int = 112,  # paper
        max_views: int = 2,  # paper: frontal and lateral of IU X-ray together
        encoder_layers: int = 3,  # paper: "3 layers", read as 3 + 3
        basis_size: int = 2048,  # paper
        basis: str = "orthogonal",  # paper
        fusion: str = "dual_gate",  # paper
        aligner_heads: int = 8,  # our reading 2: "multi-head in practice"
        alignment_weight: float = 1.0,  # paper: lambda 2
        margin: float = 0.2,  # our reading 10: VSE++
        # Our reading 9. On fresh weights the hardest negative drew all films and reports onto one vector within a
        # hundred steps of ours, as FaceNet (which the paper cites) warns; "semi_hard" is FaceNet's way out.
        negatives: str = "hardest",
        refine: bool = False,  # paper: the first stage has no mask
        mask_scale: float = 1000.0,  # paper: "e.g., 1,000"
        mask_weight: float = 1.0,  # paper: lambda 3
        loss_reduction: str = "mean",  # our reading 15, 16: the sum over 60 x 392 cells would drown the words
        observations: dict[str, float] | None = None,  # ours
        hint_emphasis: float = 1.0,  # ours
        global_negatives: bool = True,  # in-batch negatives: of the whole batch
        initializer_range: float | None = None,  # our reading: D^-0.5, what Xavier comes to
        tie_word_embeddings: bool = False,  # paper: the head is a fully connected layer of its own
        **kwargs: Any,
    ) -> None:
        self.encoder = None if encoder is None else make_visual_config(encoder)
        self.image_tokenizer = make_tokenizer_config(image_tokenizer) if encoder is None else None
        if encoder is not None and image_tokenizer is not None:
            raise ValueError("`encoder` and `image_tokenizer` both read the film. Give one of them.")
        self.image_size = image_size
        self.basis_size = basis_size
        self.basis = basis
        self.fusion = fusion
        self.aligner_heads = aligner_heads
        self.alignment_weight = alignment_weight
        self.margin = margin
        self.negatives = negatives
        self.refine = refine
        self.mask_scale = mask_scale
        self.mask_weight = mask_weight
        self.loss_reduction = loss_reduction
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
        self._check_fields()

    @property
    def tokens_per_view(self) -> int:
        """L of one film: (side / M)^2."""
        return (self.image_size // downsampling(self.image_tokenizer)) ** 2

    def _check_fields(self) -> None:
        self.check_at_least(1, "max_views", "aligner_heads", "image_size")
        self.check_at_least(0, "encoder_layers", "basis_size", "alignment_weight", "margin", "mask_weight")
        self.check_width(aligner_heads=self.aligner_heads)
        choices: dict[str, tuple[str, ...]] = {
            "basis": ("orthogonal", "uniform", "normal"),
            "fusion": ("dual_gate", "none", "addition"),
            "negatives": ("hardest", "semi_hard"),
            "loss_reduction": ("mean", "sum"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}. Got {getattr(self, name)!r}.")
        if self.image_tokenizer is None:
            if self.refine:
                raise ValueError("`refine` needs an `image_tokenizer`: its number of tokens is fixed. Got `encoder`.")
        elif self.image_size % (step := downsampling(self.image_tokenizer)):
            raise ValueError(
                f"`image_size` must be a multiple of {step}, the tokenizer's step. Got {self.image_size}."
            )
