"""The command line: one line and exit code 2 for bad input, nothing but JSON on stdout with --json."""

import json
import sys

import pytest

from radscribe.cli import main
from radscribe.training.readers.studies import load_studies
from tests.tools.make_mimic import make_mimic


@pytest.fixture
def source(tmp_path, draw_film, write_lines):
    draw_film("src/a.png")
    rows = [{"id": name, "images": ["a.png"], "findings": "Lungs are clear.", "split": "val"} for name in "bc"]
    write_lines("src/studies.jsonl", [{"id": "a", "images": ["a.png"], "findings": "Lungs are clear."}, *rows])
    return tmp_path / "src"


def test_help_names_every_verb(radscribe):
    code, out, _ = radscribe("--help")
    assert code == 0 and all(verb in out for verb in ("prepare", "train", "ablate", "generate", "evaluate"))


def test_prepare_writes_the_data_set(radscribe, source, tmp_path):
    code, out, _ = radscribe("prepare", "iu-xray", source, tmp_path / "out")
    assert code == 0 and "train 1, val 2" in out
    assert len(load_studies(tmp_path / "out", "val")) == 2


def test_prepare_phantom_counts_the_total_over_splits(radscribe, tmp_path):
    _, out, _ = radscribe("prepare", "phantom", tmp_path / "out", "--studies", 6, "--seed", 1, "--json")
    assert sum(json.loads(out)["kept"].values()) == 6


def test_json_is_all_there_is_on_stdout(radscribe, source, tmp_path):
    _, out, _ = radscribe("prepare", "iu-xray", source, tmp_path / "out", "--json")
    assert json.loads(out)["kept"] == {"train": 1, "val": 2}


def test_prepare_ends_with_the_facts_of_each_split(radscribe, source, tmp_path):
    _, out, _ = radscribe("prepare", "iu-xray", source, tmp_path / "out", "--json")
    rows = {row["split"]: row for row in json.loads(out)["rows"]}
    assert rows["train"]["words"] == 4 and rows["val"]["in_earlier"] == 1


def test_prepare_reads_mimic_cxr(radscribe, tmp_path):
    make_mimic(tmp_path / "src", 6)
    _, out, _ = radscribe("prepare", "mimic-cxr", tmp_path / "src", tmp_path / "out", "--processes", 1, "--json")
    found = json.loads(out)
    assert sum(found["kept"].values()) == 6 and [row["split"] for row in found["rows"]] == ["train", "val", "test"]


def test_evaluate_prints_one_json_document(radscribe, source, tmp_path, write_lines, without_java):
    radscribe("prepare", "iu-xray", source, tmp_path / "out")
    file = write_lines("reports.jsonl", [{"id": name, "report": "Lungs are clear."} for name in "bc"])
    _, out, _ = radscribe("evaluate", file, "--references", tmp_path / "out", "--split", "val", "--json")
    assert json.loads(out)["studies"] == 2


def test_bad_input_is_one_line_and_exit_code_2(radscribe, tmp_path):
    code, out, err = radscribe("prepare", "iu-xray", tmp_path / "gone", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("Error: SRC must be a folder") and err.count("\n") == 1


def test_a_wrong_option_is_exit_code_2(radscribe):
    assert radscribe("evaluate", "x.jsonl")[0] == 2


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv("RADSCRIBE_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["radscribe", "prepare", "iu-xray", str(tmp_path / "gone"), str(tmp_path / "o")])
    with pytest.raises(FileNotFoundError):
        main()
