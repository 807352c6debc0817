"""CheXpert's observations as something to learn: what training reports say of them, and when a film shows them.

A model that learns them has seen labels beside its reports, though rules read them off these very reports: it is the
variant "+ labels", and says so. The model's side is modeling_observations.py.

Shapes: S studies, L observations: CheXpert's fourteen without No Finding, which is the absence of the others.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .metrics.rule_labeller import OBSERVATIONS, POSITIVE, UNCERTAIN, label_reports

LEARNED = [name for name in OBSERVATIONS if name != "No Finding"]
STRENGTH = 3e-4  # scikit-learn's C: of 1e-5 to 1e-3 the best on IU X-ray's validation studies
PASSES = 2  # over the training films
LEAST_SPREAD = 0.1  # of the channels' median spread
LEAST = 5  # studies that must have an observation, or it is not learned


def observation_table(reports: Sequence[str]) -> Tensor:
    """1.0 where a report says, for sure or perhaps, that an observation is there: (S, L)."""
    codes = label_reports(reports)[:, [OBSERVATIONS.index(name) for name in LEARNED]]
    return torch.from_numpy(np.isin(codes, (POSITIVE, UNCERTAIN))).float()


def choose_thresholds(reports: Sequence[str], factor: float) -> dict[str, float]:
    """From which probability on an observation counts as seen: `factor` times the square root of its share.

    F1 is best at half of the F1 that can be reached (Lipton et al., arXiv 1402.1892), and what is rare is found worse:
    the threshold has to fall with the share, but not as fast.

    Raises:
        ValueError: a factor that is no positive number; reports of which hardly any has an observation.
    """
    if factor <= 0:
        raise ValueError(f"`observations` must be above 0. Got {factor}.")
    counts = dict(zip(LEARNED, observation_table(reports).sum(0).tolist(), strict=True))
    shares = {name: count / len(reports) for name, count in counts.items() if count >= LEAST}
    if not shares:
        raise ValueError(f"`observations`: none is in {LEAST} training reports or more. Set it to null.")
    return {name: round(min(0.9, factor * share**0.5), 4) for name, share in shares.items()}


def weigh_by_rarity(reports: Sequence[str], power: float) -> Tensor:
    """How often each study is drawn: 1 / the share of its rarest observation, to this power; 1 without any: (S,)."""
    table = observation_table(reports)
    rarity = 1 / table.mean(0).clamp(min=1 / len(reports))  # (L,)
    return (table * rarity).amax(dim=1).clamp(min=1) ** power


class ToldFilms(torch.utils.data.Dataset):
    """The items of a training set with `observations` (L,), those of `names` that the report says are there."""

    def __init__(self, films: Any, names: Sequence[str]) -> None:
        self.films = films
        self.table = observation_table(films.findings)[:, [LEARNED.index(name) for name in names]]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.films[index] | {"observations": self.table[index]}


@torch.no_grad()
def fit_observations(model: PreTrainedModel, films: ToldFilms, collate: Callable[[list[dict]], dict]) -> None:
    """Fit the layer that names observations from films, in place: scikit-learn's logistic regressions on means."""
    from sklearn.linear_model import LogisticRegression  # a second to import, which few runs need
    from sklearn.preprocessing import StandardScaler

    layer = model.encoder.observations.classify
    means: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: means.append(inputs[0].float().cpu()))
    model.eval()
    for start in range(0, PASSES * len(films), 32):  # each pass sees other versions of the films
        places = range(start, min(start + 32, PASSES * len(films)))
        batch = collate([films[i % len(films)] for i in places])
        model.encoder(**{name: value.to(model.device) for name, value in batch.items() if name != "labels"})
    hook.remove()
    model.train()
    scale = StandardScaler().fit(torch.cat(means).numpy())
    # A channel that hardly varies says nothing, but its rounding errors, blown up to the size of the others, would.
    scale.scale_ = scale.scale_.clip(min=LEAST_SPREAD * float(np.median(scale.scale_)))
    found = scale.transform(torch.cat(means).numpy())
    for row, told in enumerate(films.table.repeat(PASSES, 1).T):
        if told.min() == told.max():
            continue  # nothing to tell apart: what the layer knows stays
        fitted = LogisticRegression(C=STRENGTH, max_iter=300).fit(found, told.numpy())
        weight = torch.from_numpy(fitted.coef_[0] / scale.scale_)  # the scaling becomes a part of the layer
        layer.weight[row] = weight
        layer.bias[row] = float(fitted.intercept_[0] - (weight.numpy() * scale.mean_).sum())
    print(f"observations: {len(films.table.T)} are named from what the frozen film reader says", file=sys.stderr)
