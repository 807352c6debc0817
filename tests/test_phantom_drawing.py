"""Phantom films: findings show where their boxes say, on the side their names say."""

import numpy as np
import pytest

from radscribe.training.readers import phantom_drawing
from radscribe.training.readers.phantom_drawing import draw_study
from radscribe.training.readers.phantom_film import Film
from radscribe.training.readers.phantom_grammar import KINDS, Finding, all_findings

EVERY_FINDING = [finding for kind in KINDS for finding in all_findings(kind)]
LATERAL_KINDS = {"effusion", "consolidation", "nodule", "cardiomegaly", "pacemaker"}


def draw(findings: list[Finding], seed: int = 0) -> tuple[Film, Film]:
    return draw_study(findings, np.random.default_rng(seed))


@pytest.fixture
def upright(monkeypatch) -> None:
    """Films without pose, exposure and noise: attenuation and boxes of the canvas as they are."""
    monkeypatch.setattr(phantom_drawing, "expose", lambda layer, boxes, rng: Film(layer, boxes))


def test_a_film_is_an_8_bit_grey_square():
    for film in draw([]):
        assert film.pixels.shape == (224, 224)
        assert film.pixels.dtype == np.uint8
        assert film.pixels.std() > 20


def test_the_same_seed_draws_the_same_study():
    for first, second in zip(draw(EVERY_FINDING[:1], 3), draw(EVERY_FINDING[:1], 3), strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
        assert first.boxes == second.boxes


def test_another_seed_draws_another_person():
    assert (draw([], 1)[0].pixels != draw([], 2)[0].pixels).any()


@pytest.mark.parametrize("finding", EVERY_FINDING, ids=lambda finding: finding.name)
def test_boxes_lie_on_the_film_and_hold_something(finding):
    for film in draw([finding], 4):
        for left, top, right, bottom in film.boxes.values():
            assert 0 <= left < right <= 224
            assert 0 <= top < bottom <= 224


@pytest.mark.parametrize("finding", EVERY_FINDING, ids=lambda finding: finding.name)
def test_a_finding_has_a_box_in_each_view_that_shows_it(finding):
    frontal, lateral = draw([finding], 5)
    assert finding in frontal.boxes
    assert (finding in lateral.boxes) == (finding.kind in LATERAL_KINDS)


@pytest.mark.parametrize(
    "finding", [one for one in EVERY_FINDING if one.side != "-"], ids=lambda finding: finding.name
)
def test_the_patients_left_is_the_right_of_the_frontal_image(finding, upright):
    for seed in range(3):
        left, _, right, _ = draw([finding], seed)[0].boxes[finding]
        assert ((left + right) / 2 > 128) == (finding.side == "left")


@pytest.mark.parametrize("finding", EVERY_FINDING, ids=lambda finding: finding.name)
def test_a_finding_changes_the_frontal_film_inside_its_box_most(finding, upright, monkeypatch):
    # the same person without the finding: the plan draws the same chance, the painters get nothing to paint
    with_it = draw([finding], 6)[0]
    monkeypatch.setattr(phantom_drawing, "plan_site", _plan_and_forget(monkeypatch))
    without = draw([finding], 6)[0]
    left, top, right, bottom = (int(edge) for edge in with_it.boxes[finding])
    change = np.abs(with_it.pixels - without.pixels)
    assert change[top:bottom, left:right].sum() > 0.5 * change.sum() > 0


def _plan_and_forget(monkeypatch):
    """A `plan_site` that uses up the same chance, with the frontal view then drawn as if nothing had been planned."""
    plan, frontal = phantom_drawing.plan_site, phantom_drawing.draw_frontal
    monkeypatch.setattr(
        phantom_drawing, "draw_frontal", lambda person, sites, ratio, rng: frontal(person, {}, person.heart, rng)
    )
    return plan


def test_larger_words_make_larger_boxes(upright):
    for kind, side in (("effusion", "left"), ("nodule", "right"), ("cardiomegaly", "-")):
        areas = []
        for finding in [one for one in all_findings(kind) if one.side == side and one.place in ("-", "middle")]:
            left, top, right, bottom = draw([finding], 7)[0].boxes[finding]
            areas.append((right - left) * (bottom - top))
        assert areas == sorted(areas)
        assert areas[-1] > 1.3 * areas[0]


def test_places_come_in_order_from_the_apex_down(upright):
    for kind in ("consolidation", "nodule", "fracture"):
        levels = []
        for finding in [one for one in all_findings(kind) if one.side == "right" and one.size in ("-", "small")]:
            _, top, _, bottom = draw([finding], 8)[0].boxes[finding]
            levels.append((top + bottom) / 2)
        assert levels == sorted(levels)


def test_both_views_show_a_nodule_at_one_level(upright):
    finding = Finding("nodule", "right", "large", "middle")
    frontal, lateral = draw([finding], 9)
    assert abs(frontal.boxes[finding][1] - lateral.boxes[finding][1]) < 6


def test_lungs_are_darker_than_heart_and_abdomen(upright):
    film = draw([], 10)[0].pixels
    lung, heart, abdomen = film[100:130, 70:90], film[140:160, 120:140], film[230:245, 100:150]
    assert lung.mean() < 0.5 * heart.mean()
    assert lung.mean() < 0.5 * abdomen.mean()


@pytest.mark.slow
def test_no_combination_of_findings_fails_to_draw():
    from radscribe.training.readers.phantom import choose_findings, study_random

    for index in range(300):
        rng = study_random(11, index)
        findings = choose_findings(rng)
        assert set(draw_study(findings, rng)[0].boxes) == set(findings)
