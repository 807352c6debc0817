"""Observations that are named before the report is written, and what the decoder is told of them: "+ labels".

Two thousand studies are learnt by heart: a decoder that can tell the training films apart needs no findings to know
their reports, and calls each new film normal. So a linear layer names CheXpert's observations from the mean of what
the frozen film reader says; scikit-learn fits it before training (training/observations.py). While the decoder learns
it is told what the report says, and later what that layer says: one vector a study, added to every word. Neither
paper has this: it is ours, and off where the configuration names no observation.

Shapes: B studies, V views, N places of a film, C numbers the film reader says of a place, L observations, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration.configuration_report import ReportConfig


class ObservationHints(nn.Module):
    """Films to observations, and observations to a vector for the decoder's words.

    The vectors start as large as a word is: smaller ones are heard too late, when films are known by heart.
    """

    HIDDEN = 0.5  # share of the studies, while learning, of which the decoder hears the hints and sees no film

    def __init__(self, config: ReportConfig, width: int) -> None:
        super().__init__()
        self.max_views, self.thresholds = config.max_views, list(config.observations.values())
        self.emphasis = config.hint_emphasis
        # Fitted before training, and not by the report: a threshold hands no gradient back.
        self.classify = nn.Linear(config.max_views * width, len(self.thresholds)).requires_grad_(False)
        self.table = nn.Parameter(torch.empty(len(self.thresholds) + 1, config.d_model))  # its last row: nothing

    def forward(self, places: Tensor, view_mask: Tensor, told: Tensor | None = None) -> dict[str, Tensor]:
        """What the reader says of the films that `view_mask` (B, V) marks -> `observation_logits` (B, L), `hints`.

        Args:
            places: (films, N, C).
            told: (B, L) of 0 and 1, what is known to be there; None: what the logits say.
        """
        logits = self.classify(mean_places(places, view_mask, self.max_views))
        if told is None:
            told = self.named(logits)
        told = told.to(logits.dtype)
        nothing = 1 - told.amax(dim=1, keepdim=True)
        hints = torch.cat([told, nothing], dim=1) @ self.table  # (B, D)
        return {"observation_logits": logits, "hints": hints if self.training else self.emphasis * hints}

    def named(self, logits: Tensor) -> Tensor:
        """Which observations are likely enough to be told: (B, L) -> (B, L) of bool."""
        return logits.sigmoid() >= logits.new_tensor(self.thresholds)

    def hide(self, films: Tensor) -> Tensor:
        """While learning, zero for some studies: (B, N, D) -> (B, N, D)."""
        if not self.training:
            return films
        return films * (torch.rand(len(films), 1, 1, device=films.device) >= self.HIDDEN)


def mean_places(places: Tensor, view_mask: Tensor, max_views: int) -> Tensor:
    """The mean of each film, the views side by side, 0 where there is none: (films, N, C) -> (B, max_views * C)."""
    means = places.mean(1)
    views = means.new_zeros(view_mask.numel(), means.shape[1])
    views[view_mask.flatten().bool()] = means
    side_by_side = views.view(len(view_mask), -1)
    return F.pad(side_by_side, (0, max_views * means.shape[1] - side_by_side.shape[1]))
