"""The normal chest of a phantom: one made-up person, seen from the front and from the side.

A view is drawn as attenuation on a canvas larger than the film (256 against 224), upright and centred; pose and
exposure come later (`phantom_drawing.py`). Attenuation adds up along a ray as in a real film, so each organ only adds
or takes away. Row v counts downwards. On the frontal canvas each side is drawn in its own frame, columns counted
outwards from the midline: a lung is described once, and the patient's left falls on the image's right as radiology
shows it. The organs that lie on one side only (heart, aortic knob, stomach bubble) are drawn on the whole canvas.
The lateral canvas looks at the patient's left side, front of the body on the image's left.
"""

import math
from dataclasses import dataclass, field, fields
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32 wherever it is as large as a canvas

CANVAS = 256  # pixels of the square canvas
MIDLINE = CANVAS // 2
AIR_EFFECT = 0.78  # share of the soft tissue's attenuation that a lung full of air takes away
SIDES = ("right", "left")  # right of the patient = left of the image

ROW: Array = np.arange(CANVAS, dtype=np.float32)[:, None]  # (256, 1)
COLUMN: Array = np.arange(CANVAS, dtype=np.float32)[None]  # (1, 256)
OUTWARD: Array = np.arange(MIDLINE, dtype=np.float32)  # (128,) distance from the midline


def _vary(mean: float, spread: float) -> float:
    """A field of `Person`: drawn uniformly from mean +- spread. Lengths in canvas pixels."""
    return field(metadata={"mean": mean, "spread": spread})


@dataclass
class Person:
    """What differs from one chest to the next. Lengths in canvas pixels, levels as rows of the canvas."""

    apex: float = _vary(48, 7)  # top of the lungs
    base: float = _vary(177, 12)  # crest of the right diaphragm
    left_drop: float = _vary(6, 4)  # how much lower the left crest lies
    dome: float = _vary(24, 4)  # from the crest down to the costophrenic angle
    width: float = _vary(84, 8)  # midline to the lateral lung wall
    mediastinum: float = _vary(15, 2.5)  # half its width
    heart: float = _vary(0.435, 0.03)  # heart width over thoracic width; 0.5 is the radiologist's limit
    heart_tilt: float = _vary(0.5, 0.12)  # radians
    trunk: float = _vary(103, 8)  # half the width of the body below the armpits
    fat: float = _vary(0.6, 0.14)  # attenuation of soft tissue
    bone: float = _vary(0.155, 0.03)  # attenuation of a rib
    breast: float = _vary(0.06, 0.09)
    rib_share: float = _vary(0.120, 0.006)  # from one rib to the next, in heights of the lung
    rib_drop: float = _vary(34, 7)  # from a rib's neck to its side
    depth: float = _vary(84, 7)  # half the depth of the thorax (lateral view)
    vessels: float = _vary(0.11, 0.03)

    @property
    def rib_gap(self) -> float:
        """Pixels from one rib to the next."""
        return self.rib_share * (self.base - self.apex)


def make_person(rng: np.random.Generator) -> Person:
    """Draw a person, every measure within its normal range."""
    return Person(
        **{one.name: one.metadata["mean"] + one.metadata["spread"] * rng.uniform(-1, 1) for one in fields(Person)}
    )


def soften(distance: Array, width: float = 1.0) -> Array:
    """Signed distance (positive inside, pixels) -> coverage 0..1 with an edge of 2 `width` pixels."""
    cover = distance * np.float32(0.5 / width)
    cover += 0.5
    return np.minimum(np.maximum(cover, 0, out=cover), 1, out=cover)  # np.clip costs twice as much here


