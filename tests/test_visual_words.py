"""`radscribe train visual_words_...`: a codebook by k-means of a frozen backbone's features, and its figures."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

from radscribe import CXRImageProcessor
from radscribe.modeling.modeling_image_tokenizer import VisualWords
from radscribe.training import visual_words as module
from radscribe.training.readers.studies import save_studies
from radscribe.training.recipe import load_recipe, read_values
from radscribe.training.train import train
from radscribe.training.visual_words import (
    build_words,
    choose_films,
    find_codes,
    find_visual_words,
    measure_words,
    parse_words_recipe,
)


@pytest.fixture
def backbone(words_sizes):
    """A random backbone that gives 8 channels for 8 x 8 pixels."""
    torch.manual_seed(0)
    sizes = {name: value for name, value in words_sizes["encoder"].items() if name != "model_type"}
    return ResNetModel(ResNetConfig(**sizes)).eval()


@pytest.fixture
def values(backbone, tmp_path):
    """Recipe keys of twelve codes on 32-px films."""
    backbone.save_pretrained(tmp_path / "backbone")
    pixels = {"size": 32, "num_channels": 3, "image_mean": [0.0], "image_std": [1.0]}
    where = {"dataset": str(tmp_path / "set"), "output_dir": str(tmp_path / "run")}
    reader = {"encoder": str(tmp_path / "backbone"), "encoder_mean": [0.5], "encoder_std": [0.25]}
    return {"model": "visual_words", "num_embeddings": 12, "image_processor": pixels, "batch_size": 4} | where | reader


@pytest.fixture
def recipe(values):
    return parse_words_recipe(values)


@pytest.fixture
def processor(values):
    return CXRImageProcessor(**values["image_processor"])


@pytest.fixture
def studies(tmp_path, study):
    """Six made-up studies to train on and three to validate, one film of noise each."""
    rng, records = np.random.default_rng(0), []
    for i in range(9):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(path)
        records.append(study(f"s{i}", split="train" if i < 6 else "val", images=[str(path)], views=[""]))
    save_studies(records, tmp_path / "set")


# Recipes


def test_the_shipped_recipe_parses():
    assert parse_words_recipe(read_values("visual_words_iu")).num_embeddings == 1024


def test_the_shipped_recipe_gives_the_tokens_of_uars_recipe():
    words, uar = parse_words_recipe(read_values("visual_words_iu")), load_recipe("uar_iu_words")
    assert words.output_dir == uar.image_tokenizer and words.image_processor == uar.image_processor
    assert words.max_views == uar.config["max_views"]


REFUSED = {
    "Unknown recipe key `encoders`. Did you mean `encoder`?": {"encoders": "x"},
    "`num_embeddings` must be at least 1. Got 0.": {"num_embeddings": 0},
    "`iterations` must be at least 1. Got 0.": {"iterations": 0},
    "`encoder` must be str. Got None.": {"encoder": None},
    "`encoder_mean` must be list. Got 0.5.": {"encoder_mean": 0.5},
    "Unknown image_processor key `sizes`. Did you mean `size`?": {"image_processor": {"sizes": 8}},
    "`image_processor` must leave pixels in [0, 1]: image_mean [0.0], image_std [1.0].": {
        "image_processor": {"image_mean": [0.5]}
    },
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(values, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        parse_words_recipe(values | REFUSED[line])


@pytest.mark.parametrize("key", ["encoder", "encoder_mean", "encoder_std", "image_processor"])
def test_a_key_without_default_must_be_there(values, key):
    with pytest.raises(ValueError, match=f"The recipe lacks `{key}`"):
        parse_words_recipe({name: value for name, value in values.items() if name != key})


def test_a_folder_with_something_in_it_is_left_alone(recipe, tmp_path):
    with pytest.raises(ValueError, match="is not a new or empty folder"):
        find_visual_words(replace(recipe, output_dir=str(tmp_path)))


def test_a_backbone_that_is_not_there_is_one_line(recipe, studies, tmp_path):
    with pytest.raises(ValueError, match=r"^`encoder`: no vision model by the name `[^\n]*gone`[^\n]*$"):
        find_visual_words(replace(recipe, encoder=str(tmp_path / "gone")))


def test_more_codes_than_places_are_refused(recipe, studies):
    with pytest.raises(ValueError, match=r"^`num_embeddings` must be at most 96, the places of the training films\."):
        find_visual_words(replace(recipe, num_embeddings=97))


def test_there_is_nothing_to_resume(values):
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    with pytest.raises(ValueError, match="^`--resume`: a recipe of `visual_words` trains in minutes"):
        train("visual_words_iu", overrides, resume=True)


# The backbone


def test_the_sizes_are_those_of_the_backbones_feature_map(recipe, backbone, processor):
    config = build_words(recipe, backbone, processor).config
    assert (config.feature_width, config.step, config.num_embeddings) == (8, 8, 12)
    assert (config.image_mean, config.image_std) == ([0.5], [0.25])


def test_the_backbone_comes_with_its_weights(recipe, backbone, processor):
    own = build_words(recipe, backbone, processor).backbone.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in backbone.state_dict().items())


def test_a_backbone_of_other_channels_is_refused(recipe, backbone):
    with pytest.raises(ValueError, match=r"^`image_processor.num_channels` must be 3, as the backbone reads films"):
        build_words(recipe, backbone, CXRImageProcessor(size=32, num_channels=1, image_mean=[0.0], image_std=[1.0]))


def test_a_vision_transformer_gives_no_map_of_features(recipe, processor):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    with pytest.raises(ValueError, match=r"^`encoder` must give a feature map [^\n]* Got shape \(1, 5, 8\)\.$"):
        build_words(recipe, Dinov2Model(Dinov2Config(**sizes)), processor)


def test_films_must_divide_into_places(recipe, backbone):
    films = CXRImageProcessor(size=33, num_channels=3, image_mean=[0.0], image_std=[1.0])
    with pytest.raises(ValueError, match=r"^`encoder` must give a feature map .*`image_processor.size` 33"):
        build_words(recipe, backbone, films)


def test_a_scale_that_cannot_be_is_refused_by_the_recipes_name(recipe, backbone, processor):
    with pytest.raises(ValueError, match="^`encoder_std` must be above 0"):
        build_words(replace(recipe, encoder_std=[0.0]), backbone, processor)


# Codes and figures


@pytest.mark.parametrize(("films", "places", "read"), [(10, 1, 6), (10, 4, 2), (3, 1, 3)])
def test_no_more_films_are_read_than_there_is_room_for_their_places(monkeypatch, films, places, read):
    monkeypatch.setattr(module, "PLACES", 6)
    chosen = choose_films(list(range(films)), places)
    assert len(chosen) == read and len(set(chosen.indices)) == read


@pytest.fixture
def words(recipe, backbone, processor):
    """Visual words whose twelve codes lie far apart, one on each corner of a cube and more."""
    model = build_words(recipe, backbone, processor)
    model.codebook.weight.data = 10.0 * torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    return model


def test_places_that_lie_on_codes_keep_all_of_their_variance(words):
    figures = measure_words(words, words.codebook.weight.detach().repeat(3, 1))
    assert figures == {"codes": 12, "variance_kept": 1.0, "codes_used": 1.0, "perplexity": 12.0}


def test_one_code_for_every_place_keeps_no_variance(words):
    places = words.codebook.weight.detach().clone()
    words.codebook.weight.data = torch.full((12, 8), 1e3)
    words.codebook.weight.data[0] = places.mean(0)
    figures = measure_words(words, places)
    assert figures == {"codes": 12, "variance_kept": 0.0, "codes_used": round(1 / 12, 4), "perplexity": 1.0}


@pytest.mark.slow  # scikit-learn takes a second to import
def test_codes_are_the_centres_of_clusters(recipe):
    centres = 10.0 * torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    places = centres.repeat(40, 1) + 0.01 * torch.randn(480, 8, generator=torch.Generator().manual_seed(1))
    codes = find_codes(places, recipe)
    assert codes.shape == (12, 8) and torch.cdist(centres, codes).amin(1).max() < 0.02


@pytest.mark.slow
def test_a_run_leaves_words_that_load_their_films_geometry_and_figures(values, studies, tmp_path):
    result = train("visual_words_iu", [f"{key}={json.dumps(value)}" for key, value in values.items()])
    run = tmp_path / "run"
    model = VisualWords.from_pretrained(run)
    assert len(model(torch.rand(2, 3, 32, 32))[0]) == 16 and len(model.codebook.weight.unique(dim=0)) == 12
    assert json.loads((run / "preprocessor_config.json").read_text())["size"] == 32
    assert json.loads((run / "result.json").read_text()) == result and result["films"] == 6
    assert parse_words_recipe(read_values(str(run / "recipe.yaml"))).num_embeddings == 12
    assert 0 < result["validation"]["variance_kept"] < 1 and result["validation"]["codes"] == 12
    assert str(tmp_path) not in (run / "config.json").read_text()
