"""Films to discrete tokens by a frozen tokenizer: three kinds behind one interface, `pixel_values -> ids`.

- `CodebookTokenizer`: the DALL-E dVAE's encoder as FLAVA carries it; 8,192 codes, one for 8 x 8 pixels.
- `VQTokenizer`: encoder and codebook of Janus's VQ model, which `radscribe train image_tokenizer_*` can train;
- `WordsTokenizer`: a visual backbone and a codebook of its features, which `radscribe train visual_words_*` finds.

The first is the paper's, the others are ours. A code of pixels keeps how a place looks; a visual word keeps what a
backbone makes of it, as the tokenizer of BEiT v2 (arXiv 2208.06366), which quantises a teacher's features.

None has a decoder here. Shapes: n films, C channels, H = W pixels, L = (H / M)^2 tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.models.flava.modeling_flava import FlavaImageCodebook
from transformers.models.janus.modeling_janus import JanusVQVAE

from .configuration_image_tokenizer import VisualWordsConfig, pixels_a_place

MAP_EPSILON = 0.1  # DALL-E's `map_pixels`


class ImageTokenizer(nn.Module):
    """Never trained, and fp32 whatever the model around it does: an arg max flips where half precision rounds."""

    num_codes: int
    model: Any  # the stock model

    def train(self, mode: bool = True) -> "ImageTokenizer":
        """Always as in inference."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ImageTokenizer":
        """`.half()`, `.bfloat16()` and `.to(dtype)` of the model around it move the weights and do not round them."""

        def move(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            rounded = changed.is_floating_point() and changed.dtype.itemsize < torch.float32.itemsize
            return tensor.to(changed.device) if rounded else changed

        return super()._apply(move, recurse)

    @torch.no_grad()
    def forward(self, films: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1] -> ids (n, L)."""
        with torch.autocast(films.device.type, enabled=False):
            return self.encode(films.to(next(self.parameters()).dtype))

    def encode(self, films: Tensor) -> Tensor:
        raise NotImplementedError

    def codebook(self) -> Any:
        """The codes' own vectors (K, C); None for the dVAE, whose codes have none."""
        return None


class CodebookTokenizer(ImageTokenizer):
    """z_l = arg max_v of the dVAE encoder's logits."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.num_codes = config.vocab_size
        self.model = FlavaImageCodebook(config).requires_grad_(False)

    def encode(self, films: Tensor) -> Tensor:
        mapped = (1 - 2 * MAP_EPSILON) * films + MAP_EPSILON
        mapped = mapped.contiguous(memory_format=torch.channels_last)  # convolves faster
        return self.model.get_codebook_indices(mapped).flatten(1)  # (n, L)


class VQTokenizer(ImageTokenizer):
    """z_l = the codebook vector nearest to what the VQ encoder says of a place."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.num_codes = config.num_embeddings
        self.model = JanusVQVAE(config).requires_grad_(False)
        del self.model.decoder, self.model.post_quant_conv

    def encode(self, films: Tensor) -> Tensor:
        hidden = self.model.quant_conv(self.model.encoder(fold_pixels(films, self.model.config)))
        return self.model.quantize(hidden)[2].view(len(films), -1)  # (n, L)

    def codebook(self) -> Tensor:
        return self.model.quantize.embedding.weight


class VisualWords(PreTrainedModel):
    """A visual backbone and a codebook (K, C) of what it says of a place."""

    config_class = VisualWordsConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: VisualWordsConfig) -> None:
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.encoder)
        self.codebook = nn.Embedding(config.num_embeddings, config.feature_width)
        self.post_init()

    def read(self, pixel_values: Tensor) -> Tensor:
        """What the backbone says of each place: films (n, 3, H, W) in [0, 1] -> (n, C, H / M, W / M)."""
        mean, std = (
            pixel_values.new_tensor(values).view(-1, 1, 1)
            for values in (self.config.image_mean, self.config.image_std)
        )
        films = ((pixel_values - mean) / std).contiguous(memory_format=torch.channels_last)  # convolves faster
        return self.backbone(pixel_values=films).last_hidden_state

    def nearest(self, places: Tensor) -> Tensor:
        """The code nearest to each of these features: (..., C) -> (...)."""
        codes = self.codebook.weight
        # |x - c|^2 without |x|^2, which all codes of a place share.
        return (codes.square().sum(1) - 2 * places @ codes.T).argmin(-1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Films (n, 3, H, W) in [0, 1] -> ids (n, L)."""
        return self.nearest(self.read(pixel_values).flatten(2).transpose(1, 2))


class WordsTokenizer(ImageTokenizer):
    """z_l = the codebook vector nearest to what the backbone says of a place."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.num_codes = config.num_embeddings
        self.model = VisualWords(config).requires_grad_(False)
        self.train(False)

    def encode(self, films: Tensor) -> Tensor:
        return self.model(films)  # (n, L)

    def codebook(self) -> Tensor:
        return self.model.codebook.weight


KINDS: dict[str, type] = {"janus_vqgan": VQTokenizer, "visual_words": WordsTokenizer}


def make_image_tokenizer(config: PretrainedConfig) -> ImageTokenizer:
    """The tokenizer of this configuration, with fresh weights."""
    return KINDS.get(config.model_type, CodebookTokenizer)(config)


def fold_pixels(films: Tensor, config: PretrainedConfig) -> Tensor:
    """What the VQ model reads: (n, C, H, W) in [0, 1] -> (n, C r^2, H / r, W / r) in [-1, 1]."""
    return F.pixel_unshuffle(films * 2 - 1, pixels_a_place(config))


def unfold_pixels(folded: Tensor, config: PretrainedConfig) -> Tensor:
    """Back from `fold_pixels`: (n, C r^2, H / r, W / r) -> (n, C, H, W)."""
    return (F.pixel_shuffle(folded, pixels_a_place(config)) + 1) / 2
