"""The nearest-neighbour answer: each study gets the report of the training study whose films are nearest.

Nearness is the cosine of the model's own view of the films: its encoder's visual tokens, averaged, less the mean of
the training studies (all films share most of what a network says of them). A decoder that writes no better than this
look-up has added nothing to its encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

from .data import encode_films


@torch.inference_mode()
def embed_films(network: Any, batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """Mean of the encoder's visual tokens of each study: (S, D) fp32 on the CPU."""
    pooled = []
    for batch in track(batches, "reading films", console=Console(stderr=True), transient=True):
        encoded = encode_films(network, batch)
        mask = encoded.visual_mask[..., None].to(encoded.last_hidden_state.dtype)  # (B, N, 1)
        pooled.append(((encoded.last_hidden_state * mask).sum(1) / mask.sum(1)).float().cpu())
    return torch.cat(pooled)


def nearest_rows(films: Tensor, training: Tensor, chunk: int = 1024) -> Tensor:
    """Row of `training` (M, D) nearest to each of `films` (S, D): (S,). Memory is bounded by parts of (chunk, M)."""
    centre = training.mean(0)
    known = F.normalize(training - centre, dim=-1)
    asked = F.normalize(films - centre, dim=-1)
    return torch.cat([(part @ known.T).argmax(1) for part in asked.split(chunk)])
