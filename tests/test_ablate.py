"""`radscribe ablate`: arms that parse, arms that are done stay done, one row of scores an arm."""

import json
from pathlib import Path

import numpy as np
import pytest

from radscribe.training import ablate as module
from radscribe.training.ablate import MCSAM_ARMS, UAR_PAPER, ablate, list_arms
from radscribe.training.readers.phantom_grammar import write_report
from radscribe.training.readers.studies import save_studies
from radscribe.training.recipe import CONFIGS, load_recipe

LEFT, RIGHT = ("effusion", "left", "large", "-"), ("effusion", "right", "small", "-")


def report_of(finding):
    return write_report([finding], np.random.default_rng(0))


@pytest.fixture
def run(monkeypatch, tmp_path, study):
    """run(*overrides): ablate mcsam_phantom with a training that only writes down what it was asked for."""
    records = [
        study(
            f"phantom-0-{i}",
            split="test",
            findings=report_of(one),
            labels=[{"name": "/".join(one), "image": 0, "box": []}],
        )
        for i, one in enumerate((LEFT, RIGHT))
    ]
    save_studies(records, tmp_path / "set")
    calls = []

    def train(recipe, overrides, resume=False):
        settings = load_recipe(recipe, overrides)
        Path(settings.output_dir).mkdir(parents=True, exist_ok=True)
        calls.append((settings, resume))
        return {"minutes": 0.5}

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(
        module, "generate", lambda *arguments: [{"id": str(i), "report": report_of(LEFT)} for i in range(2)]
    )

    def start(*overrides, output_dir=tmp_path / "runs"):
        calls.clear()
        where = [] if output_dir is None else [f"output_dir={output_dir}"]
        return ablate("mcsam_phantom", [f"dataset={tmp_path / 'set'}", *where, *overrides]), calls

    return start


ARMS = [(name, arm) for name in ("mcsam_phantom", "uar_phantom") for arm in list_arms(load_recipe(name))]
WHOLE = ("full", "UAR")


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_an_arm_is_a_recipe_that_differs_from_the_whole(name, arm):
    plain = load_recipe(name)
    assert (load_recipe(name, list_arms(plain)[arm]) != plain) == (arm not in WHOLE)


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_an_arm_builds_a_model_of_its_own(name, arm):
    """A size that the configuration refuses would show only after the other arms have been trained."""
    recipe = load_recipe(name, list_arms(load_recipe(name))[arm])
    encoder = recipe.encoder if isinstance(recipe.encoder, dict) else None
    CONFIGS[recipe.model](encoder=encoder, **recipe.config)


def test_every_row_of_uar_has_its_figures_of_the_paper():
    assert set(list_arms(load_recipe("uar_phantom"))) == set(UAR_PAPER)


def test_uars_arms_of_one_stage_train_as_long_as_both_stages():
    recipe = load_recipe("uar_phantom", ["max_steps=50", "stages=[{max_steps: 7, config: {refine: true}}]"])
    base = load_recipe("uar_phantom", list_arms(recipe)["Base"])
    assert (base.max_steps, base.stages) == (57, [])


def test_every_arm_is_trained_once(run):
    _, calls = run()
    assert len(calls) == len(MCSAM_ARMS)


def test_every_arm_has_a_folder_of_its_own(run):
    _, calls = run()
    assert len({settings.output_dir for settings, _ in calls}) == len(MCSAM_ARMS)


def test_the_full_model_is_the_recipe_itself(run, tmp_path):
    full = run()[1][0][0]
    same = [f"dataset={tmp_path / 'set'}", f"output_dir={full.output_dir}"]
    assert full == load_recipe("mcsam_phantom", same)


def test_overrides_reach_every_arm(run):
    _, calls = run("max_steps=7", "config.encoder_layers=3")
    assert all(settings.max_steps == 7 and settings.config["encoder_layers"] == 3 for settings, _ in calls)


def test_an_arm_that_is_done_is_not_trained_again(run):
    first, _ = run()
    second, calls = run()
    assert calls == [] and second == first


def test_an_arm_done_with_other_settings_is_refused(run):
    run()
    with pytest.raises(ValueError, match="holds an arm made with other settings"):
        run("max_steps=7")


def test_an_arm_cut_off_while_it_was_scored_is_not_trained_again(run, tmp_path):
    (tmp_path / "runs" / "no_SAM").mkdir(parents=True)
    (tmp_path / "runs" / "no_SAM" / "result.json").write_text('{"minutes": 3.0}')
    result, calls = run()
    assert len(calls) == len(MCSAM_ARMS) - 1
    assert next(row["minutes"] for row in result["rows"] if row["arm"] == "no SAM") == 3.0


def test_a_set_without_test_studies_is_refused_before_any_training(run, tmp_path, study):
    save_studies([study("phantom-0-0", split="train")], tmp_path / "small")
    with pytest.raises(ValueError, match="has no split 'test'"):
        run(f"dataset={tmp_path / 'small'}")


def test_the_recipes_own_folder_is_left_to_training(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run()
    calls = run(output_dir=None)[1]
    assert {settings.output_dir.split("/")[1] for settings, _ in calls} == {"mcsam_phantom_ablation"}


def test_an_arm_that_was_cut_off_is_gone_on_with(run, tmp_path):
    (tmp_path / "runs" / "no_SAM").mkdir(parents=True)
    (tmp_path / "runs" / "no_SAM" / "recipe.yaml").write_text("")
    resumed = [settings.output_dir for settings, resume in run()[1] if resume]
    assert resumed == [str(tmp_path / "runs" / "no_SAM")]


def test_there_is_one_row_an_arm(run):
    assert [row["arm"] for row in run()[0]["rows"]] == list(MCSAM_ARMS)


def test_a_row_says_how_often_the_findings_are_right(run):
    """One of two studies is right, and each answer states one unit."""
    assert run()[0]["rows"][0]["finding_f1"] == 0.5


def test_a_row_says_how_many_reports_differ(run):
    assert run()[0]["rows"][0]["distinct"] == 0.5


def test_a_row_says_how_long_it_took(run):
    assert run()[0]["rows"][0]["minutes"] == 0.5


def test_the_table_is_saved_beside_the_arms(run, tmp_path):
    result, _ = run()
    assert json.loads((tmp_path / "runs" / "ablation.json").read_text()) == result


def test_real_studies_have_no_phantom_exam(run, tmp_path, study):
    save_studies([study("a", split="test"), study("b", split="test")], tmp_path / "real")
    rows = run(f"dataset={tmp_path / 'real'}")[0]["rows"]
    assert all("finding_f1" not in row and "bleu_4" in row for row in rows)


def test_an_unknown_recipe_is_refused_before_any_training(run):
    with pytest.raises(ValueError, match="neither a YAML file nor one of"):
        ablate("mcsam_fantom", [])
