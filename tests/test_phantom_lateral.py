"""The lateral view: what a film from the side shows of the findings, and what it does not."""

import numpy as np
import pytest

from radscribe.training.readers.phantom_anatomy import MIDLINE, Array, Person, make_person, shape_profile
from radscribe.training.readers.phantom_grammar import Finding
from radscribe.training.readers.phantom_lateral import draw_lateral
from radscribe.training.readers.phantom_plan import plan_site

NODULE = Finding("nodule", "right", "large", "upper")


@pytest.fixture
def person() -> Person:
    return make_person(np.random.default_rng(5))


def draw(person: Person, *findings: Finding) -> tuple[Array, dict[Finding, Array]]:
    """The same person and the same chance whatever the findings."""
    sites = {finding: plan_site(finding, np.random.default_rng(6)) for finding in findings}
    return draw_lateral(person, sites, person.heart, np.random.default_rng(7))


@pytest.mark.parametrize("kind", ["fracture", "pneumothorax"])
def test_fracture_and_pneumothorax_do_not_show(person, kind):
    size, place = ("large", "-") if kind == "pneumothorax" else ("-", "upper")
    layer, boxes = draw(person, Finding(kind, "left", size, place))
    np.testing.assert_array_equal(layer, draw(person)[0])
    assert boxes == {}


@pytest.mark.parametrize(
    "finding",
    [
        NODULE,
        Finding("consolidation", "left", place="middle"),
        Finding("effusion", "left", "large"),
        Finding("pacemaker", "left"),
    ],
    ids=lambda finding: finding.kind,
)
def test_a_finding_changes_the_film_inside_its_box(person, finding):
    layer, boxes = draw(person, finding)
    left, top, right, bottom = boxes[finding].astype(int)
    change = np.abs(layer - draw(person)[0])
    assert change[top:bottom, left:right].mean() > 2 * change.mean() > 0


def test_a_nodule_is_denser_than_the_lung_around_it(person):
    layer, boxes = draw(person, NODULE)
    left, top, right, bottom = boxes[NODULE].astype(int)
    middle = np.s_[(top + bottom) // 2, (left + right) // 2]
    assert layer[middle] > draw(person)[0][middle]


def test_a_nodule_of_either_lung_looks_alike(person):
    right, left = draw(person, NODULE), draw(person, NODULE._replace(side="left"))
    np.testing.assert_array_equal(right[1][NODULE], left[1][NODULE._replace(side="left")])


def test_a_nodule_lies_at_its_level_of_the_lung(person):
    profile, level = shape_profile(person), plan_site(NODULE, np.random.default_rng(6)).level
    _, top, _, bottom = draw(person, NODULE)[1][NODULE]
    assert abs((top + bottom) / 2 - (profile.apex + level * (profile.crest - profile.apex))) < 2


def test_fluid_lies_on_the_diaphragm(person):
    fluid = Finding("effusion", "left", "small")
    assert draw(person, fluid)[1][fluid][3] > shape_profile(person).crest


def test_a_pacemaker_lies_in_front_of_the_chest(person):
    pacemaker = Finding("pacemaker", "left")
    assert draw(person, pacemaker)[1][pacemaker][2] < MIDLINE