def draw_strokes(layer: Array, start: int, centres: Array, half_width: Array | float, strength: Array | float) -> None:
    """Add K bands to `layer`, each running through columns start..start+n.

    centres: (K, n) row of each band's axis; half_width, strength: broadcast to (K, n). A steep band is widened along
    its column so that it keeps its thickness. Bands have brighter rims, as the cortex of a rib has. What leaves
    `layer` is cut off.
    """
    strength = np.broadcast_to(np.asarray(strength, np.float32), centres.shape)[:, : layer.shape[1] - start]
    centres = np.asarray(centres, np.float32)[:, : layer.shape[1] - start]
    count = centres.shape[1]
    slope = centres[:, 1:] - centres[:, :-1]
    widths = np.empty_like(centres)
    widths[:, :-1] = np.sqrt(1 + np.minimum(slope * slope, 2.5))
    widths[:, -1] = widths[:, -2]
    widths *= half_width
    reach = int(widths.max()) + 1
    nearest = np.rint(centres)
    steps = np.arange(-reach, reach + 1, dtype=np.float32)[:, None]  # (J, 1)
    distance = ((nearest - centres)[:, None] + steps) / widths[:, None]  # (K, J, n)
    distance *= distance
    band = (0.75 + 0.4 * distance) * strength[:, None]
    band *= np.minimum(np.maximum(1.4 - 1.4 * distance, 0), 1)
    rows = nearest.astype(np.int32)[:, None] + steps.astype(np.int32)
    low, high = max(int(rows.min()), 0), min(int(rows.max()) + 1, layer.shape[0])
    outside = (rows < low) | (rows >= high)
    if outside.any():
        band[outside] = 0
        np.clip(rows, low, high - 1, out=rows)
    flat = (rows - low) * count + np.arange(count, dtype=np.int32)
    added = np.bincount(flat.ravel(), weights=band.ravel(), minlength=(high - low) * count)
    layer[low:high, start : start + count] += added.reshape(high - low, count)


def ellipse_coverage(
    column: float, row: float, half: tuple[float, float], tilt: float = 0.0, edge: float = 1.5
) -> Array:
    """Coverage (256, 256) of an ellipse with half axes `half`, its long axis turned down to the right by `tilt`."""
    cover = np.zeros((CANVAS, CANVAS), np.float32)
    reach = int(max(half) + 2 * edge) + 1
    rows = slice(max(int(row) - reach, 0), int(row) + reach + 1)
    columns = slice(max(int(column) - reach, 0), int(column) + reach + 1)
    across, down = COLUMN[:, columns] - column, ROW[rows] - row
    cosine, sine = math.cos(tilt), math.sin(tilt)
    along = across * (cosine / half[0]) + down * (sine / half[0])
    beside = down * (cosine / half[1]) - across * (sine / half[1])
    cover[rows, columns] = soften((1 - np.sqrt(along * along + beside * beside)) * min(half), edge)
    return cover


@dataclass
class Lung:
    """One lung of the frontal view in the frame of its side: rows v, columns r outwards from the midline.

    outer, inner: (256,) lateral and mediastinal wall a row; floor: (128,) diaphragm a column; `depth` (256, 128) is
    the distance to the nearest wall, positive inside; `cover` the same as coverage 0..1.
    """

    side: str
    apex: float
    crest: float
    angle: float  # row of the costophrenic angle
    width: float
    outer: Array
    inner: Array
    floor: Array

    @cached_property
    def depth(self) -> Array:
        walls = np.minimum(self.outer[:, None] - OUTWARD, OUTWARD - self.inner[:, None])
        return np.minimum(walls, (self.floor - ROW) * 0.8, out=walls)

    @cached_property
    def cover(self) -> Array:
        return soften(self.depth, 1.2)

    @property
    def height(self) -> float:
        return self.crest - self.apex


def shape_lung(person: Person, side: str, top_gap: float = 0.0, side_gap: float = 0.0) -> Lung:
    """The outline of one lung; gaps (pixels) draw it back from apex and side wall, as a pneumothorax does."""
    crest = person.base + (person.left_drop if side == "left" else 0.0)
    angle, apex, width = crest + person.dome, person.apex + top_gap, person.width - side_gap
    tip = min(30.0, width - 12)  # the apex lies here, not at the midline
    share = np.clip((ROW[:, 0] - apex) / (angle - apex), 0, 1)
    outer = tip + (width - tip) * (1 - (1 - share) ** 2.6) ** 0.6
    outer[ROW[:, 0] < apex] = -9
    rising = np.clip(1 - share / 0.3, 0, 1)
    inner = tip - (tip - person.mediastinum) * np.sqrt(1 - rising**2)
    middle = 0.45 * person.width
    beyond = np.clip((OUTWARD - middle) / (person.width - middle), 0, None)
    floor = crest + person.dome * beyond**2.4 + 6 * np.clip(1 - OUTWARD / middle, 0, None) ** 2
    as_float = [part.astype(np.float32) for part in (outer, inner, floor)]
    return Lung(side, apex, crest, angle, width, *as_float)


def take_side(layer: Array, side: str) -> Array:
    """The half of a frontal canvas (256, 256) as a view (256, 128) with columns counted outwards from the midline."""
    return layer[:, MIDLINE:] if side == "left" else layer[:, MIDLINE - 1 :: -1]


