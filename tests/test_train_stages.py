"""Two stages in one command: each from the best checkpoint of the one before, one table, one folder, resumed apart."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from radscribe.training import train as module
from radscribe.training.build import load_checkpoint
from radscribe.training.recipe import load_recipe
from radscribe.training.train import train

SECOND = {"max_steps": 2, "eval_steps": 1, "learning_rate": 1e-3, "config": {"refine": True}}


@pytest.fixture(scope="module")
def overrides(tiny_uar, phantoms):
    """overrides(output_dir, second): of uar_phantom, four steps of a tiny UAR and then a second stage."""

    def make(output_dir, second=None, **changes):
        short = {"max_steps": 4, "eval_steps": 2, "batch_size": 4, "eval_batch_size": 2, "warmup_steps": 0}
        short |= {"dataset": str(phantoms), "output_dir": str(output_dir), "select_by": "loss"}
        values = tiny_uar | short | {"stages": [SECOND if second is None else second]} | changes
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]

    return make


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory):
    """A run of both stages that is done: its folder and what `train` returned. Copy the folder before changing it."""
    run = tmp_path_factory.mktemp("runs") / "run"
    return run, train("uar_phantom", overrides(run))


@pytest.fixture
def resumed(finished, overrides, tmp_path, monkeypatch):
    """resumed(*names): what is trained again, and the result, where these were lost of the finished run."""
    run, calls, run_stage = shutil.copytree(finished[0], tmp_path / "run"), [], module.run_stage

    def watch(recipe, resume=False, changes=None):
        calls.append((recipe.output_dir.removeprefix(f"{run}/"), resume))
        return run_stage(recipe, resume, changes)

    def make(*names):
        for name in names:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
        monkeypatch.setattr(module, "run_stage", watch)
        return calls, train("uar_phantom", overrides(run), resume=True)

    return make


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Both stages, looked at from all sides


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
@pytest.mark.parametrize("name", ["recipe.yaml", "model.safetensors", "metrics.jsonl", "result.json", "checkpoints"])
def test_each_stage_has_a_whole_folder(finished, stage, name):
    assert (finished[0] / stage / name).exists()


@pytest.mark.slow
def test_there_is_one_row_a_stage(finished):
    assert [(row["stage"], row["steps"]) for row in finished[1]["rows"]] == [(1, 4), (2, 2)]


@pytest.mark.slow
def test_the_rows_hold_the_figures_of_their_stages(finished):
    run, result = finished
    for row in result["rows"]:
        own = json.loads((run / f"stage_{row['stage']}" / "result.json").read_text())
        assert row["loss"] == own["validation"]["loss"] and {"bleu_4", "finding_f1"} <= set(row)


@pytest.mark.slow
def test_the_result_is_that_of_the_last_stage_after_all_steps(finished):
    run, result = finished
    assert result["validation"] == json.loads((run / "stage_2" / "result.json").read_text())["validation"]
    assert result["steps"] == 6 and result["output_dir"] == str(run)
    assert json.loads((run / "result.json").read_text()) == result


@pytest.mark.slow
def test_the_folder_of_the_run_is_the_last_stages_model(finished):
    assert equal(weights(finished[0]), weights(finished[0] / "stage_2"))


@pytest.mark.slow
def test_the_folder_of_the_run_loads_with_the_refiner(finished):
    model, processor = load_checkpoint(str(finished[0]))
    assert model.config.refine and model.refiner is not None
    assert model.config.vocab_size == len(processor.tokenizer)


@pytest.mark.slow
def test_the_first_stage_has_no_refiner(finished):
    assert load_checkpoint(str(finished[0] / "stage_1"))[0].refiner is None


@pytest.mark.slow
def test_the_second_stage_moves_the_mask(finished):
    assert weights(finished[0])["refiner.mask_logits"].abs().max() > 0


@pytest.mark.slow
def test_the_image_tokenizer_is_the_same_to_the_end(finished, image_tokenizer):
    own = {k.partition(".tokenizer.model.")[2]: v for k, v in weights(finished[0]).items() if ".tokenizer." in k}
    trained = load_file(image_tokenizer / "model.safetensors")
    assert own and all(torch.equal(tensor, trained[name]) for name, tensor in own.items())


@pytest.mark.slow
def test_the_recipe_is_saved_as_it_was_run(finished, overrides):
    run, _ = finished
    assert load_recipe(str(run / "recipe.yaml")) == load_recipe("uar_phantom", overrides(run))


@pytest.mark.slow
def test_the_recipe_of_the_second_stage_names_where_it_started(finished):
    run, _ = finished
    assert load_recipe(str(run / "stage_2" / "recipe.yaml")).init_from == str(run / "stage_1")


@pytest.mark.slow
def test_the_mask_loss_is_logged_in_the_second_stage_alone(finished):
    logs = [(finished[0] / f"stage_{number}" / "metrics.jsonl").read_text() for number in (1, 2)]
    assert "mask_loss" not in logs[0] and "mask_loss" in logs[1]


@pytest.mark.slow
def test_a_later_stage_may_tell_observations(overrides, tmp_path, monkeypatch):
    monkeypatch.setattr("radscribe.training.observations.LEAST", 1)
    told = {
        "max_steps": 2,
        "eval_steps": 2,
        "observations": 0.6,
        "rarity_power": 0.3,
        "config": {"hint_emphasis": 1.5},
    }
    train("uar_phantom", overrides(tmp_path / "run", told, group_by_length=True))
    first, last = (load_checkpoint(str(tmp_path / "run" / folder))[0] for folder in ("stage_1", ""))
    assert first.encoder.observations is None and last.config.observations and last.config.hint_emphasis == 1.5
    # The layer that names them is fitted: one row an observation, none as it was drawn.
    biases = weights(tmp_path / "run")["encoder.observations.classify.bias"]
    assert len(biases) == len(last.config.observations) and biases.max() < 0


# Where the second stage starts


@pytest.mark.slow
def test_the_second_stage_starts_as_the_function_that_the_first_left(overrides, tmp_path):
    """Without a step of its own, and with the mask's loss left out: one validation loss, the same reports."""
    still = SECOND | {"learning_rate": 0.0, "config": {"refine": True, "mask_weight": 0.0}}
    first, second = train("uar_phantom", overrides(tmp_path / "run", still))["rows"]
    same = ("loss", "bleu_4", "rouge_l", "cider", "finding_f1", "distinct")
    assert [second[name] for name in same] == pytest.approx([first[name] for name in same], abs=1e-5)


