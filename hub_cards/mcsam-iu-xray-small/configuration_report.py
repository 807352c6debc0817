"""What the configurations of report generators share: a stock decoder sized from outside, special words, checks."""

from typing import Any, ClassVar, TypeAlias

from transformers import AutoConfig, PretrainedConfig, ResNetConfig
from transformers.models.marian.configuration_marian import MarianConfig

SubConfig: TypeAlias = PretrainedConfig | dict[str, Any] | None


class PresentParts:
    """`sub_configs` of a configuration whose parts may be None, which Transformers 4.57 stumbles over."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts

    def __get__(self, config: PretrainedConfig | None, kind: type) -> dict[str, Any]:
        return {name: part for name, part in self.parts.items() if config is None or getattr(config, name, None)}


class ReportConfig(PretrainedConfig):
    r"""
    Base of the models' configurations. The decoder's width is the D of the whole model.

    Args:
        decoder (`PretrainedConfig` or `dict`): Marian decoder: `d_model`, `decoder_layers`, `decoder_ffn_dim`,
            `decoder_attention_heads`, `dropout`. What is missing comes from `decoder_sizes`.
        vocab_size (`int`): words of the tokenizer, special tokens included.
        max_views (`int`): most images of one study.
        encoder_layers (`int`): Transformer layers over the visual tokens.
        observations (`dict[str, float]`): what is named from the films and told to the decoder, each with the
            probability from which on it counts as seen; None leaves this out. See modeling_observations.py.
        hint_emphasis (`float`): how many times what the decoder is told of them counts in writing; 1: as it learnt.
        global_negatives (`bool`): compare films and reports of the batches of all processes; False: of each process
            alone. With one process there is no difference.
        initializer_range (`float`): standard deviation of fresh weights; None means D^-0.5.

    Raises:
        ValueError: a size that cannot work, with the field, what was expected and what came.
    """

    decoder_sizes: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        decoder: SubConfig = None,
        vocab_size: int = 4000,
        max_views: int = 2,
        encoder_layers: int = 3,
        observations: dict[str, float] | None = None,
        hint_emphasis: float = 1.0,
        global_negatives: bool = True,
        pad_token_id: int = 0,
        bos_token_id: int = 1,
        eos_token_id: int = 2,
        decoder_start_token_id: int = 1,
        initializer_range: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.max_views = max_views
        self.encoder_layers = encoder_layers
        self.observations = check_observations(observations)
        self.hint_emphasis = hint_emphasis
        self.global_negatives = global_negatives
        special = {"pad_token_id": pad_token_id, "bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
        special["decoder_start_token_id"] = decoder_start_token_id
        self.decoder = make_decoder_config(decoder, self.decoder_sizes, vocab_size, special)
        self.initializer_range = self.decoder.d_model**-0.5 if initializer_range is None else initializer_range
        self.decoder.init_std = self.initializer_range
        # Transformers 4.57 ties the head by the decoder's word, 5.x by that of the whole model.
        self.decoder.tie_word_embeddings = kwargs.get("tie_word_embeddings", True)
        kwargs.pop("is_encoder_decoder", None)
        if not __name__.startswith("transformers_modules"):
            # A repository names its pipeline's code here, and Transformers would refuse the model without
            # `trust_remote_code` although this package brings the same pipeline.
            kwargs.pop("custom_pipelines", None)
        super().__init__(is_encoder_decoder=True, **special, **kwargs)
        # On transformers 5.x the base class keeps no special ids of an encoder-decoder but those set by hand.
        for name, value in special.items():
            setattr(self, name, value)

    @property
    def d_model(self) -> int:
        """Width D of visual tokens and words."""
        return self.decoder.d_model

    @property
    def max_words(self) -> int:
        """Longest report that the decoder has positions for."""
        return self.decoder.max_position_embeddings

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

    def check_at_least(self, smallest: int, *names: str) -> None:
        """Raise where one of these fields lies below `smallest`."""
        for name in names:
            if getattr(self, name) < smallest:
                raise ValueError(f"`{name}` must be at least {smallest}. Got {getattr(self, name)}.")

    def check_width(self, **heads: int) -> None:
        """Raise where D does not divide into the decoder's heads, these heads, or the four parts of a 2-D position."""
        for name, count in (heads | {"decoder heads": self.num_attention_heads}).items():
            if self.d_model % count:
                raise ValueError(f"`d_model` ({self.d_model}) must be a multiple of `{name}`. Got {count}.")
        if self.d_model % 4:
            raise ValueError(f"`d_model` must be a multiple of 4 (2-D sine positions). Got {self.d_model}.")


def check_observations(observations: dict[str, float] | None) -> dict[str, float]:
    """Observations by name with their thresholds, none for None. Raises ValueError for no probability.

    They are rows of weights: in the order of their names, for a saved configuration is sorted.
    """
    for name, threshold in (observations or {}).items():
        if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
            raise ValueError(f"`observations.{name}` must be a probability between 0 and 1. Got {threshold!r}.")
    return dict(sorted((observations or {}).items()))


def make_visual_config(encoder: SubConfig) -> PretrainedConfig:
    """The backbone's configuration, ResNet-50 where none is given; a dict becomes the class of its `model_type`."""
    if encoder is None:
        return ResNetConfig()
    if isinstance(encoder, PretrainedConfig):
        return encoder
    if "model_type" not in encoder:
        raise ValueError(f"`encoder` as a dict needs its `model_type`, e.g. 'resnet'. Got keys {sorted(encoder)}.")
    values = dict(encoder)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def make_decoder_config(
    decoder: SubConfig, sizes: dict[str, Any], vocab_size: int, special: dict[str, int]
) -> MarianConfig:
    """A Marian configuration for its decoder alone: the words are the outer model's."""
    values = decoder.to_dict() if isinstance(decoder, PretrainedConfig) else dict(decoder or {})
    values = sizes | values | special
    # Marian maps `num_hidden_layers` to its encoder; unequal counts break the caches of the decoder.
    values |= {"encoder_layers": values["decoder_layers"], "encoder_ffn_dim": values["decoder_ffn_dim"]}
    values |= {"encoder_attention_heads": values["decoder_attention_heads"], "scale_embedding": False}
    values |= {"vocab_size": vocab_size, "decoder_vocab_size": vocab_size, "forced_eos_token_id": None}
    for name in ("model_type", "is_encoder_decoder", "transformers_version"):
        values.pop(name, None)
    return MarianConfig(**values)
