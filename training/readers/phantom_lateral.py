"""The lateral view of a phantom: the normal profile with what a lateral film shows of the findings.

Nodules, consolidations, fluid, a large heart and a pacemaker show; a fracture and a pneumothorax do not. Both lungs
lie over one another, so a finding of one lung takes away at most half of the air. Left and right look alike here: the
side of a finding can only be seen on the frontal film.
"""

from dataclasses import dataclass

import numpy as np

from .phantom_anatomy import (
    AIR_EFFECT,
    CANVAS,
    COLUMN,
    ROW,
    SIDES,
    Array,
    Person,
    Profile,
    draw_lateral_body,
    draw_lateral_bones,
    draw_lateral_vessels,
    draw_strokes,
    draw_windpipe,
    lateral_heart,
    shape_profile,
    soften,
)
from .phantom_grammar import Finding
from .phantom_plan import Site, box_around, draw_cloud


@dataclass
class Side:
    """One lung of the lateral view while it is drawn: its distance to the walls, air and soft tissue (256, 256)."""

    profile: Profile
    name: str
    depth: Array
    air: Array
    soft: Array


def draw_lateral(
    person: Person, sites: dict[Finding, Site], ratio: float, rng: np.random.Generator
) -> tuple[Array, dict[Finding, Array]]:
    """The lateral view: attenuation (256, 256) and the boxes of the findings that it shows, on the canvas."""
    profile = shape_profile(person)
    heart, arch = lateral_heart(person, profile, ratio)
    air = np.zeros((CANVAS, CANVAS), np.float32)
    soft = draw_lateral_vessels(person, rng)
    boxes: dict[Finding, Array] = {}
    for name in SIDES:
        depth = profile.depth(name)
        side = Side(profile, name, depth, soften(depth, 1.5), soft)
        if name == SIDES[0]:
            soft *= side.air  # vessels end at the lung's wall
        for finding, site in sites.items():
            if finding.side == name and finding.kind in _PAINTERS:
                boxes[finding] = box_around(_PAINTERS[finding.kind](side, site))
        air += 0.5 * side.air
    air *= 1 - np.maximum(0.9 * heart, 0.45 * arch)
    soft += 0.05 * heart + 0.05 * arch
    draw_windpipe(person, soft)
    draw_lateral_bones(person, profile, soft)
    body = draw_lateral_body(person, profile)
    # the body is deeper from side to side than from front to back, hence the factor
    attenuation = body * person.fat * (1.25 - 1.25 * AIR_EFFECT * air) + soft * np.minimum(3 * body, 1)
    for finding in sites:
        if finding.kind == "cardiomegaly":
            boxes[finding] = box_around(heart)
        elif finding.kind == "pacemaker":
            boxes[finding] = draw_pacemaker(person, profile, attenuation)
    return attenuation, boxes


def paint_nodule(side: Side, site: Site) -> Array:
    """A round, dense spot at the level that it has in the frontal view."""
    across, down = _offsets(side, site)
    spot = soften(site.radius - np.sqrt(across * across + down * down), 1.0)
    side.soft += 0.14 * spot
    side.air *= 1 - 0.85 * spot
    return spot


def paint_consolidation(side: Side, site: Site) -> Array:
    """A cloud of airless lung at the level that it has in the frontal view."""
    cloud = draw_cloud(*_offsets(side, site), site) * side.air
    side.air *= 1 - 0.85 * cloud
    return cloud


def paint_effusion(side: Side, site: Site) -> Array:
    """Fluid of one side: it fills the sulcus behind first, its surface climbing towards the back."""
    profile = side.profile
    front, back = profile.front.min(), profile.back.max()
    share = np.clip((COLUMN - front) / (back - front), 0, 1)
    crest = float(profile.floors[side.name].min())
    surface = crest - site.level * (crest - profile.apex) + 12 - 18 * share**2
    fluid = soften(np.minimum(ROW - surface, side.depth + 1.5), 1.5)
    side.air *= 1 - fluid
    side.soft += 0.05 * fluid
    return fluid


_PAINTERS = {"nodule": paint_nodule, "consolidation": paint_consolidation, "effusion": paint_effusion}


def _offsets(side: Side, site: Site) -> tuple[Array, Array]:
    """Columns (1, 256) and rows (256, 1) counted from the centre of a spot within the lung."""
    profile = side.profile
    row = profile.apex + site.level * (profile.crest - profile.apex)
    front, back = profile.front[int(row)] + site.radius + 6, profile.back[int(row)] - site.radius - 16
    return COLUMN - (front + site.along * (back - front)), ROW - row


def draw_pacemaker(person: Person, profile: Profile, layer: Array) -> Array:
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
