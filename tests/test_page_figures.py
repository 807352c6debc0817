"""The page's figures: SVG that keeps its text, takes the page's colours and shares no id with another figure."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from radscribe.training.page.page_figures import Bar, draw_findings, draw_lengths, draw_prevalence
from radscribe.training.page.page_numbers import Interval

BARS = [Bar("Edema", 12, 0.4, Interval(0.2, 0.6), 0.1, Interval(0.0, 0.3)), Bar("Fracture", 0, 0.0, None)]
SHARES = {"Edema": {"true": 0.1, "predicted": 0.05}, "Fracture": {"true": 0.1, "predicted": 0.05}}


@pytest.fixture(scope="module")
def drawn():
    return {
        "findings": draw_findings(BARS, "F1"),
        "units": draw_findings(BARS, "F1", "units"),
        "prevalence": draw_prevalence(SHARES, "shares"),
        "lengths": draw_lengths([3, 8, 40], [5, 5, 5], 'words "a report"'),
    }


@pytest.mark.parametrize("name", ["findings", "prevalence", "lengths"])
def test_a_figure_is_one_svg_element_with_a_spoken_label(drawn, name):
    element = ElementTree.fromstring(drawn[name])
    assert element.tag.endswith("svg") and element.get("role") == "img" and element.get("aria-label")


@pytest.mark.parametrize("name", ["findings", "prevalence", "lengths"])
def test_colours_are_the_pages(drawn, name):
    assert "var(--accent)" in drawn[name] and not re.search(r"#[0-9a-f]{6}\b", drawn[name])


def test_figures_share_no_ids(drawn):
    ids = [found for text in drawn.values() for found in re.findall(r'\bid="([^"]*)"', text)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["findings", "prevalence", "lengths"])
def test_references_within_a_figure_lead_somewhere(drawn, name):
    ids = set(re.findall(r'\bid="([^"]*)"', drawn[name]))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', drawn[name])) <= ids


@pytest.mark.parametrize("text", ["Edema (12)", ">.400<", ">.100<"])
def test_text_stays_text(drawn, text):
    assert text in drawn["findings"]


def test_every_observation_is_named_beside_its_point(drawn):
    places = re.findall(r"<text[^>]*>(Edema|Fracture)<", drawn["prevalence"])
    assert sorted(places) == ["Edema", "Fracture"]


def test_names_of_points_at_one_place_stand_apart(drawn):
    found = re.findall(r"translate\(([\d.]+) ([\d.]+)\)[^>]*>(?:Edema|Fracture)<", drawn["prevalence"]) or re.findall(
        r'x="([\d.]+)" y="([\d.]+)"[^>]*>(?:Edema|Fracture)<', drawn["prevalence"]
    )
    assert len(set(found)) == 2


def test_the_same_data_gives_the_same_bytes(drawn):
    assert draw_findings(BARS, "F1") == drawn["findings"]


def test_the_users_matplotlib_settings_stay(drawn):
    assert matplotlib.rcParams["svg.fonttype"] == matplotlib.rcParamsDefault["svg.fonttype"]


def test_reports_without_words_can_be_drawn():
    assert "<svg" in draw_lengths([0, 0], [0, 0], "words")
