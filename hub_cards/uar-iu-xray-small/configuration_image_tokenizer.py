"""Image tokenizers that a report generator can take: the DALL-E dVAE, Janus's VQ model, visual words; their sizes."""

import math
from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.configuration_janus import JanusVQVAEConfig

from .configuration_report import SubConfig, make_visual_config


class VisualWordsConfig(PretrainedConfig):
    r"""
    Sizes of a tokenizer that reads a film as visual words: a frozen backbone and a codebook of its features.

    Args:
        encoder (`PretrainedConfig` or `dict`): visual backbone that gives a feature map, any vision model of
            Transformers (ResNet, `timm_wrapper`). A dict needs its `model_type`. Default: ResNet-50.
        num_embeddings (`int`): codes K.
        feature_width (`int`): channels C of the backbone's last feature map.
        step (`int`): pixels of a film's side that one place of the map stands for.
        image_mean, image_std (`list[float]`): what the backbone's pixels are normalised by, one number or one a
            channel. Films themselves come in [0, 1], as to every tokenizer.

    Raises:
        ValueError: a size that cannot work, with the field, what was expected and what came.
    """

    model_type = "visual_words"
    sub_configs = {"encoder": AutoConfig}

    def __init__(
        self,
        encoder: SubConfig = None,
        num_embeddings: int = 1024,
        feature_width: int = 2048,  # ResNet-50
        step: int = 32,  # ResNet-50
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),  # ImageNet
        image_std: Sequence[float] = (0.229, 0.224, 0.225),  # ImageNet
        **kwargs: Any,
    ) -> None:
        self.encoder = make_visual_config(encoder)
        self.num_embeddings = num_embeddings
        self.feature_width = feature_width
        self.step = step
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        super().__init__(**kwargs)
        self._check_fields()

    @property
    def in_channels(self) -> int:
        """Channels of a film; timm's models, whose configuration does not say, read three."""
        return getattr(self.encoder, "num_channels", 3)

    def _check_fields(self) -> None:
        for name in ("num_embeddings", "feature_width", "step"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Got {getattr(self, name)}.")
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if len(values) not in (1, self.in_channels) or not all(
                isinstance(value, (int, float)) for value in values
            ):
                raise ValueError(
                    f"`{name}` must be one number, or one for each of {self.in_channels} channels. Got {values}."
                )
        if min(self.image_std) <= 0:
            raise ValueError(f"`image_std` must be above 0. Got {self.image_std}.")


# Named directly: none stands in the Auto tables of every version of Transformers.
TOKENIZER_CONFIGS = {
    config.model_type: config for config in (FlavaImageCodebookConfig, JanusVQVAEConfig, VisualWordsConfig)
}


def make_tokenizer_config(tokenizer: SubConfig) -> PretrainedConfig:
    """The tokenizer's configuration, the DALL-E dVAE where none is given; a dict becomes its class."""
    if tokenizer is None:
        return FlavaImageCodebookConfig()
    if isinstance(tokenizer, PretrainedConfig):
        return tokenizer
    values = dict(tokenizer)
    kind = values.pop("model_type", None)
    if kind not in TOKENIZER_CONFIGS:
        known = " or ".join(TOKENIZER_CONFIGS)
        raise ValueError(f"`image_tokenizer` as a dict needs `model_type` {known}. Got {kind!r}.")
    return TOKENIZER_CONFIGS[kind](**values)


def film_channels(tokenizer: PretrainedConfig) -> int:
    """Channels of a film as this tokenizer reads it: 3 or 1 (grey).

    A VQ model may read r x r pixels as channels of one place, which is r^2 times cheaper: its `in_channels` are then
    r^2 or 3 r^2.
    """
    return 3 if _channels(tokenizer) % 3 == 0 else 1


def pixels_a_place(tokenizer: PretrainedConfig) -> int:
    """The r of `film_channels`."""
    return math.isqrt(_channels(tokenizer) // film_channels(tokenizer))


def _channels(tokenizer: PretrainedConfig) -> int:
    """Input channels, which the kinds name differently."""
    return getattr(tokenizer, "input_channels", None) or tokenizer.in_channels


def downsampling(tokenizer: PretrainedConfig) -> int:
    """M: pixels of a film's side that one token stands for (paper, section 3.2: L = H W / M^2)."""
    if isinstance(tokenizer, FlavaImageCodebookConfig):
        return 8  # three poolings, whatever its sizes
    if tokenizer.model_type == VisualWordsConfig.model_type:
        return tokenizer.step
    return pixels_a_place(tokenizer) * 2 ** (len(tokenizer.channel_multiplier) - 1)
