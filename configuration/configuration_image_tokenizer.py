"""Image tokenizers that a report generator can take, the DALL-E dVAE and Janus's VQ model, and their sizes."""

import math

from transformers import PretrainedConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.configuration_janus import JanusVQVAEConfig

from .configuration_report import SubConfig

# Named directly: neither stands in the Auto tables of every version of Transformers.
TOKENIZER_CONFIGS = {config.model_type: config for config in (FlavaImageCodebookConfig, JanusVQVAEConfig)}


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
    """Input channels, which the two kinds name differently."""
    return getattr(tokenizer, "input_channels", None) or tokenizer.in_channels


def downsampling(tokenizer: PretrainedConfig) -> int:
    """M: pixels of a film's side that one token stands for (paper, section 3.2: L = H W / M^2)."""
    if isinstance(tokenizer, FlavaImageCodebookConfig):
        return 8  # three poolings, whatever its sizes
    return pixels_a_place(tokenizer) * 2 ** (len(tokenizer.channel_multiplier) - 1)