@cache
def _frontal_grid() -> tuple[Array, Array]:
    """Neck-to-shoulder share of each row, and the softness of the vertebrae: the parts that never change."""
    shoulder = np.clip((ROW - 24) / 42, 0, 1)
    shoulder = shoulder * shoulder * (3 - 2 * shoulder)
    waist = np.clip((ROW - 74) / 50, 0, 1)
    return shoulder, waist * waist * (3 - 2 * waist)


def draw_frontal_body(person: Person) -> Array:
    """Soft tissue thickness (256, 256) of neck, shoulders and trunk, 0 outside of the body."""
    shoulder, waist = _frontal_grid()
    edge = 27 + (126 - 27) * shoulder - (126 - person.trunk) * waist  # (256, 1)
    across = (OUTWARD / edge) ** 2
    half = np.sqrt(np.clip(1 - across, 0, None)) * (0.85 + 0.15 * np.clip((ROW - 40) / 120, 0, 1))
    return np.concatenate([half[:, ::-1], half], axis=1)


def frontal_heart(person: Person, ratio: float) -> tuple[Array, Array]:
    """Coverage of the heart and of the great vessels, each (256, 256), for a cardiothoracic ratio."""
    size = ratio * 2 * person.width
    long_axis = 0.54 * size
    row = person.base - 0.36 * size + 4
    heart = ellipse_coverage(MIDLINE + 0.14 * size, row, (long_axis, 0.42 * size), person.heart_tilt, 2.5)
    right_atrium = ellipse_coverage(MIDLINE - 0.12 * size, row + 2, (0.27 * size, 0.36 * size), 0.0, 2.5)
    knob = ellipse_coverage(MIDLINE + person.mediastinum - 1, person.apex + 38, (12, 13), 0.0, 2.5)
    trunk = ellipse_coverage(MIDLINE + person.mediastinum - 1, person.apex + 62, (10, 15), 0.0, 3.0)
    return np.maximum(heart, right_atrium), np.maximum(knob, 0.8 * trunk)


def rib_paths(person: Person) -> tuple[Array, Array]:
    """Rows of the posterior and anterior ribs, (10, n) and (7, n), over columns 6.. outwards to past the chest wall.

    A posterior rib leaves the spine, rises a little and falls towards the side; its anterior part comes back falling.
    """
    share = (OUTWARD[6 : int(person.width) + 9] - 6) / (person.width - 4)  # 0 at the spine, 1 at the side
    necks = person.apex + 4 + person.rib_gap * np.arange(10, dtype=np.float32)[:, None]
    fall = person.rib_drop * np.linspace(0.75, 1.15, 10, dtype=np.float32)[:, None]
    posterior = necks - 10 * share * (1 - share) + fall * share**2.3
    anterior = (necks + fall)[:7] + 6 + person.rib_drop * (1 - share) * (1.35 - 0.3 * (1 - share))
    return posterior, anterior


def rib_strengths(person: Person, lung: Lung, posterior: Array, anterior: Array) -> tuple[Array, Array]:
    """How strongly each rib shows along its course, same shapes: it ends at the chest wall, in front in cartilage."""
    paths = np.concatenate([posterior, anterior])
    columns = OUTWARD[6 : 6 + paths.shape[1]]
    rows = np.clip(paths, 0, CANVAS - 1).astype(np.int32)
    shown = person.bone * soften(np.maximum(lung.outer, 30)[rows] + 5 - columns, 2)
    shown[len(posterior) :] *= 0.5 * np.clip((columns - 24) / 22, 0, 1)
    return shown[: len(posterior)], shown[len(posterior) :]


def draw_clavicle(person: Person, half: Array, lift: float) -> None:
    """The collar bone of one side, added to `half` (256, 128)."""
    share = (OUTWARD[8:112] - 8) / 104
    centre = person.apex + 20 - lift - 17 * share + 5 * np.sin(2 * np.pi * share)
    draw_strokes(half, 8, centre[None], 4.0, 1.25 * person.bone)


def draw_shoulder(person: Person, half: Array, lift: float) -> None:
    """Shoulder blade and head of the humerus of one side, added to `half` (256, 128)."""
    top = int(person.apex)
    across, down = OUTWARD[104:] - 122, ROW[top - 10 : top + 34] - (person.apex + 12 - lift)
    half[top - 10 : top + 34, 104:] += 1.1 * person.bone * soften(15 - np.sqrt(across * across + down * down), 1.5)
    rows, edge = slice(top + 22, top + 84), int(person.width)
    centre = person.width + 8 - 0.10 * (ROW[rows] - ROW[rows.start])
    columns = slice(edge - 4, min(edge + 14, MIDLINE))
    half[rows, columns] += 0.5 * person.bone * soften(2.2 - np.abs(OUTWARD[columns] - centre), 0.8)


