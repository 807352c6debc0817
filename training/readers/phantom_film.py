"""Takes the film of a phantom: pose, beam, scatter, quantum noise and the characteristic curve.

The drawn canvas is attenuation, upright and centred; what differs between two films of one chest happens here. The
variation is wide on purpose: where a finding lands in pixels and grey values tells little, so that averaging the
image is not enough to pass the exam. Never mirrored.

Shapes: canvas (256, 256) float32 attenuation -> film (224, 224) uint8.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from .phantom_anatomy import CANVAS, Array
from .phantom_grammar import Finding

FILM = 224  # pixels of the square film
_BANK = 640  # pixels of the square from which noise is cut


class Film(NamedTuple):
    """One finished view: pixels (224, 224) uint8 and the box of each finding that it shows."""

    pixels: np.ndarray
    boxes: dict[Finding, list[float]]


@cache
def _noise_bank() -> Array:
    """White noise (640, 640), cut at random places: drawn anew for each film it would cost more than the chest."""
    return np.random.default_rng(20).standard_normal((_BANK, _BANK), dtype=np.float32)


def expose(attenuation: Array, boxes: dict[Finding, Array], rng: np.random.Generator) -> Film:
    """Take the film: pose, scatter, exposure and quantum noise; boxes move with the pose."""
    turn, size, aspect = rng.uniform(-0.12, 0.12), rng.uniform(0.87, 1.08), rng.uniform(-0.07, 0.07)
    shift = rng.uniform(-14, 14, 2)
    cosine, sine = np.cos(turn), np.sin(turn)
    stretch = np.diag([size * (1 + aspect), size * (1 - aspect)])
    forward = np.array([[cosine, -sine], [sine, cosine]]) @ stretch  # canvas offset -> film offset
    back = np.linalg.inv(forward)
    centre = np.array([CANVAS / 2, CANVAS / 2 - 4])
    offset = centre - back @ (shift + FILM / 2)
    matrix = (*back[0], offset[0], *back[1], offset[1])
    posed = Image.fromarray(attenuation).transform(
        (FILM, FILM), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    film: Array = np.asarray(posed, np.float32)
    film = film * _draw_field(rng)
    top, left = rng.integers(0, _BANK - FILM, 2)
    film += (rng.uniform(0.010, 0.026) * (0.5 + film)) * _noise_bank()[top : top + FILM, left : left + FILM]
    film *= 1000
    pixels = _draw_curve(rng)[np.minimum(np.maximum(film, 0), 1999).astype(np.int16)]
    moved = {finding: _move_box(box, forward, centre, shift + FILM / 2) for finding, box in boxes.items()}
    return Film(pixels, moved)


def _draw_field(rng: np.random.Generator) -> Array:
    """Unevenness of beam and scatter (224, 224) around 1: slow, without edges, another one on every film."""
    coarse = 0.06 * rng.standard_normal((5, 5), dtype=np.float32)
    ramp = np.linspace(-1, 1, 5, dtype=np.float32)
    coarse += 1 + rng.uniform(-0.16, 0.16) * ramp + rng.uniform(-0.16, 0.16) * ramp[:, None]
    coarse *= rng.uniform(0.76, 1.24)  # exposure
    return np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((FILM, FILM), Image.Resampling.BICUBIC))


def _draw_curve(rng: np.random.Generator) -> np.ndarray:
    """The characteristic curve of this film: (2000,) uint8, steep in the lungs, flat in dense parts."""
    dose = np.arange(2000, dtype=np.float32) / 1000
    bend = rng.uniform(1.0, 1.9)
    curve = (dose ** rng.uniform(0.95, 1.25)) * bend
    curve = (1 - np.exp(-curve)) / (1 - np.exp(-bend))
    return np.clip(235 * rng.uniform(0.90, 1.06) * curve + rng.uniform(-6, 14), 0, 255).astype(np.uint8)


def _move_box(box: Array, forward: Array, centre: Array, target: Array) -> list[float]:
    """The upright box around a canvas box after the pose, cut at the film's edge."""
    corners = np.array([[box[i], box[j]] for i in (0, 2) for j in (1, 3)])
    moved = (corners - centre) @ forward.T + target
    low, high = moved.min(0), moved.max(0)
    return [float(np.round(value, 1)) for value in np.clip([*low, *high], 0, FILM)]
