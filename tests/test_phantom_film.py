"""The film of a phantom: boxes move with the picture, chance comes from the seed alone."""

import numpy as np
import pytest

from radscribe.training.readers.phantom_film import FILM, expose
from radscribe.training.readers.phantom_grammar import Finding

NODULE = Finding("nodule", "right", "small", "upper")


@pytest.fixture
def canvas() -> tuple[np.ndarray, dict[Finding, np.ndarray]]:
    """A dim canvas with one bright rectangle left of the middle and above it, and its box."""
    layer = np.full((256, 256), 0.1, np.float32)
    layer[80:110, 60:100] = 1
    return layer, {NODULE: np.array([60, 80, 100, 110], np.float32)}


def test_a_film_is_an_8_bit_square(canvas):
    film = expose(*canvas, np.random.default_rng(0))
    assert film.pixels.shape == (FILM, FILM)
    assert film.pixels.dtype == np.uint8


@pytest.mark.parametrize("seed", range(5))
def test_a_box_moves_with_what_it_holds(canvas, seed):
    film = expose(*canvas, np.random.default_rng(seed))
    left, top, right, bottom = (round(edge) for edge in film.boxes[NODULE])
    bright = film.pixels > (int(film.pixels.min()) + int(film.pixels.max())) / 2
    # rounding the box may leave out one column, a fortieth
    assert bright[top:bottom, left:right].sum() > 0.95 * bright.sum() > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_film_is_never_mirrored(canvas, seed):
    left, top, right, bottom = expose(*canvas, np.random.default_rng(seed)).boxes[NODULE]
    assert (left + right) / 2 < FILM / 2
    assert (top + bottom) / 2 < FILM / 2


def test_a_box_ends_at_the_edge_of_the_film(canvas):
    layer, _ = canvas
    film = expose(layer, {NODULE: np.array([-90, -90, 400, 400], np.float32)}, np.random.default_rng(0))
    assert film.boxes[NODULE] == [0, 0, FILM, FILM]


def test_one_canvas_gives_equal_films_for_equal_seeds_alone(canvas):
    first, again, other = (expose(*canvas, np.random.default_rng(seed)).pixels for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_canvas_stays_as_it_was(canvas):
    layer = canvas[0].copy()
    expose(*canvas, np.random.default_rng(0))
    np.testing.assert_array_equal(layer, canvas[0])
