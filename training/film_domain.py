"""How far a film lies from those that a model has learnt from: Gaussians of what the training films look like to it.

A model writes of a photograph as it writes of a chest. Of each film two directions are taken: the mean of what the
model's own film reader says of its places, and the light of sixteen fields, by which a turned or inverted film is
known that the reader hardly minds. Lengths are left out: a blank film has a short vector, and lies near everything.
The training films are two groups, as k-means finds them: on IU X-ray, frontal and lateral ones. Probabilistic PCA
(Tipping and Bishop, 1999) gives K directions of a group a spread of their own and all that is left one noise; the
squared Mahalanobis distance counts as a multiple of what 99 of 100 films of the group keep that nothing was fitted on,
and that to the nearer group is a film's strangeness.

Shapes: n films, N places, C numbers that the film reader says of a place, P = C + 16, G groups, K directions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..modeling.modeling_report import as_places
from .build import reads_tokens

DIRECTIONS = 16  # with 8 it misses more turned films, with 64 more inverted ones (IU X-ray, validation)
FIELDS = 4  # a side
LEAST_LIGHT = 1e-3  # a film without any contrast has no direction
LEAST_SPREAD = 1e-12
KEPT = 0.99  # share of the films not fitted on that the limit keeps

# The part of an image tokenizer that speaks last before its answer is rounded to a code. By the codes' own vectors
# IU X-ray's training films lay farther out than phantoms, and no limit told films apart.
BEFORE_CODES = {"visual_words": "backbone", "janus_vqgan": "quant_conv", "flava_image_codebook": "blocks"}


@dataclass(frozen=True)
class FilmDomain:
    """Probabilistic PCAs of film features, and the distances from which on a film is strange.

    Args:
        mean: (G, P).
        directions: orthonormal rows, (G, K, P).
        spread: variance of the training films along each direction, (G, K).
        noise: variance in each direction that is left, (G,).
        limit: squared distance of the farthest film that counts as known, (G,).
    """

    mean: np.ndarray
    directions: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    limit: np.ndarray

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances, sum z_i^2 / spread_i + |what is left|^2 / noise: (n, P) -> (n, G)."""
        width = self.mean.shape[1]
        if features.ndim != 2 or features.shape[1] != width:
            raise ValueError(
                f"`features` must be (films, {width}). Got {features.shape}: the training facts are another model's. "
                "Make them anew by `python -m radscribe.training.facts`."
            )
        centred = features.astype(np.float64)[:, None] - self.mean  # (n, G, P)
        found = np.einsum("ngp,gkp->ngk", centred, self.directions)  # z
        left = (np.square(centred).sum(-1) - np.square(found).sum(-1)).clip(min=0)
        return (np.square(found) / self.spread).sum(-1) + left / self.noise

    def strangeness(self, features: np.ndarray) -> np.ndarray:
        """Distance to the nearer group as a multiple of its limit, above 1 for a strange film: (n, P) -> (n,)."""
        return (self.distance(features) / self.limit).min(axis=1)


def fit_domain(features: np.ndarray, studies: np.ndarray, directions: int = DIRECTIONS) -> FilmDomain:
    """Fit on the films of one half of the studies; the limits are those of the other half.

    Args:
        features: (n, P).
        studies: number of each film's study, (n,): films of one study are alike and stay together.

    Raises:
        ValueError: fewer than four studies, or films of which the reader says one and the same.
    """
    if (number := len(np.unique(studies))) < 4:
        raise ValueError(f"Four studies or more are needed to tell what is usual. Got {number}.")
    if not np.ptp(features, axis=0).any():
        raise ValueError("The film reader says the same of all training films: nothing tells a strange one apart.")
    first = studies < np.median(studies)
    groups = _group(features, first, 2 * directions)
    fitted = []
    for group in np.unique(groups):
        own = groups == group
        alone = fit_gaussian(features[own & first], directions)
        limit = np.quantile(alone.distance(features[own & ~first]), KEPT, axis=0)
        fitted.append(replace(alone, limit=limit))
    return FilmDomain(*(np.concatenate([getattr(one, field.name) for one in fitted]) for field in fields(FilmDomain)))


