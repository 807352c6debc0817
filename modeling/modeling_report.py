"""What report generators share: films of several views to visual tokens, and glue around the stock decoder.

Shapes: B studies, V views, N visual tokens of all views, T words, D model width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoder


def shift_right(labels: Tensor, start_token_id: int, pad_token_id: int) -> Tensor:
    """Decoder input for teacher forcing, `[start, r_1 .. r_{T-1}]`: (B, T) -> (B, T)."""
    start = labels.new_full((len(labels), 1), start_token_id)
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == -100, pad_token_id)


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Padding mask as the stock encoders add it to their scores: (B, N) of 0/1 -> (B, 1, N, N) of 0/-large."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill(~mask.bool(), torch.finfo(dtype).min)  # (B, N)
    return bias[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


def grid_positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """2-D sine positions, half of the width for rows and half for columns: -> (height * width, dim).

    A place is a share of the film's side, so one place has one code at any film size. Waves run from half a turn to
    eight over the film: the usual rates, made for sentences of thousands of words, hardly tell the left of a 4 x 4
    grid from its right, and the model then mistakes the side of what it sees.
    """
    rates = torch.pi * 2 ** torch.linspace(0, 4, dim // 4, device=like.device)  # (dim / 4,)

    def encode(length: int) -> Tensor:
        place = (torch.arange(length, device=like.device) + 0.5) / length
        angles = place[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (length, dim / 2)

    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(like.dtype)


def feature_width(backbone: PreTrainedModel) -> int:
    """Channels of the backbone's last feature map."""
    config = backbone.config
    if config.model_type == "timm_wrapper":
        return backbone.timm_model.num_features
    width = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", [None])[-1]
    if width is None:
        raise ValueError(f"`encoder` must state `hidden_size` or `hidden_sizes`. Got a {config.model_type} without.")
    return width


class VisualTokens(nn.Module):
    """Films of a study to one sequence of visual tokens, the views one behind the other (mcsam.md section 1).

    A convolutional grid gets 2-D sine positions; a Vision Transformer's tokens carry their own. Each view adds a
    learned vector, so that the decoder can tell the films apart. Neither is said in the paper.
    """

    def __init__(self, encoder: PretrainedConfig, d_model: int, max_views: int, dropout: float) -> None:
        super().__init__()
        self.backbone = AutoModel.from_config(encoder)
        self.project = nn.Linear(feature_width(self.backbone), d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.view_embedding = nn.Embedding(max_views, d_model)

    def train(self, mode: bool = True) -> "VisualTokens":
        """A frozen backbone keeps its batch statistics too."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def forward(self, pixel_values: Tensor, view_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, V, C, H, W), (B, V) -> tokens (B, V * N_view, D) and their mask (B, V * N_view) of 0/1."""
        B, V = view_mask.shape
        valid = view_mask.flatten().bool()
        # Empty views are left out, not computed and masked: blank films would enter the batch statistics.
        tokens = self._project_films(pixel_values.flatten(0, 1)[valid])  # (films, N_view, D)
        padded = tokens.new_zeros(B * V, *tokens.shape[1:])
        padded[valid] = tokens
        padded = padded.view(B, V, *tokens.shape[1:]) + self.view_embedding.weight[:V, None].to(tokens.dtype)
        mask = view_mask[..., None].expand(-1, -1, tokens.shape[1])
        return padded.flatten(1, 2), mask.flatten(1, 2)

    def _project_films(self, films: Tensor) -> Tensor:
        """(films, C, H, W) -> (films, N_view, D)."""
        features = self.backbone(pixel_values=films).last_hidden_state
        is_grid = features.dim() == 4
        height, width = features.shape[-2:]
        if is_grid:
            features = features.flatten(2).transpose(1, 2)  # (films, N_view, channels)
        # R2GenCMN takes ReLU here. We normalise: small fresh features would drown in the positions added to them.
        tokens = self.dropout(self.norm(self.project(features)))
        return tokens + grid_positions(height, width, tokens.shape[-1], tokens) if is_grid else tokens


class VisualEncoder(nn.Module):
    """Pre-norm Transformer encoder over visual tokens that are embedded already: (B, N, D) -> (B, N, D)."""

    def __init__(self, decoder: PretrainedConfig, layers: int, attention: str | None) -> None:
        super().__init__()
        config = SiglipVisionConfig(
            hidden_size=decoder.d_model,
            intermediate_size=decoder.decoder_ffn_dim,
            num_attention_heads=decoder.decoder_attention_heads,
            num_hidden_layers=layers,
            attention_dropout=decoder.attention_dropout,
            attn_implementation=attention,
        )
        self.encoder = SiglipEncoder(config)
        self.norm = nn.LayerNorm(decoder.d_model)

    def forward(self, tokens: Tensor, mask: Tensor, **kwargs: Any) -> Tensor:
        bias = additive_mask(mask, tokens.dtype)
        return self.norm(self.encoder(inputs_embeds=tokens, attention_mask=bias, **kwargs).last_hidden_state)
