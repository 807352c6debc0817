"""Image tokenizers by their configurations: which class, how many channels and pixels a token."""

import re

import pytest
from transformers import ResNetConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.configuration_janus import JanusVQVAEConfig

from radscribe.configuration.configuration_image_tokenizer import (
    VisualWordsConfig,
    downsampling,
    film_channels,
    make_tokenizer_config,
    pixels_a_place,
)


def vq(channels, levels=2):
    return JanusVQVAEConfig(in_channels=channels, out_channels=channels, channel_multiplier=[1] * levels)


def test_no_tokenizer_is_the_dalle_dvae():
    assert type(make_tokenizer_config(None)) is FlavaImageCodebookConfig


@pytest.mark.parametrize("kind", [FlavaImageCodebookConfig, JanusVQVAEConfig, VisualWordsConfig])
def test_a_dict_becomes_the_class_of_its_model_type(kind):
    assert type(make_tokenizer_config({"model_type": kind.model_type})) is kind


def test_a_dict_keeps_its_sizes():
    assert make_tokenizer_config({"model_type": "janus_vqgan", "num_embeddings": 24}).num_embeddings == 24


def test_a_configuration_is_taken_as_it_is():
    config = JanusVQVAEConfig()
    assert make_tokenizer_config(config) is config


@pytest.mark.parametrize("kind", [None, "resnet"])
def test_a_dict_of_another_kind_is_refused_with_the_known_ones(kind):
    with pytest.raises(
        ValueError,
        match=rf"^`image_tokenizer` as .* flava_image_codebook or janus_vqgan or visual_words. Got {kind!r}",
    ):
        make_tokenizer_config({"model_type": kind})


@pytest.mark.parametrize(("channels", "film", "side"), [(1, 1, 1), (3, 3, 1), (4, 1, 2), (12, 3, 2), (16, 1, 4)])
def test_the_channels_of_a_place_say_the_films_channels_and_the_pixels(channels, film, side):
    config = vq(channels)
    assert (film_channels(config), pixels_a_place(config)) == (film, side)


def test_the_dalle_dvae_reads_colour_films_pixel_by_pixel():
    config = FlavaImageCodebookConfig()
    assert (film_channels(config), pixels_a_place(config)) == (3, 1)


@pytest.mark.parametrize(("channels", "levels", "step"), [(3, 5, 16), (1, 4, 8), (16, 2, 8), (16, 1, 4), (4, 1, 2)])
def test_a_token_of_a_vq_model_stands_for_its_folded_and_its_pooled_pixels(channels, levels, step):
    assert downsampling(vq(channels, levels)) == step


def test_visual_words_read_the_films_of_their_backbone_pixel_by_pixel(words_sizes):
    grey = VisualWordsConfig(
        **words_sizes | {"encoder": words_sizes["encoder"] | {"num_channels": 1}, "image_mean": [0]}
    )
    found = [(film_channels(config), pixels_a_place(config)) for config in (VisualWordsConfig(**words_sizes), grey)]
    assert found == [(3, 1), (1, 1)]


def test_a_visual_word_stands_for_the_step_of_its_backbone(words_sizes):
    assert downsampling(VisualWordsConfig(**words_sizes | {"step": 32})) == 32


def test_visual_words_are_saved_with_their_backbones_sizes(words_sizes, tmp_path):
    VisualWordsConfig(**words_sizes).save_pretrained(tmp_path)
    loaded = VisualWordsConfig.from_pretrained(tmp_path)
    assert type(loaded.encoder) is ResNetConfig and loaded.encoder.hidden_sizes == [4, 8]
    assert {name: getattr(loaded, name) for name in words_sizes if name != "encoder"} == {
        name: value for name, value in words_sizes.items() if name != "encoder"
    }


REFUSED = {
    "`num_embeddings` must be at least 1. Got 0.": {"num_embeddings": 0},
    "`step` must be at least 1. Got 0.": {"step": 0},
    "`image_mean` must be one number, or one for each of 3 channels. Got [0.5, 0.5].": {"image_mean": [0.5, 0.5]},
    "`image_mean` must be one number, or one for each of 3 channels. Got ['grey'].": {"image_mean": ["grey"]},
    "`image_std` must be above 0. Got [0.0].": {"image_std": [0.0]},
}


@pytest.mark.parametrize("line", REFUSED)
def test_visual_words_that_cannot_be_are_refused(words_sizes, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        VisualWordsConfig(**words_sizes | REFUSED[line])


def test_a_token_of_the_dalle_dvae_stands_for_eight_pixels_a_side():
    assert downsampling(FlavaImageCodebookConfig(hidden_size=4)) == 8
