"""The picture of an explanation: a row a sentence, colour where the heat is and nowhere else."""

import numpy as np
import pytest
from PIL import Image

from radscribe.training.explain import Explanation, Observation, Sentence
from radscribe.training.explain_sheet import draw_explanation, paint_films
from radscribe.training.heat_maps import GRID


@pytest.fixture
def explanation():
    """Two films; the heat of the first sentence lies in the first film's upper left, the second one has none."""
    heat = np.zeros((4, 2, GRID, GRID))
    heat[:2, 0, :3, :3] = 1.0
    films = [np.full((120, 96), 100, np.uint8), np.full((60, 60), 50, np.uint8)]
    sentences = [Sentence("Heart enlarged.", 0, 2, 0.5), Sentence("Lungs clear.", 2, 4, 0.75)]
    boxes = [(0, 0, 96, 120), (0, 0, 60, 60)]
    words = "heart enlarged lungs clear".split()
    attention = np.ones((4, 2, 2, 2)) / 8
    return Explanation("", words, np.ones(4), sentences, films, boxes, heat, attention, None, None)


def test_colour_lies_where_the_heat_is(explanation):
    first, second = map(np.asarray, paint_films(explanation, explanation.heat_of([0, 1])))
    assert first[10, 10, 0] > 200 > first[10, 10, 2]
    assert (first[60:, 60:] == 100).all() and (second == 50).all()


def test_a_sentence_without_heat_leaves_the_films_grey(explanation):
    for film, painted in zip(explanation.films, paint_films(explanation, explanation.heat_of([2, 3])), strict=True):
        assert (np.asarray(painted) == film[..., None]).all()


def test_films_keep_their_size(explanation):
    assert [film.size for film in paint_films(explanation, explanation.heat_of([0, 1]))] == [(96, 120), (60, 60)]


def test_the_picture_has_a_row_a_sentence(explanation, tmp_path):
    one = Image.open(draw_explanation(explanation, tmp_path / "two.png")).height
    explanation.sentences.pop()
    assert Image.open(draw_explanation(explanation, tmp_path / "one.png")).height < one


def test_an_observation_that_was_told_has_a_row_and_one_that_was_not_has_none(explanation, tmp_path):
    before = Image.open(draw_explanation(explanation, tmp_path / "before.png")).height
    places = np.ones((2, GRID, GRID))
    explanation.observations = [Observation("Edema", 0.1, 0.5, places)]
    assert Image.open(draw_explanation(explanation, tmp_path / "not.png")).height == before
    explanation.observations = [Observation("Edema", 0.6, 0.5, places)]
    assert Image.open(draw_explanation(explanation, tmp_path / "told.png")).height > before
