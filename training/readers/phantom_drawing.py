"""Draws a phantom study: the films (frontal and lateral, 224x224, 8 bit) of one made-up person with given findings.

The normal chest comes from `phantom_anatomy.py`. A finding is planned once (`Site`: where in the lung, how large) and
drawn from that plan in both views, as far as a lateral film would show it: no fracture and no pneumothorax there.
Then each view gets its own pose (shift, size, turn, aspect), exposure, scatter and quantum noise. Left and right are
never mirrored: the patient's left is the frontal image's right.

Shapes: canvas (256, 256) attenuation, one side of it (256, 128) in columns outwards from the midline; film (224, 224).
Boxes are (x0, y0, x1, y1) in pixels of the film.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from .phantom_anatomy import (
    CANVAS,
    COLUMN,
    MIDLINE,
    OUTWARD,
    ROW,
    SIDES,
    Array,
    Lung,
    Person,
    Profile,
    draw_clavicle,
    draw_frontal_body,
    draw_lateral_bones,
    draw_lateral_body,
    draw_lateral_vessels,
    draw_shoulder,
    draw_spine,
    draw_strokes,
    draw_vessels,
    draw_windpipe,
    ellipse_coverage,
    frontal_heart,
    lateral_heart,
    make_person,
    rib_paths,
    rib_strengths,
    shape_lung,
    shape_profile,
    soften,
    take_side,
)
from .phantom_grammar import Finding

FILM = 224  # pixels of the square film

# What the words mean, in shares of the lung's height or canvas pixels; the gaps between ranges make them learnable.
_ZONE_CENTRES = {"upper": (0.20, 0.30), "middle": (0.46, 0.57), "lower": (0.74, 0.84)}  # from apex to diaphragm
_NODULE_RADII = {"small": (8.5, 10.0), "large": (15.0, 18.0)}
_HEART_RATIOS = {"mild": (0.55, 0.58), "marked": (0.66, 0.71)}  # heart width over thoracic width
_FLUID_LEVELS = {"small": (-0.02, 0.04), "moderate": (0.27, 0.34), "large": (0.55, 0.64)}  # above the diaphragm
_PNEUMOTHORAX_GAPS = {"small": (10.0, 13.0, 24.0, 30.0), "large": (29.0, 36.0, 44.0, 52.0)}  # side, side, top, top
_FRACTURED_RIBS = {"upper": (2, 3), "lower": (5, 6)}  # two neighbours, counted from 0
_AIR = 0.78  # share of the soft tissue's attenuation that a lung's air takes away


class Site(NamedTuple):
    """The plan of one finding, shared by both views; each kind reads what it needs.

    level: share of the lung's height, counted from the apex (fluid: from the diaphragm up); across and along: shares of
    the room beside and behind it; radius in canvas pixels; jitter: (6, 3) standard normal, for irregular outlines.
    """

    level: float
    across: float
    along: float
    radius: float
    jitter: Array


class Film(NamedTuple):
    """One finished view: pixels (224, 224) uint8 and the box of each finding that it shows."""

    pixels: np.ndarray
    boxes: dict[Finding, list[float]]


def draw_study(findings: Sequence[Finding], rng: np.random.Generator) -> tuple[Film, Film]:
    """Draw one person with these findings: the frontal and the lateral film. All chance comes from `rng`."""
    person = make_person(rng)
    sites = {finding: plan_site(finding, rng) for finding in findings}
    ratio = next((site.radius for finding, site in sites.items() if finding.kind == "cardiomegaly"), person.heart)
    frontal = draw_frontal(person, sites, ratio, rng)
    lateral = draw_lateral(person, sites, ratio, rng)
    return expose(*frontal, rng), expose(*lateral, rng)


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


@dataclass
class Half:
    """One side of the frontal view while it is drawn; the arrays (256, 128) are views into the canvas.

    lung: the chest wall's outline; aired: the lung within it, smaller where a pneumothorax holds it back.
    """

    lung: Lung
    aired: Lung
    air: Array
    soft: Array
    bone: Array
    heart: Array


def draw_frontal(person: Person, sites: dict[Finding, Site], ratio: float, rng: np.random.Generator) -> tuple:
    """The frontal view: attenuation (256, 256) and the boxes of the findings on the canvas."""
    body = draw_frontal_body(person)
    air, soft, bone = (np.zeros((CANVAS, CANVAS), np.float32) for _ in range(3))
    heart, vessels = frontal_heart(person, ratio)
    boxes: dict[Finding, Array] = {}
    for side in SIDES:
        own = {finding: site for finding, site in sites.items() if finding.side == side}
        layers = (take_side(layer, side) for layer in (air, soft, bone, heart))
        found = draw_half(person, side, own, *layers, rng)
        boxes |= {finding: _unfold(box, side) for finding, box in found.items()}
    air *= 1 - 0.96 * np.maximum(heart, 0.9 * vessels)
    soft += 0.10 * heart + 0.06 * vessels
    _draw_stomach(person, air, rng)
    draw_spine(person, bone)
    attenuation = body * person.fat * (1.1 - 1.1 * _AIR * air) + (soft + bone) * np.minimum(3 * body, 1)
    for finding in sites:
        if finding.kind == "cardiomegaly":
            boxes[finding] = _box_of(heart)
        elif finding.kind == "pacemaker":
            boxes[finding] = draw_frontal_pacemaker(person, attenuation, ratio, rng)
    return attenuation, boxes


def draw_half(
    person: Person,
    side: str,
    sites: dict[Finding, Site],
    air: Array,
    soft: Array,
    bone: Array,
    heart: Array,
    rng: np.random.Generator,
) -> dict[Finding, Array]:
    """Draw lung, ribs and the findings of one side; returns their boxes in the frame of the side."""
    lung = aired = shape_lung(person, side)
    collapse = next((site for finding, site in sites.items() if finding.kind == "pneumothorax"), None)
    if collapse is not None:
        aired = shape_lung(person, side, collapse.level, collapse.radius)
    half = Half(lung, aired, air, soft, bone, heart)
    inside = aired.cover
    air += inside
    hilum_row = lung.apex + 0.5 * lung.height + (5 if side == "right" else 0)
    draw_vessels(person, soft, hilum_row, person.mediastinum + 8, rng)
    soft *= inside
    breast = np.sqrt(((OUTWARD - 52) / 40) ** 2 + ((ROW - person.base + 6) / 34) ** 2)
    soft += max(person.breast, 0) * np.clip(1.6 - 1.6 * breast, 0, 1)
    boxes = {}
    for finding, site in sites.items():
        if finding.kind in _FRONTAL_PAINTERS:
            boxes[finding] = _box_of(_FRONTAL_PAINTERS[finding.kind](half, site))
    fracture = next(((finding, site) for finding, site in sites.items() if finding.kind == "fracture"), None)
    broken = draw_ribs(person, half, fracture)
    if fracture is not None:
        boxes[fracture[0]] = broken
    lift = rng.uniform(-4, 4)
    draw_clavicle(person, bone, lift)
    draw_shoulder(person, bone, lift)
    return boxes


def paint_pneumothorax(half: Half, site: Site) -> Array:
    """Free air between chest wall and lung: blacker than lung, without vessels, bounded by the pleural line."""
    free = half.lung.cover - half.aired.cover
    half.air += 1.14 * free
    rim = np.minimum(half.aired.outer[:, None] - OUTWARD, (half.aired.floor - ROW) + 3)
    inside_chest = soften(half.lung.depth - 2, 1.2)
    half.soft += 0.16 * np.clip(1.5 - np.abs(rim), 0, 1) * inside_chest
    half.soft += 0.025 * half.aired.cover  # the collapsing lung is denser
    return free


def paint_consolidation(half: Half, site: Site) -> Array:
    """A cloud of airless lung: several soft blobs around one centre."""
    row, column = _place(half, site, 0.65 * site.radius)
    cloud = _draw_cloud(OUTWARD - column, ROW - row, site)
    cloud *= half.aired.cover
    half.air *= 1 - 0.9 * cloud
    half.soft += 0.06 * cloud
    return cloud


def paint_nodule(half: Half, site: Site) -> Array:
    """A round, sharp and dense spot."""
    row, column = _place(half, site, site.radius + 3)
    distance = np.sqrt((OUTWARD - column) ** 2 + (ROW - row) ** 2)
    spot = soften(site.radius - distance, 1.0)
    half.air *= 1 - 0.9 * spot
    half.soft += 0.14 * spot
    return spot


def paint_effusion(half: Half, site: Site) -> Array:
    """Fluid at the base; its surface climbs towards the chest wall (the meniscus) and blunts the angle."""
    lung = half.lung
    share = np.clip(OUTWARD / lung.width, 0, 1)
    surface = lung.crest - site.level * lung.height + 6 - 26 * share**3
    fluid = soften(np.minimum(ROW - surface, lung.depth + 1.5), 1.5)
    half.air *= 1 - fluid
    half.soft += 0.05 * fluid
    return fluid


_FRONTAL_PAINTERS = {
    "pneumothorax": paint_pneumothorax,
    "consolidation": paint_consolidation,
    "nodule": paint_nodule,
    "effusion": paint_effusion,
}


def _place(half: Half, site: Site, margin: float) -> tuple[float, float]:
    """Row and column of a spot in its zone that stays `margin` inside the lung and clear of the heart."""
    row = half.lung.apex + site.level * half.lung.height
    at = int(row)
    heart_edge = float((half.heart[at] > 0.5).sum())
    inner = max(float(half.aired.inner[at]) + 8, heart_edge) + margin
    outer = float(half.aired.outer[at]) - margin
    return row, inner + site.across * (outer - inner) if outer > inner else outer


def _draw_cloud(across: Array, down: Array, site: Site) -> Array:
    """Soft blobs around the origin of (across, down), about `site.radius` in size; coverage 0..1."""
    cloud = np.zeros(np.broadcast_shapes(across.shape, down.shape), np.float32)
    for x, y, size in site.jitter:
        reach = site.radius * (0.48 + 0.06 * np.clip(size, -1.5, 1.5))
        x, y = (np.clip(step, -1.3, 1.3) * 0.42 * site.radius for step in (x, y))
        # separable bell: one vector a direction
        cloud += np.exp(-(((across - x) / reach) ** 2)) * np.exp(-(((down - y) / reach) ** 2))
    return np.clip(0.75 * cloud - 0.12, 0, 1)


def draw_ribs(person: Person, half: Half, fracture: tuple[Finding, Site] | None) -> Array:
    """Add all ribs of one side; breaks two neighbours where a fracture is given. Returns the box of the break."""
    posterior, anterior = rib_paths(person)
    behind, before = rib_strengths(person, half.lung, posterior, anterior)
    box = np.zeros(4, np.float32)
    if fracture is not None:
        finding, site = fracture
        first, last = _FRACTURED_RIBS[finding.place]
        heart_edge = max(float((half.heart[int(posterior[rib, 50])] > 0.5).sum()) for rib in (first, last))
        upper, lower = (break_rib(person, posterior[rib], behind[rib], heart_edge, site) for rib in (first, last))
        box = np.concatenate([np.minimum(upper, lower)[:2], np.maximum(upper, lower)[2:]])
    draw_strokes(half.bone, 6, np.concatenate([posterior, anterior]), 3.1, np.concatenate([behind, before]))
    return box


def break_rib(person: Person, centre: Array, strength: Array, heart_edge: float, site: Site) -> Array:
    """Part one rib beside the heart: a gap, and its outer end dropped by a step. Returns the box of the break.

    centre, strength (n,) are changed in place.
    """
    inner, outer = max(0.46 * person.width, heart_edge + 12), 0.76 * person.width
    at = int(min(inner + site.across * max(outer - inner, 0), outer)) - 6
    columns = np.arange(len(centre))
    distance = np.abs(columns - at)
    row, step = float(centre[at]), 0.75 * person.rib_gap
    centre[columns > at] += step * np.exp(-(columns[columns > at] - at) / 40)
    strength += 2.4 * person.bone * np.exp(-(((distance - 7) / 5.0) ** 2))  # dense ends, as bone seen end on
    strength[distance < 4] = 0
    return np.array([at + 6 - 15, row - 7, at + 6 + 15, row + step + 7], np.float32)


def _draw_stomach(person: Person, air: Array, rng: np.random.Generator) -> None:
    """A gas bubble under the left diaphragm, in some people."""
    if rng.uniform() < 0.55:
        row = person.base + person.left_drop + rng.uniform(20, 30)
        half = (rng.uniform(11, 18), rng.uniform(6, 10))
        air += 0.6 * ellipse_coverage(MIDLINE + rng.uniform(34, 46), row, half)


def draw_frontal_pacemaker(person: Person, layer: Array, ratio: float, rng: np.random.Generator) -> Array:
    """The generator box on the left chest wall and its lead into the right ventricle; returns the canvas box."""
    row, column = person.apex + rng.uniform(12, 20), MIDLINE + rng.uniform(66, 76)
    across, down = np.abs(COLUMN - column), np.abs(ROW - row)
    case = soften(12 - np.maximum(np.maximum(across * 0.86, down), (across + down) * 0.66), 1.0)
    np.maximum(layer, 1.12 * case, out=layer)
    lead = np.zeros_like(layer)
    columns = np.arange(MIDLINE - 10, int(column) - 6)
    share = (columns - columns[0]) / len(columns)
    top = person.apex + 24
    draw_strokes(lead, int(columns[0]), (top + (row - top) * share - 12 * np.sin(np.pi * share))[None], 1.6, 0.45)
    rows = np.arange(int(top), int(person.base - 14))
    share = (rows - rows[0]) / len(rows)
    draw_strokes(lead.T, int(rows[0]), (columns[0] + ratio * 95 * share**2.2)[None], 1.6, 0.45)
    layer += np.minimum(lead, 0.5) * (1 - case)
    return np.array([column - 15, row - 13, column + 15, row + 13], np.float32)


def draw_lateral(person: Person, sites: dict[Finding, Site], ratio: float, rng: np.random.Generator) -> tuple:
    """The lateral view: attenuation (256, 256) and the boxes of the findings that it shows."""
    profile = shape_profile(person)
    body = draw_lateral_body(person, profile)
    heart, arch = lateral_heart(person, profile, ratio)
    air = np.zeros((CANVAS, CANVAS), np.float32)
    soft, boxes = draw_lateral_vessels(person, rng), {}
    depths = {side: profile.depth(side) for side in SIDES}
    soft *= soften(depths["right"])
    for side in SIDES:
        lung = soften(depths[side], 1.5)
        for finding, site in sites.items():
            painter = _LATERAL_PAINTERS.get(finding.kind)
            if finding.side == side and painter is not None:
                boxes[finding] = _box_of(painter(profile, side, depths[side], lung, soft, site))
        air += 0.5 * lung
    air *= 1 - np.maximum(0.9 * heart, 0.45 * arch)
    soft += 0.05 * heart + 0.05 * arch
    draw_windpipe(person, soft)
    draw_lateral_bones(person, profile, soft)
    attenuation = body * person.fat * (1.25 - 1.25 * _AIR * air) + soft * np.minimum(3 * body, 1)
    for finding in sites:
        if finding.kind == "cardiomegaly":
            boxes[finding] = _box_of(heart)
        elif finding.kind == "pacemaker":
            boxes[finding] = draw_lateral_pacemaker(person, profile, attenuation)
    return attenuation, boxes


def paint_lateral_spot(
    profile: Profile, side: str, depth: Array, lung: Array, soft: Array, site: Site, dense: bool
) -> Array:
    """A nodule (dense) or a consolidation at the level it has in the frontal view."""
    row = profile.apex + site.level * (profile.crest - profile.apex)
    front, back = profile.front[int(row)] + site.radius + 6, profile.back[int(row)] - site.radius - 16
    across, down = COLUMN - (front + site.along * (back - front)), ROW - row
    if dense:
        spot = soften(site.radius - np.sqrt(across * across + down * down), 1.0)
        soft += 0.14 * spot
    else:
        spot = _draw_cloud(across, down, site) * lung
    lung *= 1 - 0.85 * spot
    return spot


def paint_lateral_nodule(*scene: object) -> Array:
    """A nodule of the lateral view."""
    return paint_lateral_spot(*scene, dense=True)


def paint_lateral_consolidation(*scene: object) -> Array:
    """A consolidation of the lateral view."""
    return paint_lateral_spot(*scene, dense=False)


def paint_lateral_effusion(
    profile: Profile, side: str, depth: Array, lung: Array, soft: Array, site: Site
) -> Array:
    """Fluid of one side: it fills the sulcus behind first, its surface climbing towards the back."""
    share = np.clip((COLUMN - profile.front.min()) / (profile.back.max() - profile.front.min()), 0, 1)
    crest = float(profile.floors[side].min())
    surface = crest - site.level * (crest - profile.apex) + 12 - 18 * share**2
    fluid = soften(np.minimum(ROW - surface, depth + 1.5), 1.5)
    lung *= 1 - fluid
    soft += 0.05 * fluid
    return fluid


_LATERAL_PAINTERS = {
    "nodule": paint_lateral_nodule,
    "consolidation": paint_lateral_consolidation,
    "effusion": paint_lateral_effusion,
}


def draw_lateral_pacemaker(person: Person, profile: Profile, layer: Array) -> Array:
    """The generator seen edge on in front of the chest, and its lead; returns the canvas box."""
    row = person.apex + 20
    column = float(profile.front[int(row)]) - 2
    case = soften(1 - np.maximum(np.abs(COLUMN - column) / 6, np.abs(ROW - row) / 12), 0.1)
    np.maximum(layer, 1.12 * case, out=layer)
    rows = np.arange(int(row) + 4, int(person.base - 14))
    share = (rows - rows[0]) / len(rows)
    path = column + 48 * np.sin(np.pi * share) ** 0.8 + 4 * share
    draw_strokes(layer.T, int(rows[0]), path[None].astype(np.float32), 1.6, 0.45)
    return np.array([column - 7, row - 13, column + 7, row + 13], np.float32)


def _box_of(mask: Array) -> Array:
    """The box (x0, y0, x1, y1) around a coverage above one half."""
    solid = mask > 0.5
    columns, rows = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _unfold(box: Array, side: str) -> Array:
    """A box in the frame of one side -> the same box on the canvas."""
    inner, top, outer, bottom = box
    if side == "left":
        return np.array([MIDLINE + inner, top, MIDLINE + outer, bottom], np.float32)
    return np.array([MIDLINE - outer, top, MIDLINE - inner, bottom], np.float32)


@cache
def _noise_bank() -> Array:
    """White noise (640, 640), cut at random places: drawing it anew for each film would cost more than the chest."""
    return np.random.default_rng(20).standard_normal((640, 640), dtype=np.float32)


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
    film = np.asarray(posed, np.float32)
    film = film * _draw_field(rng)
    top, left = rng.integers(0, 640 - FILM, 2)
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
