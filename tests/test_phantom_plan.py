"""The plan of a finding: its words fix ranges that do not meet, the same ones in both views."""

import numpy as np
import pytest

from radscribe.training.readers.phantom_grammar import KINDS, Finding, all_findings
from radscribe.training.readers.phantom_plan import Site, box_around, draw_cloud, plan_site

STEPS = np.arange(-40, 41, dtype=np.float32)


def plan_many(finding: Finding) -> list[Site]:
    rng = np.random.default_rng(0)
    return [plan_site(finding, rng) for _ in range(50)]


@pytest.mark.parametrize("kind", ["consolidation", "nodule"])
def test_places_are_levels_that_do_not_meet(kind):
    sites = [plan_many(Finding(kind, "left", "small", place)) for place in ("upper", "middle", "lower")]
    levels = [[site.level for site in one] for one in sites]
    assert max(levels[0]) < min(levels[1])
    assert max(levels[1]) < min(levels[2])


@pytest.mark.parametrize(
    ("kind", "measure"),
    [("nodule", "radius"), ("cardiomegaly", "radius"), ("pneumothorax", "radius"), ("effusion", "level")],
)
def test_sizes_are_measures_that_do_not_meet(kind, measure):
    found = [plan_many(Finding(kind, "left", size, "upper")) for size in KINDS[kind].sizes]
    values = [[getattr(site, measure) for site in sites] for sites in found]
    for smaller, larger in zip(values, values[1:], strict=False):
        assert max(smaller) < min(larger)


def test_every_finding_uses_up_as_much_chance_as_any_other():
    # a word changed in a study must not change the person's pose or the noise of the film
    after = set()
    for finding in (finding for kind in KINDS for finding in all_findings(kind)):
        rng = np.random.default_rng(3)
        plan_site(finding, rng)
        after.add(rng.uniform())
    assert len(after) == 1


def test_a_cloud_covers_its_centre_and_ends_within_two_radii():
    site = plan_site(Finding("consolidation", "left", place="upper"), np.random.default_rng(1))
    cloud = draw_cloud(STEPS[None] * site.radius / 20, STEPS[:, None] * site.radius / 20, site)
    assert cloud.shape == (81, 81)
    assert cloud[20:61, 20:61].max() > 0.5  # within one radius
    assert 0 <= cloud.min() and cloud.max() <= 1
    assert max(cloud[0].max(), cloud[-1].max(), cloud[:, 0].max(), cloud[:, -1].max()) == 0


def test_a_box_holds_what_is_above_half_of_the_greatest_coverage():
    mask = np.zeros((10, 12), np.float32)
    mask[2:5, 3:9] = 0.8
    mask[0, 0] = 0.3
    np.testing.assert_array_equal(box_around(mask), [3, 2, 9, 5])
