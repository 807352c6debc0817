"""The plan of a finding: what its words (size, place) mean in numbers, and the shapes that both views draw from it.

A finding is planned once and drawn twice, so that frontal and lateral film agree on its level and size.
"""

from typing import NamedTuple

import numpy as np

from .phantom_anatomy import Array
from .phantom_grammar import Finding

# What the words mean, in shares of the lung's height or in canvas pixels; gaps between the ranges make them learnable.
_ZONE_CENTRES = {"upper": (0.20, 0.30), "middle": (0.46, 0.57), "lower": (0.74, 0.84)}  # from apex to diaphragm
_NODULE_RADII = {"small": (8.5, 10.0), "large": (15.0, 18.0)}
_HEART_RATIOS = {"mild": (0.55, 0.58), "marked": (0.66, 0.71)}  # heart width over thoracic width
_FLUID_LEVELS = {"small": (-0.02, 0.04), "moderate": (0.27, 0.34), "large": (0.55, 0.64)}  # above the diaphragm
_PNEUMOTHORAX_GAPS = {"small": (10.0, 13.0, 24.0, 30.0), "large": (29.0, 36.0, 44.0, 52.0)}  # side, side, top, top


class Site(NamedTuple):
    """The plan of one finding, shared by both views; each kind reads what it needs.

    level: share of the lung's height, counted from the apex (fluid: from the diaphragm up); across, along: shares
    of the room beside and behind it; radius in canvas pixels; jitter: (6, 3) standard normal, for irregular outlines.
    """

    level: float
    across: float
    along: float
    radius: float
    jitter: Array


def plan_site(finding: Finding, rng: np.random.Generator) -> Site:
    """Choose where and how large a finding is, within what its words allow."""
    level, radius = (0.0, 0.0), (0.0, 0.0)
    if finding.kind in ("consolidation", "nodule"):
        level = _ZONE_CENTRES[finding.place]
        radius = (25.0, 31.0) if finding.kind == "consolidation" else _NODULE_RADII[finding.size]
    elif finding.kind == "effusion":
        level = _FLUID_LEVELS[finding.size]
    elif finding.kind == "pneumothorax":
        level, radius = _PNEUMOTHORAX_GAPS[finding.size][2:], _PNEUMOTHORAX_GAPS[finding.size][:2]
    elif finding.kind == "cardiomegaly":
        radius = _HEART_RATIOS[finding.size]
    jitter = rng.standard_normal((6, 3), dtype=np.float32)
    return Site(rng.uniform(*level), rng.uniform(), rng.uniform(), rng.uniform(*radius), jitter)


def draw_cloud(across: Array, down: Array, site: Site) -> Array:
    """Soft blobs around the origin of (across, down), about `site.radius` in size; coverage 0..1."""
    cloud = np.zeros(np.broadcast_shapes(across.shape, down.shape), np.float32)
    for x, y, size in site.jitter:
        reach = site.radius * (0.48 + 0.06 * np.clip(size, -1.5, 1.5))
        x, y = (np.clip(step, -1.3, 1.3) * 0.42 * site.radius for step in (x, y))
        # separable bell: one vector a direction
        cloud += np.exp(-(((across - x) / reach) ** 2)) * np.exp(-(((down - y) / reach) ** 2))
    return np.clip(0.75 * cloud - 0.12, 0, 1)


def box_around(mask: Array) -> Array:
    """The box (x0, y0, x1, y1) around what is above half of the greatest coverage, in columns and rows of `mask`."""
    solid = mask > 0.5 * mask.max()
    columns, rows = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
