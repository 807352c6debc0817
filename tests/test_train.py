"""`radscribe train` from end to end on a few phantoms: whole folders, resuming, fine-tuning.

Bad input: test_train_command.py. Several stages: test_train_stages.py.
"""

import json
import shutil
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file

from radscribe.training import train as module
from radscribe.training.build import load_checkpoint
from radscribe.training.environment import environment
from radscribe.training.readers.studies import load_studies
from radscribe.training.recipe import load_recipe
from radscribe.training.train import train

FILES = ["recipe.yaml", "config.json", "generation_config.json", "model.safetensors", "metrics.jsonl", "result.json"]
FILES += [
    "training_facts.safetensors",
    "environment.json",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
]
FILES += ["tokenizer_config.json", "checkpoints"]


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A run that is done: its folder and what `train` returned. Copy the folder before changing it."""
    run = tmp_path_factory.mktemp("runs") / "run"
    return run, train("mcsam_phantom", settings(run, memory_init="ot"))


def log_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def words_of(run):
    return set(json.loads((run / "tokenizer.json").read_text())["model"]["vocab"])


# One run, looked at from all sides


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_folder_of_a_run_is_complete(finished, name):
    assert (finished[0] / name).exists()


@pytest.mark.slow
def test_a_run_makes_the_steps_of_its_recipe(finished):
    assert finished[1]["steps"] == 4


@pytest.mark.slow
def test_the_result_is_saved_as_it_is_returned(finished):
    run, result = finished
    assert json.loads((run / "result.json").read_text()) == result


@pytest.mark.slow
def test_the_recipe_is_saved_as_it_was_run(finished, settings):
    run, _ = finished
    assert load_recipe(str(run / "recipe.yaml")) == load_recipe("mcsam_phantom", settings(run, memory_init="ot"))


@pytest.mark.slow
def test_component_losses_are_logged(finished):
    training = [entry for entry in log_of(finished[0]) if "loss" in entry]
    assert [entry["step"] for entry in training] == [2, 4]
    parts = [entry["generation_loss"] + entry["alignment_loss"] for entry in training]  # both weights are 1
    assert [entry["loss"] for entry in training] == pytest.approx(parts, abs=1e-3)


@pytest.mark.slow
def test_validation_writes_reports_and_examines_them(finished):
    steps = [entry["step"] for entry in log_of(finished[0]) if {"eval_finding_f1", "eval_bleu_4"} <= set(entry)]
    assert steps == [2, 4]
    assert {"best_finding_f1", "best_bleu_4"} <= set(log_of(finished[0])[-1])  # and of the best checkpoint at the end


@pytest.mark.slow
def test_the_best_checkpoint_is_what_is_left(finished):
    run, result = finished
    scores = [entry["eval_finding_f1"] for entry in log_of(run) if "eval_finding_f1" in entry]
    assert result["validation"]["finding_f1"] == max(scores)


@pytest.mark.slow
def test_the_weights_left_are_those_of_a_checkpoint(finished):
    run, _ = finished
    own = load_file(run / "model.safetensors")
    saved = [load_file(path / "model.safetensors") for path in (run / "checkpoints").iterdir()]
    assert any(all(torch.equal(own[name], other[name]) for name in own) for other in saved)


@pytest.mark.slow
def test_the_folder_loads_as_model_and_processor(finished):
    model, processor = load_checkpoint(str(finished[0]))
    assert model.config.vocab_size == len(processor.tokenizer)


@pytest.mark.slow
def test_the_folder_says_how_it_writes(finished):
    saved = json.loads((finished[0] / "generation_config.json").read_text())
    assert saved["max_length"] == 70 and saved["decoder_start_token_id"] == 1


@pytest.mark.slow
def test_the_environment_is_written_down(finished):
    saved = json.loads((finished[0] / "environment.json").read_text())
    assert set(saved) == {"data", *environment()} and saved["versions"]["torch"] == version("torch")


@pytest.mark.slow
def test_parameters_are_counted(finished):
    model, _ = load_checkpoint(str(finished[0]))
    assert finished[1]["parameters"] == sum(parameter.numel() for parameter in model.parameters())


# Other runs


@pytest.mark.slow
def test_the_test_split_is_never_opened(settings, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "load_studies", lambda path, split: opened.append(split) or load_studies(path, split))
    train("mcsam_phantom", settings(tmp_path / "run", max_steps=1))
    assert set(opened) == {"train", "val"}


@pytest.mark.slow
def test_words_of_validation_alone_enter_no_vocabulary(settings, own_studies, tmp_path):
    data = own_studies("foggy")
    train("mcsam_phantom", settings(tmp_path / "run", dataset=data, max_steps=1, select_by="bleu_4"))
    assert "foggy" in words_of(tmp_path / "run") and "clear" not in words_of(tmp_path / "run")


@pytest.mark.slow
def test_real_studies_are_not_examined_as_phantoms(settings, own_studies, tmp_path):
    result = train("mcsam_phantom", settings(tmp_path / "run", dataset=own_studies(), max_steps=1, select_by="cider"))
    assert "finding_f1" not in result["validation"] and "cider" in result["validation"]


@pytest.mark.slow
def test_films_beyond_those_of_the_model_are_said_aloud(settings, own_studies, draw_film, tmp_path, capsys):
    films = [str(draw_film(f"{i}.png")) for i in range(3)]
    dataset = own_studies(images=films, views=[""] * 3)
    train("mcsam_phantom", settings(tmp_path / "run", dataset=dataset, select_by="loss", max_steps=1))
    assert "3 training studies have more than 2 films: the first 2 are read" in capsys.readouterr().err


@pytest.mark.slow
def test_one_seed_trains_one_model(settings, tmp_path):
    for name in ("a", "b"):
        train("mcsam_phantom", settings(tmp_path / name, max_steps=2))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_seeds_train_different_models(settings, tmp_path):
    for seed in (1, 2):
        train("mcsam_phantom", settings(tmp_path / str(seed), max_steps=1, seed=seed))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    assert not torch.equal(first["prompts"], second["prompts"])


@pytest.mark.slow
def test_a_frozen_backbone_stays_as_it_was(settings, finished, tmp_path):
    changes = {"init_from": str(finished[0]), "encoder_learning_rate": 0.0, "max_steps": 2}
    train("mcsam_phantom", settings(tmp_path / "run", **changes))
    before, after = (load_file(run / "model.safetensors") for run in (finished[0], tmp_path / "run"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any("backbone" in name for name in moved)


@pytest.mark.slow
def test_a_run_shorter_than_its_validation_interval_is_whole(settings, tmp_path):
    result = train("mcsam_phantom", settings(tmp_path / "run", max_steps=1, eval_steps=5))
    assert result["steps"] == 1 and (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
def test_patience_ends_a_run_that_no_longer_improves(settings, tmp_path):
    still = {"learning_rate": 0.0, "encoder_learning_rate": 0.0, "max_steps": 20, "eval_steps": 1, "patience": 2}
    assert train("mcsam_phantom", settings(tmp_path / "run", **still))["steps"] == 3


@pytest.mark.slow
def test_validation_may_use_a_part_of_the_studies(settings, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(module, "StudyFilms", lambda data, *a, **k: sizes.append(len(data)) or _films(data, *a, **k))
    train("mcsam_phantom", settings(tmp_path / "run", max_steps=1, eval_studies=1))
    assert sizes == [36, 1]


def _films(*arguments, **options):
    from radscribe.training.data import StudyFilms

    return StudyFilms(*arguments, **options)


@pytest.mark.slow
def test_the_loss_falls_over_some_steps(settings, tmp_path):
    fast = {"max_steps": 60, "eval_steps": 20, "learning_rate": 1e-2, "batch_size": 8}
    train("mcsam_phantom", settings(tmp_path / "run", **fast))
    losses = [entry["generation_loss"] for entry in log_of(tmp_path / "run") if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5


# Resuming


@pytest.fixture
def half_done(finished, tmp_path):
    """A copy of the finished run, to go on with."""
    return shutil.copytree(finished[0], tmp_path / "run")


@pytest.mark.slow
def test_resuming_goes_on_to_more_steps(half_done, settings):
    result = train("mcsam_phantom", settings(half_done, max_steps=6, memory_init="ot"), resume=True)
    assert result["steps"] == 6
    assert [entry["step"] for entry in log_of(half_done) if "loss" in entry] == [2, 4, 6]


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_like_one_that_was_not(settings, tmp_path):
    """Same weights, bit by bit: optimizer, schedule and the order of studies are taken up where they were left."""
    train("mcsam_phantom", settings(tmp_path / "whole", select_by="loss"))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "checkpoint-4")
    train("mcsam_phantom", settings(tmp_path / "cut", select_by="loss"), resume=True)
    last = "checkpoints/checkpoint-4/model.safetensors"
    whole, cut = (load_file(tmp_path / name / last) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.slow
def test_pretraining_comes_before_a_run_and_not_again_when_it_is_resumed(settings, tmp_path):
    log = tmp_path / "run" / "pretraining.jsonl"
    train("mcsam_phantom", settings(tmp_path / "run", pretrain_steps=2))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2, 2]
    log.unlink()
    train("mcsam_phantom", settings(tmp_path / "run", pretrain_steps=2, max_steps=6), resume=True)
    assert not log.exists()


@pytest.mark.slow
def test_a_used_folder_is_refused(finished, settings):
    run, _ = finished
    with pytest.raises(ValueError, match="is not empty: `--resume` goes on with it, another name starts anew"):
        train("mcsam_phantom", settings(run))


def test_a_folder_with_somebodys_files_is_refused(settings, tmp_path):
    (tmp_path / "letter.txt").write_text("")
    with pytest.raises(ValueError, match=r"^`output_dir` `[^\n]*` is not empty"):
        train("mcsam_phantom", settings(tmp_path, dataset=""))


def test_a_file_as_output_dir_is_refused(settings, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match=r"^`output_dir` must be a folder. Got the file"):
        train("mcsam_phantom", settings(tmp_path / "run", dataset=""))


def test_resuming_what_was_never_begun_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match=r"^`--resume`: `[^\n]*` holds no run"):
        train("mcsam_phantom", settings(tmp_path / "run", dataset=""), resume=True)


@pytest.mark.slow
def test_a_run_cut_off_before_its_first_checkpoint_starts_anew_when_resumed(finished, settings, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished[0] / "recipe.yaml", run)
    (run / "metrics.jsonl").write_text("{}\n")
    train("mcsam_phantom", settings(run, memory_init="ot"), resume=True)
    assert [one["step"] for one in log_of(run)] == [one["step"] for one in log_of(finished[0])]


# Fine-tuning


@pytest.mark.slow
def test_fine_tuning_keeps_the_vocabulary(finished, settings, own_studies, tmp_path):
    changes = {"init_from": str(finished[0]), "dataset": own_studies("zebra"), "max_steps": 1, "select_by": "bleu_4"}
    train("mcsam_phantom", settings(tmp_path / "run", **changes))
    assert words_of(tmp_path / "run") == words_of(finished[0]) and "zebra" not in words_of(finished[0])


@pytest.mark.slow
def test_fine_tuning_starts_from_the_weights(finished, settings, tmp_path):
    still = {"learning_rate": 0.0, "encoder_learning_rate": 0.0, "max_steps": 1, "init_from": str(finished[0])}
    train("mcsam_phantom", settings(tmp_path / "run", **still))
    before, after = (load_file(run / "model.safetensors") for run in (finished[0], tmp_path / "run"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_fine_tuning_moves_the_weights(finished, settings, own_studies, tmp_path):
    changes = {"init_from": str(finished[0]), "dataset": own_studies(), "max_steps": 2, "select_by": "bleu_4"}
    train("mcsam_phantom", settings(tmp_path / "run", **changes))
    before, after = (load_file(run / "model.safetensors") for run in (finished[0], tmp_path / "run"))
    assert not torch.equal(before["prompts"], after["prompts"])


@pytest.mark.slow
def test_one_film_from_the_command_line(radscribe, finished, draw_film):
    code, out, _ = radscribe("generate", "--model", finished[0], draw_film("own.png"), "--json")
    assert code == 0 and json.loads(out)["id"] == "own"