@cache
def _vessel_trees(count: int = 8) -> Array:
    """Vessel trees (count, 200, 120) with the hilum at row 100, column 10: branches that thin out outwards.

    Drawn once: a tree of one's own for each person would cost more than the rest of the chest.
    """
    rng, trees = np.random.default_rng(7), np.zeros((count, 200, 120), np.float32)
    along = np.arange(66, dtype=np.float32)
    for tree in trees:
        for sign in (-1, 0, 1):  # upwards, outwards, downwards
            slopes = np.array([0.15, 0.45, 0.75, 0.95]) if sign else np.linspace(-0.95, 0.95, 8)
            slopes = slopes[:, None] + rng.uniform(-0.12, 0.12, (len(slopes), 1))
            rise = slopes * along + rng.uniform(-0.006, 0.006, slopes.shape) * along**2
            rise += 1.5 * np.sin(along / rng.uniform(5, 9, slopes.shape)) + rng.uniform(-7, 7, slopes.shape)
            reach = rng.uniform(40, 66, slopes.shape)
            fading = (
                np.clip(1 - along / reach, 0, None) * np.clip(along / 6, 0, 1) * rng.uniform(0.5, 1.2, slopes.shape)
            )
            if sign == 0:
                draw_strokes(tree, 10, 100 + rise, 1.5, fading)
            else:
                draw_strokes(tree.T if sign > 0 else tree.T[:, ::-1], 100, 12 + rise, 1.5, fading)
        across, down = np.arange(120) - 8, np.arange(200)[:, None] - 100
        tree += 1.2 * np.clip(1.3 - np.sqrt((across / 9) ** 2 + (down / 19) ** 2), 0, 1)
    return np.minimum(trees, 1.6)


def draw_vessels(person: Person, layer: Array, row: float, column: float, rng: np.random.Generator) -> None:
    """Add one of the vessel trees to `layer` (a canvas or a half), its hilum at (row, column)."""
    trees = _vessel_trees()
    tree = trees[int(rng.integers(len(trees)))]
    top, left = int(row) - 100, int(column) - 10
    rows, columns = slice(max(top, 0), min(top + 200, CANVAS)), slice(left, min(left + 120, layer.shape[1]))
    part = tree[rows.start - top : rows.stop - top, : columns.stop - columns.start]
    layer[rows, columns] += person.vessels * part


def draw_spine(person: Person, layer: Array) -> None:
    """Vertebrae and windpipe on the midline of a frontal canvas (256, 256)."""
    middle = slice(MIDLINE - 24, MIDLINE + 24)
    outward = np.abs(COLUMN[:, middle] + 0.5 - MIDLINE)
    disc = 0.7 + 0.3 * np.cos(2 * np.pi * (ROW - person.apex) / person.rib_gap)
    layer[:, middle] += 0.8 * person.bone * soften(10 - outward, 1.5) * disc
    length = soften(person.apex + 44 - ROW, 4)
    layer[:, middle] -= 0.11 * soften(5 - outward, 1.5) * length


@dataclass
class Profile:
    """The thorax of the lateral view. front, back: (256,) column of its walls in each row (front on the image's left).

    floors: the diaphragm (256,) a column, of the right and of the left lung; both lungs lie over one another.
    """

    apex: float
    crest: float
    front: Array
    back: Array
    floors: dict[str, Array]

    def depth(self, side: str) -> Array:
        """Distance (256, 256) to the nearest wall of one lung, positive inside."""
        walls = np.minimum(COLUMN - self.front[:, None], self.back[:, None] - COLUMN)
        return np.minimum(np.minimum(walls, (self.floors[side] - ROW) * 0.8), ROW - self.apex)


