"""A run that is stopped from outside at any point goes on and ends like one that was not; nothing half saved counts.

The kills here are exceptions that nothing catches, thrown where a SIGKILL would strike: what stays on the disk is the
same, and the tests stay quick. docs/cluster.md tells what real kills did.
"""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Seq2SeqTrainer, Trainer

from radscribe.training import train as module
from radscribe.training.errors import Stopped
from radscribe.training.interruptions import StopOnSignal, last_whole_checkpoint, room_to_save
from radscribe.training.train import train


class Killed(BaseException):
    """Nothing that a user's code would catch."""


def strike(monkeypatch, owner, method, call, act, within=""):
    """Let `act(self, *args)` happen in place of the given call of a Trainer's method, counted in this stage."""
    real, calls = getattr(owner, method), []

    def counted(self, *args, **kwargs):
        calls.extend([1] * (within in self.args.output_dir))
        return act(self, *args) if len(calls) == call else real(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, counted)


def die(self, *args):
    raise Killed


def die_half_saved(self, folder):
    Path(folder, "optimizer.pt").write_bytes(b"half")
    raise Killed


STRIKES = {
    "mid-step": (Trainer, "training_step", die),
    "mid-checkpoint": (Trainer, "_save_optimizer_and_scheduler", die_half_saved),
    "mid-generation": (Seq2SeqTrainer, "prediction_step", die),
}
KINDS = ["mcsam", "uar, stage_1", "uar, stage_2"]


@pytest.fixture(scope="module")
def recipes(settings, tiny_uar, phantoms):
    """The recipe's name and overrides of a run in this folder."""
    second = {"max_steps": 2, "eval_steps": 1, "learning_rate": 1e-3, "config": {"refine": True}}
    stages = {"image_tokenizer": tiny_uar["image_tokenizer"], "stages": [second], "augmentation": None}

    def make(kind, run):
        if kind == "mcsam":
            return "mcsam_phantom", settings(run, select_by="loss")
        short = {"max_steps": 4, "eval_steps": 2, "batch_size": 4, "eval_batch_size": 2, "warmup_steps": 0}
        values = tiny_uar | short | stages | {"dataset": str(phantoms), "output_dir": str(run), "select_by": "loss"}
        return "uar_phantom", [f"{key}={json.dumps(value)}" for key, value in values.items()]

    return make


@pytest.fixture(scope="module")
def whole(recipes, tmp_path_factory):
    """whole(kind): the weights of a run that nobody stopped."""
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("whole") / kind
            train(*recipes(kind, folder))
            made[kind] = load_file(folder / "model.safetensors")
        return made[kind]

    return make


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("point", STRIKES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_and_ends_bit_by_bit_like_one_that_was_not(
    kind, point, recipes, whole, tmp_path, monkeypatch
):
    kind, _, stage = kind.partition(", ")
    expected = whole(kind)
    recipe, overrides = recipes(kind, tmp_path / "run")
    with monkeypatch.context() as patch:
        owner, method, act = STRIKES[point]
        strike(patch, owner, method, 2, act, stage)
        with pytest.raises(Killed):
            train(recipe, overrides)
    assert (tmp_path / "run" / "stage_2").is_dir() == (stage == "stage_2")
    train(recipe, overrides, resume=True)
    assert equal(load_file(tmp_path / "run" / "model.safetensors"), expected)


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_saves_its_step_and_ends_like_one_that_was_not(
    recipes, whole, tmp_path, monkeypatch
):
    recipe, overrides = recipes("mcsam", tmp_path / "run")
    real = Trainer.training_step

    def told(self, *args, **kwargs):
        if self.state.global_step == 2:  # the third step
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *args, **kwargs)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", told)
        with pytest.raises(Stopped, match="was told to stop and saved a checkpoint: `--resume` goes on"):
            train(recipe, overrides)
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-3" / "trainer_state.json").is_file()
    assert not (tmp_path / "run" / "result.json").exists()
    train(recipe, overrides, resume=True)
    assert equal(load_file(tmp_path / "run" / "model.safetensors"), whole("mcsam"))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay(recipes, whole, tmp_path, monkeypatch):
    def no_room(self, folder):
        Path(folder, "optimizer.pt").write_bytes(b"half")
        raise RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/1: file write failed")

    recipe, overrides = recipes("mcsam", tmp_path / "run")
    with monkeypatch.context() as patch:
        strike(patch, Trainer, "_save_optimizer_and_scheduler", 2, no_room)
        with pytest.raises(OSError, match=r"^The disk of `[^\n]*` is full.*make room, then `--resume`.$"):
            train(recipe, overrides)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-2"]
    train(recipe, overrides, resume=True)
    assert equal(load_file(tmp_path / "run" / "model.safetensors"), whole("mcsam"))


def checkpoint(folder, step, state=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_the_newest_whole_checkpoint_is_gone_on_with(tmp_path, capsys):
    for step in (2, 10):
        checkpoint(tmp_path, step, json.dumps({"global_step": step}))
    checkpoint(tmp_path, 12)
    checkpoint(tmp_path, 14, '{"global_')
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-10"
    assert capsys.readouterr().err.count("was not saved to its end: it does not count") == 2


def test_without_a_whole_checkpoint_there_is_none(tmp_path):
    checkpoint(tmp_path, 2)
    assert last_whole_checkpoint(tmp_path) is None and last_whole_checkpoint(tmp_path / "nothing") is None


def test_other_errors_of_saving_stay_what_they_are(tmp_path):
    half = checkpoint(tmp_path / "checkpoints", 2)
    with pytest.raises(RuntimeError, match="^shapes differ$"), room_to_save(tmp_path):
        raise RuntimeError("shapes differ")
    assert half.is_dir()


def test_a_run_that_ends_in_an_error_leaves_the_signal_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Killed), StopOnSignal().listening():
        raise Killed
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_forked_worker_ends_at_the_signal_that_its_run_only_notes():
    stop = StopOnSignal()
    with stop.listening():
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        time.sleep(0.1)
        worker.terminate()
        worker.join(10)
    assert worker.exitcode == -signal.SIGTERM
    assert not stop.told


def test_a_run_that_nobody_told_anything_goes_on():
    class Arguments:
        world_size = 1

    assert not StopOnSignal()._all_agree(Arguments(), 8)


@pytest.mark.slow
def test_the_command_ends_with_the_status_for_another_turn(monkeypatch, capsys):
    def stop(*args):
        raise Stopped("`runs/x` was told to stop and saved a checkpoint: `--resume` goes on.")

    monkeypatch.setattr(module, "train", stop)
    monkeypatch.setattr("sys.argv", ["train.py", "mcsam_phantom"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 85 and "`--resume` goes on" in capsys.readouterr().err
