"""The tables of the rule labeller: complete, and patterns that match what they should and never nothing."""

import pytest

from radscribe.training.metrics import rule_phrases as tables
from radscribe.training.metrics.mesh_observations import OBSERVATIONS
from radscribe.training.metrics.rule_phrases import PHRASES, STRUCTURES, any_of

CUES = [name for name in vars(tables) if name.isupper() and hasattr(getattr(tables, name), "search")]


def test_every_observation_but_no_finding_has_phrases():
    assert list(PHRASES) == list(OBSERVATIONS[1:])


def test_structures_speak_of_known_observations():
    assert {one.observation for one in STRUCTURES} <= set(PHRASES)


@pytest.mark.parametrize("name", [*PHRASES, *CUES])
def test_no_pattern_matches_an_empty_text(name):
    pattern = PHRASES[name] if name in PHRASES else getattr(tables, name)
    assert pattern.search("") is None and pattern.search(" . , ") is None


def test_a_phrase_begins_at_the_start_of_a_word():
    assert any_of(r"edema").search("myxedema") is None


def test_a_blank_in_a_phrase_matches_a_line_break():
    assert any_of(r"pleural fluid").search("pleural\n  fluid")


def test_a_phrase_stands_for_its_observation_only_once():
    words = ["cardiomegaly", "consolidation", "pneumonia", "atelectasis", "pneumothorax", "fracture", "pacemaker"]
    assert all(sum(bool(pattern.search(word)) for pattern in PHRASES.values()) == 1 for word in words)
