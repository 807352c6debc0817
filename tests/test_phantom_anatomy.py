"""The normal chest: measures within their ranges, sides in their places, both views of one person."""

from dataclasses import fields

import numpy as np
import pytest

from radscribe.training.readers.phantom_anatomy import (
    CANVAS,
    MIDLINE,
    Person,
    draw_frontal_body,
    draw_strokes,
    ellipse_coverage,
    frontal_heart,
    make_person,
    rib_paths,
    shape_lung,
    shape_profile,
    soften,
    take_side,
)


@pytest.fixture
def person() -> Person:
    return make_person(np.random.default_rng(5))


def test_every_measure_lies_within_its_normal_range():
    rng = np.random.default_rng(0)
    for person in (make_person(rng) for _ in range(200)):
        for one in fields(Person):
            assert abs(getattr(person, one.name) - one.metadata["mean"]) <= one.metadata["spread"]


def test_one_seed_makes_one_person():
    assert make_person(np.random.default_rng(3)) == make_person(np.random.default_rng(3))


def test_soften_is_a_half_on_the_edge_and_whole_inside():
    np.testing.assert_allclose(soften(np.array([-9.0, 0.0, 9.0]), 2.0), [0, 0.5, 1])


def test_an_ellipse_covers_its_area():
    cover = ellipse_coverage(120.0, 100.0, (30.0, 20.0), tilt=0.4)
    assert cover.sum() == pytest.approx(np.pi * 30 * 20, rel=0.02)


def test_an_ellipse_turns_down_to_the_right():
    cover = ellipse_coverage(128.0, 128.0, (30.0, 10.0), tilt=0.6)
    assert cover[:128, :128].sum() + cover[128:, 128:].sum() > 2 * (cover[:128, 128:].sum() + cover[128:, :128].sum())


def test_a_stroke_runs_along_its_axis_and_is_cut_off_at_the_border():
    layer = np.zeros((20, 30), np.float32)
    draw_strokes(layer, 25, np.full((1, 40), 10.0, np.float32), 2.0, 1.0)
    assert layer[10, 25:].min() > 0 and layer[:, :25].max() == 0 and layer[:5].max() == 0


def test_the_patients_left_is_the_images_right():
    layer = np.zeros((CANVAS, CANVAS))
    take_side(layer, "left")[:, 3] = 1
    take_side(layer, "right")[:, 3] = 2
    assert (layer[:, MIDLINE + 3] == 1).all() and (layer[:, MIDLINE - 4] == 2).all()


def test_the_left_diaphragm_lies_lower(person):
    assert shape_lung(person, "left").crest == shape_lung(person, "right").crest + person.left_drop


def test_a_lung_lies_between_its_walls(person):
    lung = shape_lung(person, "right")
    inside = np.argwhere(lung.depth > 0)
    assert len(inside) > 5000
    for row, column in inside:
        assert lung.inner[row] < column < lung.outer[row] and row < lung.floor[column]


def test_a_pneumothorax_draws_the_lung_back_from_apex_and_side(person):
    whole, collapsed = shape_lung(person, "left"), shape_lung(person, "left", top_gap=12, side_gap=8)
    assert collapsed.cover.sum() < whole.cover.sum()
    assert (collapsed.cover <= whole.cover + 0.15).all()


def test_the_heart_is_as_wide_as_its_ratio_says(person):
    for ratio in (0.42, 0.5, 0.58):
        columns = np.flatnonzero((frontal_heart(person, ratio)[0] > 0.5).any(axis=0))
        assert np.ptp(columns) / (2 * person.width) == pytest.approx(ratio, abs=0.05)


def test_most_of_the_heart_lies_on_the_patients_left(person):
    heart = frontal_heart(person, 0.5)[0]
    assert take_side(heart, "left").sum() > 1.5 * take_side(heart, "right").sum()


def test_ribs_lie_one_below_the_other(person):
    for paths in rib_paths(person):
        assert (np.diff(paths, axis=0) > 0).all()


def test_the_body_is_the_same_on_both_sides(person):
    body = draw_frontal_body(person)
    np.testing.assert_array_equal(body, body[:, ::-1])


def test_levels_of_both_views_agree(person):
    profile = shape_profile(person)
    assert (profile.apex, profile.crest) == (shape_lung(person, "right").apex, shape_lung(person, "right").crest)
