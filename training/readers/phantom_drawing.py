"""Draws a phantom study: the films (frontal and lateral, 224x224, 8 bit) of one made-up person with given findings.

A person (`phantom_anatomy.py`) and the plan of each finding (`phantom_plan.py`) are made once and seen twice: from
the front here, from the side in `phantom_lateral.py`. Then each view is posed and exposed (`phantom_film.py`).

Each side of the frontal view is drawn in its own frame (256, 128), columns counted outwards from the midline, so that
a lung is described once; no image is ever mirrored: the patient's left is the image's right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .phantom_anatomy import (
    AIR_EFFECT,
    CANVAS,
    COLUMN,
    MIDLINE,
    OUTWARD,
    ROW,
    SIDES,
    Array,
    Lung,
    Person,
    draw_clavicle,
    draw_frontal_body,
    draw_shoulder,
    draw_spine,
    draw_strokes,
    draw_vessels,
    ellipse_coverage,
    frontal_heart,
    make_person,
    rib_paths,
    rib_strengths,
    shape_lung,
    soften,
    take_side,
)
from .phantom_film import Film, expose
from .phantom_grammar import Finding
from .phantom_lateral import draw_lateral
from .phantom_plan import Site, box_around, draw_cloud, plan_site

_FRACTURED_RIBS = {"upper": (2, 3), "lower": (5, 6)}  # two neighbours, counted from 0


def draw_study(findings: Sequence[Finding], rng: np.random.Generator) -> tuple[Film, Film]:
    """Draw one person with these findings: the frontal and the lateral film. All chance comes from `rng`."""
    person = make_person(rng)
    sites = {finding: plan_site(finding, rng) for finding in findings}
    ratio = next((site.radius for finding, site in sites.items() if finding.kind == "cardiomegaly"), person.heart)
    frontal = draw_frontal(person, sites, ratio, rng)
    lateral = draw_lateral(person, sites, ratio, rng)
    return expose(*frontal, rng), expose(*lateral, rng)


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


def draw_frontal(
    person: Person, sites: dict[Finding, Site], ratio: float, rng: np.random.Generator
) -> tuple[Array, dict[Finding, Array]]:
    """The frontal view: attenuation (256, 256) and the boxes of the findings, on the canvas."""
    body = draw_frontal_body(person)
    air, soft, bone = (np.zeros((CANVAS, CANVAS), np.float32) for _ in range(3))
    heart, vessels = frontal_heart(person, ratio)
    boxes: dict[Finding, Array] = {}
    for side in SIDES:
        own = {finding: site for finding, site in sites.items() if finding.side == side}
        lung, aired = shape_lungs(person, side, own)
        half = Half(lung, aired, *(take_side(layer, side) for layer in (air, soft, bone, heart)))
        boxes |= {finding: _unfold(box, side) for finding, box in draw_half(person, half, own, rng).items()}
    air *= 1 - 0.96 * np.maximum(heart, 0.9 * vessels)
    soft += 0.10 * heart + 0.06 * vessels
    _draw_stomach(person, air, rng)
    draw_spine(person, bone)
    attenuation = body * person.fat * (1.1 - 1.1 * AIR_EFFECT * air) + (soft + bone) * np.minimum(3 * body, 1)
    for finding in sites:
        if finding.kind == "cardiomegaly":
            boxes[finding] = box_around(heart)
        elif finding.kind == "pacemaker":
            boxes[finding] = draw_pacemaker(person, attenuation, ratio, rng)
    return attenuation, boxes


def shape_lungs(person: Person, side: str, sites: dict[Finding, Site]) -> tuple[Lung, Lung]:
    """The lung as the chest wall bounds it, and as a pneumothorax, if there is one, leaves it."""
    lung = shape_lung(person, side)
    for finding, site in sites.items():
        if finding.kind == "pneumothorax":
            return lung, shape_lung(person, side, site.level, site.radius)
    return lung, lung


def draw_half(
    person: Person, half: Half, sites: dict[Finding, Site], rng: np.random.Generator
) -> dict[Finding, Array]:
    """Draw lung, ribs and the findings of one side; returns their boxes in the frame of the side."""
    lung, inside = half.lung, half.aired.cover
    half.air += inside
    hilum_row = lung.apex + 0.5 * lung.height + (5 if lung.side == "right" else 0)
    draw_vessels(person, half.soft, hilum_row, person.mediastinum + 8, rng)
    half.soft *= inside
    breast = np.sqrt(((OUTWARD - 52) / 40) ** 2 + ((ROW - person.base + 6) / 34) ** 2)
    half.soft += max(person.breast, 0) * np.clip(1.6 - 1.6 * breast, 0, 1)
    boxes = {}
    for finding, site in sites.items():
        if finding.kind in _PAINTERS:
            boxes[finding] = box_around(_PAINTERS[finding.kind](half, site))
    fracture = next(((finding, site) for finding, site in sites.items() if finding.kind == "fracture"), None)
    broken = draw_ribs(person, half, fracture)
    if fracture is not None:
        boxes[fracture[0]] = broken
    lift = rng.uniform(-4, 4)
    draw_clavicle(person, half.bone, lift)
    draw_shoulder(person, half.bone, lift)
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
    cloud = draw_cloud(OUTWARD - column, ROW - row, site)
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


_PAINTERS = {
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


def draw_pacemaker(person: Person, layer: Array, ratio: float, rng: np.random.Generator) -> Array:
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


def _unfold(box: Array, side: str) -> Array:
    """A box in the frame of one side -> the same box on the canvas."""
    inner, top, outer, bottom = box
    if side == "left":
        return np.array([MIDLINE + inner, top, MIDLINE + outer, bottom], np.float32)
    return np.array([MIDLINE - outer, top, MIDLINE - inner, bottom], np.float32)
