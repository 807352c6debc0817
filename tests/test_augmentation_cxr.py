"""Train-time changes of a film: never mirrored, repeatable, gentle."""

import numpy as np
import pytest
from PIL import Image

from radscribe.processing.augmentation_cxr import CXRAugmentation

ALL_AUGMENTATIONS = [CXRAugmentation(), *map(CXRAugmentation.from_preset, ("r2gen", "medclip", "uar"))]


@pytest.fixture
def film():
    """A smooth 40 x 48 (H, W) grey film, darker to the left."""
    return np.linspace(10, 240, 40 * 48).reshape(48, 40).T.astype(np.uint8).copy()


@pytest.mark.parametrize("augmentation", ALL_AUGMENTATIONS)
def test_augmentation_never_flips_left_and_right(augmentation):
    film = np.zeros((256, 256), np.uint8)
    film[96:160, 40:90] = 200  # a mark in the left half of the picture
    for seed in range(50):
        out = np.asarray(augmentation(Image.fromarray(film), np.random.default_rng(seed)), float)
        half = out.shape[1] // 2
        assert out[:, :half].sum() > 2 * out[:, half:].sum()


@pytest.mark.parametrize("augmentation", ALL_AUGMENTATIONS)
def test_same_generator_state_gives_the_same_film(augmentation, film):
    image = Image.fromarray(film)
    first, second = (np.asarray(augmentation(image, np.random.default_rng(3))) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("augmentation", ALL_AUGMENTATIONS)
def test_films_differ_between_draws(augmentation, film):
    rng = np.random.default_rng(3)
    first, second = (np.asarray(augmentation(Image.fromarray(film), rng)) for _ in range(2))
    assert (first != second).any()


def test_augmentation_keeps_nearly_everything():
    film = np.full((224, 224), 100, np.uint8)
    shown = [np.mean(np.asarray(CXRAugmentation()(film, np.random.default_rng(s))) > 30) for s in range(50)]
    assert min(shown) > 0.85


@pytest.mark.parametrize(("name", "side"), [("r2gen", 224), ("uar", 112)])
def test_random_crop_of_the_papers_comes_out_at_their_size(name, side, film):
    out = CXRAugmentation.from_preset(name)(Image.fromarray(film), np.random.default_rng(0))
    assert out.size == (side, side)


def test_array_comes_back_as_a_float_array(film):
    out = CXRAugmentation()(film / 255, np.random.default_rng(0))
    assert out.dtype == np.float32 and out.shape == film.shape and 0 <= out.min() and 10 < out.max() <= 255


def test_16_bit_film_stays_finer_than_8_bit(film):
    out = CXRAugmentation()(Image.fromarray(film.astype(np.uint16) * 77), np.random.default_rng(0))
    assert out.mode == "F"


@pytest.mark.parametrize(
    "settings", [{"resize": 256}, {"resize": 200, "crop": 224}, {"zoom": 1.0}, {"degrees": 180.0}]
)
def test_bad_augmentation_is_refused(settings):
    with pytest.raises(ValueError, match="Got"):
        CXRAugmentation(**settings)
