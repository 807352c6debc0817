"""UAR's processor: the paper's geometry where none is given, found by the Auto class beside a UAR configuration."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from radscribe import CXRAugmentation, CXRImageProcessor, UARConfig, UARProcessor
from radscribe.processing.processing_text import build_tokenizer


@pytest.fixture
def tokenizer():
    return build_tokenizer(["Heart size normal. No effusion."], min_frequency=1)


@pytest.fixture
def processor(tokenizer):
    return UARProcessor(tokenizer=tokenizer)


@pytest.fixture
def film():
    """128 x 160 pixels, from black to white."""
    return np.linspace(0, 255, 128 * 160).astype(np.uint8).reshape(128, 160)


def test_films_are_112_pixels_as_in_the_paper(processor, film):
    assert processor(film, return_tensors="pt")["pixel_values"].shape == (1, 1, 3, 112, 112)


def test_pixels_stay_in_zero_to_one_for_the_image_tokenizer(processor, film):
    pixels = processor(film, return_tensors="pt")["pixel_values"]
    assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.max() > 0.9


def test_a_film_of_any_shape_is_squashed_whole(processor, film):
    """Nothing is padded: the last row is as bright as the film's."""
    assert processor(film, return_tensors="pt")["pixel_values"][0, 0, 0, -1].min() > 0.9


def test_an_image_processor_of_ones_own_is_kept(tokenizer):
    own = CXRImageProcessor(size=32)
    assert UARProcessor(own, tokenizer).image_processor is own


def test_in_training_a_film_is_cropped_at_random_to_the_same_size(processor, film):
    crop = CXRAugmentation.from_preset("uar")
    films = [crop(film.astype(np.float32), np.random.default_rng(seed)) for seed in (1, 2)]
    assert films[0].shape == (112, 112) and not np.array_equal(*films)


def test_the_auto_class_finds_it_whole(processor, film, tmp_path):
    UARConfig(vocab_size=len(processor.tokenizer)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is UARProcessor
    before, after = (one(film, "No effusion.", return_tensors="pt") for one in (processor, loaded))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_own_settings_survive_saving(tokenizer, tmp_path):
    UARProcessor(CXRImageProcessor(size=32), tokenizer, max_length=77, report_style="mimic").save_pretrained(tmp_path)
    loaded = UARProcessor.from_pretrained(tmp_path)
    assert (loaded.max_length, loaded.report_style, loaded.image_processor.size) == (77, "mimic", 32)
