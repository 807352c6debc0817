"""The pointing game: heat in the box, and the share of the film that the box covers."""

import json
import sys

import numpy as np
import pytest

from radscribe.training import pointing_game as module
from radscribe.training.explain import Explanation, Sentence
from radscribe.training.heat_maps import GRID
from radscribe.training.pointing_game import play
from radscribe.training.train import train


def explanation(heat):
    """Of one 24 x 24 film whose one sentence has this heat at the places."""
    text = "There is a pacemaker."
    return Explanation(
        text, text.split(), np.ones(4), [Sentence(text, 0, 4, 1.0)], [np.zeros((24, 24), np.uint8)], [(0, 0, 24, 24)],
        np.stack([heat[None]] * 4), np.ones((4, 1, 2, 2)), None, None,
    )  # fmt: skip


@pytest.fixture
def sentence(monkeypatch):
    """Any sentence states the finding "pacemaker/-/-/-"."""
    from radscribe.training.readers.phantom_grammar import Finding

    finding = Finding("pacemaker")
    monkeypatch.setattr(module, "read_report", lambda text: type("Read", (), {"findings": [finding]}))
    return {"name": finding.name, "image": 0, "box": [0.0, 0.0, 12.0, 12.0]}


def test_heat_inside_the_box_is_a_share_of_one_and_a_hit(sentence):
    heat = np.zeros((GRID, GRID))
    heat[2, 2] = 3.0
    ((kind, (share, hit, _, _, chance)),) = module._score(explanation(heat), [sentence])
    assert (kind, share, hit, chance) == ("pacemaker", pytest.approx(1), 1, 0.25)


def test_heat_elsewhere_is_a_miss(sentence):
    heat = np.zeros((GRID, GRID))
    heat[9, 9] = 1.0
    ((_, (share, hit, *_)),) = module._score(explanation(heat), [sentence])
    assert (share, hit) == (pytest.approx(0), 0)


def test_heat_everywhere_alike_is_chance(sentence):
    ((_, (share, _, attended, _, chance)),) = module._score(explanation(np.ones((GRID, GRID))), [sentence])
    assert share == pytest.approx(chance) and attended == pytest.approx(chance)


def test_a_finding_that_no_film_of_the_model_shows_does_not_play(sentence):
    assert not list(module._score(explanation(np.ones((GRID, GRID))), [sentence | {"image": 1}]))


@pytest.mark.slow
def test_all_findings_of_a_split_play(settings, phantoms, tmp_path, monkeypatch, capsys):
    train("mcsam_phantom", settings(tmp_path / "run"))
    checkpoint = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["pointing_game", str(checkpoint), "--dataset", str(phantoms)])
    module.main()
    result = json.loads(capsys.readouterr().out)
    assert 0 <= result["heat_inside"] <= 1 and 0 < result["chance"] < 1
    assert sum(row["findings"] for row in result["rows"]) == result["findings"]
    shuffled = play(str(checkpoint), phantoms, shuffle_images=1)
    assert shuffled["findings"] == result["findings"] and shuffled["heat_inside"] != result["heat_inside"]


def test_a_model_without_the_phantoms_words_is_refused(checkpoint, phantoms):
    with pytest.raises(ValueError, match="its vocabulary is not that of phantoms"):
        play(str(checkpoint), phantoms)


def test_studies_without_boxes_are_refused(checkpoint, study, draw_film, tmp_path):
    from radscribe.training.readers.studies import save_studies

    save_studies([study("a", split="test", images=[str(draw_film("a.png"))])], tmp_path / "set")
    with pytest.raises(ValueError, match="have no boxes: only phantoms do"):
        play(str(checkpoint), tmp_path / "set")
