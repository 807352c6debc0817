"""`radscribe train image_tokenizer_...`: codes that restart, figures and a picture of unseen films, stock weights."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.janus.modeling_janus import JanusVQVAE

from radscribe import CXRImageProcessor
from radscribe.modeling.modeling_image_tokenizer import VQTokenizer, unfold_pixels
from radscribe.training.image_tokenizer import (
    RestartUnused,
    SingleFilms,
    TokenizerTraining,
    describe_codes,
    draw_sheet,
    measure,
    parse_tokenizer_recipe,
    train_image_tokenizer,
)
from radscribe.training.readers.studies import load_studies, save_studies
from radscribe.training.recipe import load_recipe, read_values, recipe_names
from radscribe.training.train import train

SHIPPED = [name for name in recipe_names() if name.startswith("image_tokenizer")]


@pytest.fixture
def values(vq_sizes, tmp_path):
    """Recipe keys of a run of six steps on the tiny VQ model and 32-px films."""
    pixels = {"size": 32, "num_channels": 1, "image_mean": [0.0], "image_std": [1.0]}
    short = {"max_steps": 6, "batch_size": 4, "restart_steps": 2}
    where = {"model": "image_tokenizer", "dataset": str(tmp_path / "set"), "output_dir": str(tmp_path / "run")}
    return where | short | {"config": vq_sizes, "image_processor": pixels}


@pytest.fixture
def studies(tmp_path, study):
    """Eight made-up studies to train on and three to validate: a bright disc somewhere; the first has two views."""
    rng, records = np.random.default_rng(0), []
    for i in range(11):
        paths = [tmp_path / f"{i}_{view}.png" for view in range(1 + (i == 0))]
        for path in paths:
            x, y, radius = rng.integers(8, 24, 3)
            rows, columns = np.mgrid[:32, :32]
            disc = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2 / 4) * 150 + rng.integers(0, 60)
            Image.fromarray(disc.astype(np.uint8)).save(path)
        split = "train" if i < 8 else "val"
        records.append(study(f"s{i}", split=split, images=list(map(str, paths)), views=[""] * len(paths)))
    save_studies(records, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def films(studies, values):
    """The validation films, (1, 32, 32) each."""
    return SingleFilms(load_studies(studies, "val"), CXRImageProcessor(**values["image_processor"]), 2)


@pytest.fixture
def training(image_tokenizer):
    """The tiny VQ model with its losses, ready for a first step."""
    return TokenizerTraining(JanusVQVAE.from_pretrained(image_tokenizer)).train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 1, 32, 32, generator=generator) * torch.linspace(0.1, 1, 4).view(4, 1, 1, 1)


def codes(training):
    return training.vq.quantize.embedding.weight.detach().clone()


def is_among(rows, others):
    """Which of these rows (n, D) is one of those (m, D): (n,)."""
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").amin(1) == 0


# Recipes


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_parses(name):
    assert parse_tokenizer_recipe(read_values(name)).max_steps > 1


def test_a_shipped_recipe_gives_the_tokens_of_uars_recipe():
    tokens, uar = parse_tokenizer_recipe(read_values("image_tokenizer_phantom")), load_recipe("uar_phantom")
    assert tokens.output_dir == uar.image_tokenizer and tokens.image_processor == uar.image_processor


REFUSED = {
    "Unknown recipe key `max_step`. Did you mean `max_steps`?": {"max_step": 3},
    "Unknown config key `num_embedings`. Did you mean `num_embeddings`?": {"config": {"num_embedings": 8}},
    "Unknown image_processor key `sizes`. Did you mean `size`?": {"image_processor": {"sizes": 8}},
    "`max_steps` must be at least 1. Got 0.": {"max_steps": 0},
    "`restart_steps` must be at least 1. Got 0.": {"restart_steps": 0},
    "`learning_rate` must be float. Got 'fast'.": {"learning_rate": "fast"},
    "`image_processor` must leave pixels in [0, 1]: image_mean [0.0], image_std [1.0].": {
        "image_processor": {"image_mean": [0.5]}
    },
    "`num_embeddings` must be at least 1. Got 0.": {"config": {"num_embeddings": 0}},
    "`config.in_channels` and `config.out_channels` must be one number, r x r pixels of 1 or 3 channels. "
    "Got 16 and 4.": {"config": {"out_channels": 4}},
    "`config.in_channels` and `config.out_channels` must be one number, r x r pixels of 1 or 3 channels. "
    "Got 5 and 5.": {"config": {"in_channels": 5, "out_channels": 5}},
    "`config.base_channels` must be a multiple of 32 (its norms). Got 16.": {"config": {"base_channels": 16}},
    "`config.in_channels` of 16 reads films of 1 channels. Got `image_processor.num_channels` 3.": {
        "image_processor": {"num_channels": 3}
    },
    "`config.num_patches` must be the film's 32 pixels by the tokenizer's step of 8. Got 5.": {
        "config": {"num_patches": 5}
    },
    "`config.num_patches` must be the film's 36 pixels by the tokenizer's step of 8. Got 4.": {
        "image_processor": {"size": 36}
    },
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(values, line):
    changed = {key: values[key] | value if isinstance(value, dict) else value for key, value in REFUSED[line].items()}
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        parse_tokenizer_recipe(values | changed)


WRONG_TYPES = [
    {"config": {"num_embeddings": "many"}},
    {"config": {"channel_multiplier": 2}},
    {"config": {"latent_channels": None}},
    {"image_processor": {"image_mean": {"a": 1}}},
]


@pytest.mark.parametrize("changes", WRONG_TYPES)
def test_an_inner_value_of_the_wrong_type_is_refused_in_one_line(values, changes):
    changed = {key: values[key] | value for key, value in changes.items()}
    with pytest.raises(ValueError, match=r"^`(config|image_processor)` holds a value of the wrong type [^\n]+$"):
        parse_tokenizer_recipe(values | changed)


@pytest.mark.parametrize("key", ["config", "image_processor", "max_steps"])
def test_a_key_without_default_must_be_there(values, key):
    with pytest.raises(ValueError, match=f"The recipe lacks `{key}`"):
        parse_tokenizer_recipe({name: value for name, value in values.items() if name != key})


# Codes


def test_before_the_first_step_every_code_is_what_the_encoder_says_of_some_place(training, batch):
    torch.nn.init.normal_(training.vq.quantize.embedding.weight)
    training(batch)
    assert is_among(codes(training), training.encoded).all()


def test_unused_codes_restart_from_what_the_encoder_says_of_some_place(training, batch):
    training(batch)
    unused = training.used == 0
    torch.nn.init.normal_(training.vq.quantize.embedding.weight)
    training.restart_unused()
    assert unused.any() and torch.equal(is_among(codes(training), training.encoded), unused)


def test_used_codes_stay_when_others_restart(training, batch):
    training(batch)
    before, used = codes(training), training.used > 0
    training.restart_unused()
    training(batch)  # the step after a restart
    assert used.any() and torch.equal(codes(training)[used], before[used])


def test_every_place_of_a_batch_is_counted_once(training, batch):
    training(batch)
    assert training.used.sum() == 4 * 16


def test_after_a_restart_the_count_begins_anew(training, batch):
    training(batch)
    training.restart_unused()
    assert training.used.sum() == 0


def test_measuring_restarts_no_code(training, batch):
    before = codes(training)
    training.eval()(batch)
    assert torch.equal(codes(training), before)


def test_codes_restart_every_so_many_steps_until_the_codebook_settles():
    restarted = []
    callback = RestartUnused(SimpleNamespace(restart_unused=lambda: restarted.append(step)), every=2)
    for step in range(1, 11):
        callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=10), None)
    assert restarted == [2, 4, 6]


# Losses, figures, picture


def test_the_loss_is_the_sum_of_its_parts(training, batch):
    output = training(batch)
    torch.testing.assert_close(output["loss"], output["pixel_loss"] + output["codebook_loss"])


def test_gradients_reach_encoder_codes_and_decoder(training, batch):
    training(batch)["loss"].backward()
    assert [name for name, parameter in training.named_parameters() if parameter.grad is None] == []


def test_the_stock_decode_gives_the_very_films_of_the_training(training, batch):
    output = training.eval()(batch)
    decoded = unfold_pixels(training.vq.decode(output["ids"]), training.vq.config)
    torch.testing.assert_close(decoded, output["films"], atol=1e-5, rtol=1e-4)


def test_the_codes_of_the_training_are_those_that_uar_reads(training, batch):
    tokenizer = VQTokenizer(training.vq.config)
    tokenizer.model.load_state_dict(training.vq.state_dict(), strict=False)
    assert torch.equal(tokenizer(batch), training.eval()(batch)["ids"])


def test_there_is_one_item_a_film_up_to_the_views_that_are_read(studies, values):
    records, processor = load_studies(studies, "train"), CXRImageProcessor(**values["image_processor"])
    assert [len(SingleFilms(records, processor, views)) for views in (1, 2)] == [8, 9]


def test_the_figures_do_not_depend_on_the_batches(training, films):
    training.eval()
    assert measure(training, films, 1) == pytest.approx(measure(training, films, 3), abs=2e-3)


def test_the_error_is_the_mean_difference_in_grey_levels(training, films):
    training.eval()
    raw = torch.stack([films[i] for i in range(3)])
    expected = 255 * (training(raw)["films"] - raw).abs().mean()
    assert measure(training, films, 3)["error_grey_levels"] == pytest.approx(expected.item(), abs=1e-3)


def test_films_that_all_use_one_code_have_a_perplexity_of_one(training, films):
    torch.nn.init.constant_(training.vq.quantize.embedding.weight, 100.0)
    torch.nn.init.zeros_(training.vq.quantize.embedding.weight[:1])
    figures = measure(training.eval(), films, 2)
    assert (figures["perplexity"], figures["codes_used"]) == (1.0, round(1 / 24, 4))


def test_codes_that_are_used_alike_have_a_perplexity_of_their_number():
    assert describe_codes(torch.tensor([3.0, 0.0, 3.0, 0.0])) == {"codes_used": 0.5, "perplexity": 2.0}


def test_the_picture_has_the_films_over_their_reconstructions_over_the_residuals(training, films):
    picture = np.asarray(draw_sheet(training.eval(), [films[i] for i in range(3)]), dtype=int)
    raw, decoded, residual = picture[:32], picture[32:64], picture[64:]
    assert picture.shape == (3 * 32, 3 * 32)
    assert np.array_equal(raw[:, :32], (films[0][0].numpy() * 255).round())
    assert abs(residual - (raw - decoded + 127.5).clip(0, 255)).max() <= 2


# A run


@pytest.fixture
def run(studies, values, tmp_path):
    """A run that is done: its folder and what it returned."""
    return tmp_path / "run", train_image_tokenizer(parse_tokenizer_recipe(values))


@pytest.mark.slow
def test_the_weights_load_as_the_stock_model_and_decode_as_in_training(run, films):
    stock = JanusVQVAE.from_pretrained(run[0])
    output = TokenizerTraining(stock).eval()(torch.stack([films[i] for i in range(3)]))
    decoded = unfold_pixels(stock.decode(output["ids"]), stock.config)
    torch.testing.assert_close(decoded, output["films"], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_figures_are_those_of_the_validation_films(run, films):
    model = TokenizerTraining(JanusVQVAE.from_pretrained(run[0])).eval()
    assert run[1]["validation"] == pytest.approx(measure(model, films, 4), abs=2e-3)


@pytest.mark.slow
def test_the_folder_holds_recipe_geometry_log_picture_and_result(run):
    folder, result = run
    names = ("recipe.yaml", "preprocessor_config.json", "metrics.jsonl", "films.png", "model.safetensors")
    assert all((folder / name).is_file() for name in names)
    assert json.loads((folder / "result.json").read_text()) == result and result["steps"] == 6
    assert Image.open(folder / "films.png").size == (3 * 32, 3 * 32)


@pytest.mark.slow
def test_the_log_says_how_many_codes_the_films_use(studies, values, tmp_path):
    train_image_tokenizer(parse_tokenizer_recipe(values | {"max_steps": 100}))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [50, 100]
    assert all(0 < line["codes_used"] <= 1 <= line["perplexity"] <= 24 for line in logged)


@pytest.mark.slow
def test_the_saved_recipe_trains_again_as_one_command(run, tmp_path, values):
    result = train(str(run[0] / "recipe.yaml"), [f"output_dir={tmp_path / 'again'}"])
    assert result["validation"] == run[1]["validation"]


@pytest.mark.slow
def test_films_come_back_better_after_more_steps(studies, values, tmp_path):
    few, many = (
        train_image_tokenizer(
            parse_tokenizer_recipe(values | {"max_steps": steps, "output_dir": str(tmp_path / str(steps))})
        )
        for steps in (1, 60)
    )
    assert many["validation"]["error_grey_levels"] < few["validation"]["error_grey_levels"] / 2


def test_a_used_folder_is_refused(values, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"^`output_dir` `[^\n]*run` is not a new or empty folder. Set another one\.$"
    ):
        train_image_tokenizer(parse_tokenizer_recipe(values))


def test_a_data_set_without_validation_leaves_no_folder(values, study, tmp_path):
    save_studies([study("a")], tmp_path / "set")
    with pytest.raises(ValueError, match="has no split 'val'"):
        train_image_tokenizer(parse_tokenizer_recipe(values))
    assert not (tmp_path / "run").exists()


def test_resuming_is_refused_in_one_line(values, tmp_path):
    (tmp_path / "page.yaml").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"^`--resume`: a recipe of `image_tokenizer` [^\n]* Start anew\.$"):
        train(str(tmp_path / "page.yaml"), [], resume=True)


@pytest.mark.slow
def test_a_broken_film_is_one_line(radscribe, studies, values, tmp_path):
    (tmp_path / "3_0.png").write_text("no film")
    (tmp_path / "page.yaml").write_text(json.dumps(values))
    code, out, err = radscribe("train", tmp_path / "page.yaml")
    assert (code, out) == (2, "") and "Traceback" not in err
    assert re.fullmatch(r"Error: `[^`]*3_0.png` is no image that Pillow can read.*", err.splitlines()[-1])