@pytest.mark.slow
def test_the_second_stage_writes_as_the_first_does(finished):
    """Longest report, beams and all else; nothing of the model's own fields among them."""
    saved = [json.loads((finished[0] / f"stage_{n}" / "generation_config.json").read_text()) for n in (1, 2)]
    assert saved[0] == saved[1] and saved[0]["max_length"] == 70


@pytest.mark.slow
def test_the_second_stage_has_an_optimiser_of_its_own(finished):
    """Its moments are as young as the stage."""
    state = torch.load(finished[0] / "stage_2" / "checkpoints" / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert {int(entry["step"]) for entry in state["state"].values()} == {2}


def test_a_later_stage_pretrains_no_backbone_and_reads_no_file_of_weights(overrides, tmp_path, monkeypatch):
    """Both would undo what the stage before has learned."""
    stages = []

    def run_stage(recipe, resume=False, changes=None):
        stages.append(recipe)
        folder = tmp_path / "run" / f"stage_{len(stages)}"
        folder.mkdir(parents=True)
        return {"steps": 1, "minutes": 1.0, "validation": {}}

    monkeypatch.setattr(module, "run_stage", run_stage)
    monkeypatch.setattr(module, "add_facts", lambda recipe: None)  # of a checkpoint that is not there
    backbone = {"image_tokenizer": None, "encoder_weights": "a.pth", "encoder": {"model_type": "resnet"}}
    page = overrides(tmp_path / "run", {"max_steps": 1}, pretrain_steps=5, **backbone)
    train("uar_phantom", page)
    assert [(stage.pretrain_steps, stage.encoder_weights) for stage in stages] == [(5, "a.pth"), (0, None)]


# Resuming


@pytest.mark.slow
def test_a_stage_that_is_done_is_not_trained_again(resumed, finished):
    calls, result = resumed("stage_2", "model.safetensors", "recipe.yaml", "result.json")
    assert calls == [("stage_2", False)]
    assert result["rows"][0] == finished[1]["rows"][0]


@pytest.mark.slow
def test_a_second_stage_that_was_lost_is_made_like_the_first_time(resumed, finished, tmp_path):
    resumed("stage_2", "model.safetensors")
    assert equal(weights(tmp_path / "run"), weights(finished[0]))


@pytest.mark.slow
def test_a_second_stage_that_was_cut_off_goes_on(resumed, finished, tmp_path):
    resumed_last = ("stage_2/result.json", "stage_2/model.safetensors", "stage_2/checkpoints/checkpoint-2")
    calls, result = resumed(*resumed_last)
    assert calls == [("stage_2", True)] and result["steps"] == 6
    last = "stage_2/checkpoints/checkpoint-2"
    assert equal(weights(tmp_path / "run" / last), weights(finished[0] / last))


@pytest.mark.slow
def test_a_first_stage_that_was_cut_off_goes_on(resumed):
    calls, _ = resumed("stage_2", "stage_1/result.json", "stage_1/checkpoints/checkpoint-4")
    assert calls == [("stage_1", True), ("stage_2", False)]


@pytest.mark.slow
def test_resuming_a_run_that_is_done_gives_its_result(resumed, finished):
    calls, result = resumed()
    assert calls == [] and result["rows"] == finished[1]["rows"]


@pytest.mark.slow
def test_a_used_folder_is_refused(finished, overrides):
    with pytest.raises(ValueError, match="is not empty: `--resume` goes on with it, another name starts anew"):
        train("uar_phantom", overrides(finished[0]))


def test_resuming_what_was_never_begun_is_refused(overrides, tmp_path):
    with pytest.raises(ValueError, match=r"^`--resume`: `[^\n]*` holds no run"):
        train("uar_phantom", overrides(tmp_path / "run", dataset=""), resume=True)
