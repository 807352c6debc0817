"""Both models at bench size, and beside each a stock model of the same parts to measure it against.

The reference is Transformers' VisionEncoderDecoderModel over the decoder class that ours wrap (Marian's), with a head
of the same kind. Its encoder takes the same ResNet (MCSAM) or the same frozen tokenizer and a table of codes (UAR),
and as many layers of the same SiglipEncoder. It has neither memory, alignment, prompts, aligner nor mask; and, as
stock has it, no view mask, no positions on the films and no vector a view: it is not charged for what it lacks.

Shapes: B studies, V views, C channels, N visual tokens of all views, D model width.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    MarianForCausalLM,
    PreTrainedModel,
    SiglipVisionConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.siglip.modeling_siglip import SiglipEncoder

from radscribe import MCSAMConfig, MCSAMForConditionalGeneration, UARConfig, UARForConditionalGeneration
from radscribe.modeling.modeling_image_tokenizer import make_image_tokenizer
from radscribe.modeling.modeling_report import feature_width

START, PAD, END = 1, 0, 2


@dataclass(frozen=True)
class Size:
    """Of a set, and of the parts that model and reference share. The defaults are R2Gen's decoder and ResNet-101."""

    views: int
    words: int
    vocab_size: int
    width: int = 512
    feed_forward: int = 512
    layers: int = 3  # of the encoder, and again of the decoder
    heads: int = 8
    bank: int | None = None  # rows of MCSAM's memory or of UAR's basis; None: the model's default, 100 or 2,048
    films: dict[str, int] = field(default_factory=lambda: {"mcsam": 224, "uar": 112})  # pixels a side
    backbone: dict[str, Any] = field(default_factory=lambda: {"depths": [3, 4, 23, 3]})
    tokenizer: dict[str, Any] = field(default_factory=dict)  # of the DALL-E dVAE: 8,192 codes, one for 8 x 8 pixels

    def decoder(self) -> dict[str, int]:
        """Of Marian's decoder, with room for the words and MCSAM's prompts."""
        return {
            "d_model": self.width,
            "decoder_ffn_dim": self.feed_forward,
            "decoder_layers": self.layers,
            "decoder_attention_heads": self.heads,
            "max_position_embeddings": self.words + 10,
        }


SETS = {"iu": Size(views=2, words=60, vocab_size=761), "mimic": Size(views=1, words=100, vocab_size=4335)}


def make_config(name: str, size: Size) -> Any:
    """Configuration of our model `name` at this size; UAR is that of its second stage, with the mask."""
    shared = {"vocab_size": size.vocab_size, "max_views": size.views, "encoder_layers": size.layers}
    shared["decoder"] = size.decoder()
    if name == "mcsam":
        bank = {} if size.bank is None else {"memory_size": size.bank, "memory_top_k": min(25, size.bank)}
        encoder = {"model_type": "resnet"} | size.backbone
        return MCSAMConfig(encoder=encoder, memory_heads=size.heads, **shared, **bank)
    bank = {} if size.bank is None else {"basis_size": size.bank}
    tokenizer = {"model_type": "flava_image_codebook"} | size.tokenizer
    film = {"image_size": size.films["uar"], "refine": True}
    return UARConfig(image_tokenizer=tokenizer, aligner_heads=size.heads, **shared, **film, **bank)


def make_model(name: str, size: Size) -> PreTrainedModel:
    """Our model `name` with fresh weights."""
    torch.manual_seed(0)
    config = make_config(name, size)
    return MCSAMForConditionalGeneration(config) if name == "mcsam" else UARForConditionalGeneration(config)


class GridReader(nn.Module):
    """Films to the backbone's grid, flattened and projected: (n, C, H, W) -> (n, h w, D)."""

    def __init__(self, backbone: PreTrainedModel, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Linear(feature_width(backbone), width)

    def forward(self, films: Tensor) -> Tensor:
        return self.project(self.backbone(pixel_values=films).last_hidden_state.flatten(2).transpose(1, 2))


class CodeReader(nn.Module):
    """Films to the vectors of a frozen tokenizer's codes: (n, C, H, W) -> (n, L, D)."""

    def __init__(self, tokenizer: Any, width: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.table = nn.Embedding(tokenizer.num_codes, width)

    def forward(self, films: Tensor) -> Tensor:
        return self.table(self.tokenizer(films))


class StockEncoder(PreTrainedModel):
    """The thin wrapper by which a stock model reads several films: reader, stock layers, norm."""

    config_class = SiglipVisionConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: SiglipVisionConfig, reader: nn.Module) -> None:
        super().__init__(config)
        self.reader = reader
        self.encoder = SiglipEncoder(config)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, pixel_values: Tensor, **ignored: Any) -> BaseModelOutput:
        """(B, V, C, H, W) -> (B, N, D)."""
        tokens = self.reader(pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2]).flatten(1, 2)
        return BaseModelOutput(last_hidden_state=self.norm(self.encoder(tokens).last_hidden_state))


def make_reference(name: str, size: Size) -> PreTrainedModel:
    """The stock model of the same parts as `make_model(name, size)`, with fresh weights."""
    torch.manual_seed(0)
    ours = make_config(name, size)
    config = SiglipVisionConfig(
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_attention_heads=size.heads,
        num_hidden_layers=size.layers,
        attention_dropout=ours.decoder.attention_dropout,
        attn_implementation="sdpa",
    )
    reader: nn.Module
    if name == "mcsam":
        reader = GridReader(AutoModel.from_config(ours.encoder), size.width)
    else:
        reader = CodeReader(make_image_tokenizer(ours.image_tokenizer), size.width)
    encoder = StockEncoder(config, reader)
    ours.decoder.add_cross_attention = True
    decoder = MarianForCausalLM(ours.decoder)
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder.config, decoder.config)
    both.decoder_start_token_id, both.pad_token_id, both.eos_token_id = START, PAD, END
    return VisionEncoderDecoderModel(config=both, encoder=encoder, decoder=decoder)


MAKERS: dict[str, Callable[[str, Size], PreTrainedModel]] = {"ours": make_model, "reference": make_reference}


def make_batch(name: str, size: Size, batch: int, device: str) -> dict[str, Tensor]:
    """Films of noise (B, V, 3, H, W) in [0, 1], and reports (B, T) of ordinary words."""
    generator = torch.Generator().manual_seed(0)
    side = size.films[name]
    films = torch.rand(batch, size.views, 3, side, side, generator=generator)
    labels = torch.randint(END + 1, size.vocab_size, (batch, size.words), generator=generator)
    return {"pixel_values": films.to(device), "labels": labels.to(device)}
