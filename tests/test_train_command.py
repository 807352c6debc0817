"""`radscribe train` as a command: one line for whatever cannot work, and the form for several processes."""

import json
import re
import sys
from pathlib import Path

import pytest

from radscribe.training import train as module
from radscribe.training.readers.studies import load_splits


@pytest.mark.slow
def test_train_generate_and_evaluate_from_the_command_line(radscribe, settings, phantoms, tmp_path, without_java):
    run, control = tmp_path / "run", tmp_path / "control.jsonl"
    overrides = [part for setting in settings(run, max_steps=2) for part in ("--set", setting)]
    code, out, _ = radscribe("train", "mcsam_phantom", *overrides, "--json")
    assert code == 0 and json.loads(out)["steps"] == 2
    asked = ("generate", "--model", run, "--dataset", phantoms, "--out")
    assert radscribe(*asked, tmp_path / "reports.jsonl")[0] == 0
    assert radscribe(*asked, control, "--shuffle-images", 1)[0] == 0
    scored = ("evaluate", tmp_path / "reports.jsonl", "--references", phantoms, "--control", control, "--json")
    code, out, _ = radscribe(*scored)
    result = json.loads(out)
    assert code == 0 and 0 <= result["finding_f1"]["micro"] <= 1
    assert {"shuffled_images", "best_constant"} <= set(result["beside"])


@pytest.fixture
def refuse(radscribe, settings, tmp_path):
    """refuse("a line", **changes): the CLI ends with exactly this one line and exit code 2, and makes no model."""

    def run(line, *more, **changes):
        changes = {"dataset": "", "select_by": "loss"} | changes
        overrides = [part for setting in settings(tmp_path / "run", **changes) for part in ("--set", setting)]
        code, out, err = radscribe("train", "mcsam_phantom", *overrides, *more)
        last = err.splitlines()[-1]
        assert (code, out) == (2, "") and "Traceback" not in err
        assert re.fullmatch(f"Error: {line}", last) and len(last) < 400

    return run


def test_an_unknown_key_is_one_line(refuse):
    refuse("Unknown recipe key `learning_rat`. Did you mean `learning_rate`\\?", learning_rat=1.0)


def test_a_missing_data_set_is_one_line(refuse, tmp_path):
    refuse(".*gone does not exist; make it with `radscribe prepare`.", dataset=str(tmp_path / "gone"))


def test_a_set_without_validation_is_one_line(refuse, own_studies):
    refuse(r".* has no split 'val'. It has: train \(2\).", dataset=own_studies(splits=("train", "train")))


def test_an_empty_validation_split_is_one_line(refuse, own_studies, tmp_path):
    splits = load_splits(Path(own_studies()))
    splits["val"] = splits["val"].select([])
    splits.save_to_disk(tmp_path / "emptied")
    refuse("The split 'val' of .* is empty; choose another split.", dataset=str(tmp_path / "emptied"))


def test_training_reports_without_words_are_one_line(refuse, own_studies):
    refuse(".*`min_frequency`=9 leaves no word.*", dataset=own_studies(), min_frequency=9)


def test_a_memory_wider_than_the_vocabulary_is_one_line(refuse, own_studies):
    narrow = {"memory_dim": 64, "memory_size": 4, "memory_top_k": 2, "memory_heads": 1}
    refuse("`memory_dim` must be below .* Got 64; lower it.", dataset=own_studies(), config=narrow, memory_init="ot")


def test_own_studies_that_are_all_alike_are_one_line(refuse, own_studies, tiny):
    """Every word stands in more than half of the reports, so none is left for the topics."""
    refuse(".*report.*", dataset=own_studies(), memory_init="ot")


def test_a_size_that_cannot_work_is_one_line(refuse, own_studies, tiny):
    config = tiny["config"] | {"memory_top_k": 9}
    refuse(r"`memory_top_k` must be 1 to `memory_size` \(4\). Got 9.", dataset=own_studies(), config=config)


@pytest.mark.parametrize("generation", [{"num_beams": "many"}, {"num_beams": -1}, {"no_repeat_ngram_size": "a"}])
def test_generation_that_cannot_work_is_one_line_before_training(refuse, own_studies, generation):
    line = r"`generation` cannot work as {.*}: [^\n]+"
    refuse(line, dataset=own_studies(), generation=generation, select_by="cider")


def test_an_inner_value_of_the_wrong_type_is_one_line(refuse, own_studies, tiny):
    refuse(".*memory_size.*", dataset=own_studies(), config=tiny["config"] | {"memory_size": "many"})


def test_an_unknown_backbone_is_one_line(refuse, own_studies):
    refuse(
        "`encoder`: no vision model by the name `nobody/nothing` .*", dataset=own_studies(), encoder="nobody/nothing"
    )


def test_an_unknown_kind_of_backbone_is_one_line(refuse, own_studies):
    refuse(".*resnest.*", dataset=own_studies(), encoder={"model_type": "resnest"})


def test_a_backbone_configuration_without_its_type_is_one_line(refuse, own_studies):
    refuse("`encoder` as a dict needs .*`model_type`.*", dataset=own_studies(), encoder={"depths": [1]})


def test_a_checkpoint_of_another_model_type_is_one_line(refuse, own_studies, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refuse(".* is a `bert` model. Expected one of: mcsam, uar.", dataset=own_studies(), init_from=str(tmp_path))


def test_an_unknown_schedule_is_one_line(refuse, own_studies):
    refuse(".*cosin.*", dataset=own_studies(), schedule="cosin", select_by="cider")


def test_an_unknown_validation_metric_is_one_line_before_training(refuse, own_studies, monkeypatch):
    monkeypatch.setattr(module.ReportTrainer, "train", None)
    refuse("`select_by` .*belu_4.*", dataset=own_studies(), select_by="belu_4")


def test_selecting_real_studies_by_the_phantom_exam_is_one_line_before_training(refuse, own_studies, monkeypatch):
    """The phantom recipe on one's own studies."""
    monkeypatch.setattr(module.ReportTrainer, "train", None)
    refuse("`select_by` .*finding_f1.*", dataset=own_studies(), select_by="finding_f1")


def test_reports_longer_than_the_decoder_holds_are_one_line_before_training(refuse, own_studies, monkeypatch):
    """80 positions less 2 prompts."""
    monkeypatch.setattr(module.ReportTrainer, "train", None)
    refuse("`max_length` .*78.*", dataset=own_studies(), max_length=200, select_by="cider")


def test_a_missing_film_is_one_line(refuse, own_studies, tmp_path):
    data = own_studies()
    (tmp_path / "own.png").unlink()
    refuse("No image at `.*own.png`: check the path.", dataset=data, select_by="cider")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_spoilt_film_is_one_line(refuse, own_studies, tmp_path, workers):
    data = own_studies()
    (tmp_path / "own.png").write_text("no film")
    refuse("`[^`]*own.png` is no image that Pillow can read.*", dataset=data, select_by="cider", workers=workers)


def test_resuming_nothing_is_one_line(refuse):
    refuse("`--resume`: .* holds no run. Start it without.", "--resume")


def test_the_form_for_several_processes_ends_in_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "mcsam_fantom"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2
    assert re.fullmatch(r"Error: Recipe `mcsam_fantom` is neither[^\n]*\n", capsys.readouterr().err)


@pytest.mark.slow
def test_the_form_for_several_processes_prints_the_result(settings, tmp_path, monkeypatch, capsys):
    overrides = [part for setting in settings(tmp_path / "run", max_steps=1) for part in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["train", "mcsam_phantom", *overrides])
    module.main()
    assert json.loads(capsys.readouterr().out)["steps"] == 1