def shape_profile(person: Person) -> Profile:
    """The outline of the lungs seen from the side; levels agree with the frontal view of the same person."""
    share = np.clip((ROW[:, 0] - person.apex) / (person.base - person.apex), 0, None)
    rising = 1 - np.clip(np.stack([share / 1.0, share / 0.75]), 0, 1)
    bulge = np.sqrt(1 - rising**1.7)  # (2, 256): front and back wall are quarter ellipses from the apex down
    middle = MIDLINE + 0.12 * person.depth
    front = middle - (0.94 * person.depth) * bulge[0]
    back = middle + (0.86 * person.depth) * bulge[1]
    floors = {}
    for side in SIDES:
        crest = person.base + (person.left_drop + 3 if side == "left" else 0.0)
        across = (COLUMN[0] - (MIDLINE - 0.15 * person.depth)) / person.depth
        behind = 1.5 * person.dome * np.clip(across, 0, None) ** 2
        floors[side] = (crest + behind + 9 * np.clip(-across, 0, None) ** 2).astype(np.float32)
    return Profile(person.apex, person.base, front.astype(np.float32), back.astype(np.float32), floors)


def draw_lateral_body(person: Person, profile: Profile) -> Array:
    """Soft tissue thickness (256, 256) of the body seen from the side, with the raised arms above the apex."""
    share = np.clip((ROW - person.apex + 34) / (person.base - person.apex), 0, 1)
    swell = np.sin(share * np.pi / 2)
    breast = 130 * max(person.breast, 0) * np.clip(1 - np.abs(ROW - person.base + 42) / 46, 0, 1)
    skin_front = MIDLINE - 0.34 * person.depth - 0.58 * person.depth * swell - 8 - breast
    skin_back = MIDLINE + 0.62 * person.depth + 0.34 * person.depth * swell + 14
    middle, half = (skin_front + skin_back) / 2, (skin_back - skin_front) / 2
    body = np.sqrt(np.clip(1 - ((COLUMN - middle) / half) ** 2, 0, None))
    return (body * (0.72 + 0.28 * np.clip((ROW - 20) / 90, 0, 1))).astype(np.float32)


def lateral_heart(person: Person, profile: Profile, ratio: float) -> tuple[Array, Array]:
    """Coverage of the heart and of the aortic arch, each (256, 256); a larger heart reaches further back."""
    size = ratio * 2 * person.width
    row = person.base - 0.22 * size
    front = float(profile.front[int(row)])
    heart = ellipse_coverage(front + 0.40 * size, row, (0.56 * size, 0.36 * size), -0.75, 5.0)
    arch = ellipse_coverage(MIDLINE + 8, person.apex + 44, (17, 14), 0.3, 6.0)
    return heart, arch


def draw_lateral_bones(person: Person, profile: Profile, layer: Array) -> None:
    """Vertebrae, breast bone and ribs added to a lateral canvas (256, 256)."""
    spine = profile.back[:, None] - 12
    disc = 0.72 + 0.28 * np.cos(2 * np.pi * (ROW - person.apex) / (1.15 * person.rib_gap))
    layer += 1.1 * person.bone * soften(11 - np.abs(COLUMN - spine), 1.5) * np.sqrt(disc)
    rows = np.arange(int(person.apex) + 26, int(person.base) - 18)
    draw_strokes(layer.T, int(rows[0]), profile.front[rows][None] - 3, 3.0, 1.1 * person.bone)
    columns = np.arange(int(MIDLINE - person.depth), int(MIDLINE + person.depth))
    share = (columns[::-1] - columns[0]) / len(columns)  # 0 at the back
    necks = person.apex + 2 + person.rib_gap * np.arange(9, dtype=np.float32)[:, None]
    ribs = (necks + 1.5 * person.rib_drop * share**1.3).astype(np.float32)
    rows = np.clip(np.rint(ribs), 0, CANVAS - 1).astype(np.int64)
    inside = np.minimum(columns - profile.front[rows], profile.back[rows] - columns)
    draw_strokes(layer, int(columns[0]), ribs, 2.6, 0.6 * person.bone * soften(inside + 3, 2))


def draw_lateral_vessels(person: Person, rng: np.random.Generator) -> Array:
    """Hilum and lung vessels (256, 256) of both lungs, seen from the side."""
    layer = np.zeros((CANVAS, CANVAS), np.float32)
    row, column = person.apex + 0.5 * (person.base - person.apex), MIDLINE + 8
    draw_vessels(person, layer, row, column, rng)
    draw_vessels(person, layer[:, ::-1], row, CANVAS - 1 - column, rng)
    return 0.6 * layer


def draw_windpipe(person: Person, layer: Array) -> None:
    """The windpipe of the lateral view: a dark oblique band down to the hilum."""
    rows = np.arange(int(person.apex) - 30, int(person.apex) + 56)
    centre = MIDLINE - 8 + 0.17 * (rows - rows[0])
    draw_strokes(layer.T, int(rows[0]), centre[None].astype(np.float32), 4.5, -0.09)