def _group(features: np.ndarray, first: np.ndarray, least: int) -> np.ndarray:
    """Two groups of films, found without asking for the views' names; one where `least` films do not fill each: (n,).

    `first` (n,) marks the films to learn from.
    """
    from sklearn.cluster import KMeans

    found = KMeans(2, n_init=4, random_state=0).fit(features[first]).predict(features)
    sizes = [np.bincount(found[part], minlength=2).min() for part in (first, ~first)]
    return found if min(sizes) > least else np.zeros_like(found)


def fit_gaussian(features: np.ndarray, directions: int) -> FilmDomain:
    """Probabilistic PCA by scikit-learn, one group: (n, P) -> its K directions, fewer where the films have no more."""
    from sklearn.decomposition import PCA  # a second to import, which few commands need

    rank = min(len(features) - 1, features.shape[1])
    fitted = PCA(max(1, min(directions, rank - 1)), random_state=0).fit(features.astype(np.float64))
    values = (fitted.mean_, fitted.components_, fitted.explained_variance_, fitted.noise_variance_, 1.0)
    # Nothing varies by less than rounding; what is fitted after this is fitted to the rounded numbers.
    mean, rows, spread, noise, limit = (np.asarray(value, np.float32)[None] for value in values)
    return FilmDomain(mean, rows, spread.clip(min=LEAST_SPREAD), noise.clip(min=LEAST_SPREAD), limit)


def film_reader(network: Any) -> torch.nn.Module:
    """What reads the films: films (n, C, H, W) -> token ids (n, L) of an image tokenizer, or a backbone's output."""
    return network.encoder.unifier.tokenizer if reads_tokens(network) else network.encoder.visual.backbone


def describe_films(films: Tensor, said: Tensor) -> np.ndarray:
    """Films as the reader takes them (n, channels, H, W), what it says (n, C, h, w) or (n, N, C) -> (n, P)."""
    spoken = F.normalize(as_places(said).float().mean(1))  # (n, C)
    light = F.adaptive_avg_pool2d(films.float().mean(1, keepdim=True), FIELDS).flatten(1)  # (n, 16)
    light = F.normalize(light - light.mean(1, keepdim=True), eps=LEAST_LIGHT)
    return torch.cat([spoken, light], dim=1).cpu().numpy()


def strange_line(strangeness: Sequence[float], names: Sequence[str] = ()) -> str | None:
    """What to tell of films by their strangeness; None where none is strange. Films are named, or else counted."""
    strange = [value for value in strangeness if value > 1]
    if not strange:
        return None
    if names:
        looking = " and ".join(name for name, value in zip(names, strangeness, strict=True) if value > 1)
        looks = f"{looking} look{'s' if len(strange) == 1 else ''}"
    else:
        looks = f"{len(strange):,} of {len(strangeness):,} films look"
    degree = f"{'up to ' if len(strange) > 1 else ''}{max(strange):.1f}"
    unlike = f"unlike the films this model learnt from (strangeness {degree}; 1 is the limit)"
    return f"{looks} {unlike}: its words may mean nothing."


@contextmanager
def films_heard(network: Any, hear: Callable[[np.ndarray], Any]) -> Iterator[None]:
    """While it lasts, `hear` gets the features (n, P) of the films that the model reads anyway, in their order.

    So nothing is read twice, whoever calls the model and for whatever.
    """
    reader: Any = film_reader(network)
    part, said = reader, list[Tensor]()
    if reads_tokens(network):
        part = reader.model.get_submodule(BEFORE_CODES[network.config.image_tokenizer.model_type])

    def keep(module: Any, inputs: tuple, answer: Any) -> None:
        said.append(getattr(answer, "last_hidden_state", answer))

    def describe(module: Any, inputs: tuple, named: dict[str, Tensor], answer: Any) -> None:
        hear(describe_films(inputs[0] if inputs else named["pixel_values"], said.pop()))

    hooks = [part.register_forward_hook(keep), reader.register_forward_hook(describe, with_kwargs=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
