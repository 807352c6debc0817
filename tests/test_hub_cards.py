"""The checkpoints that come with the package: small, whole, as the code of today would export them, and they write."""

import json
import re

import pytest
import yaml
from PIL import Image

from radscribe.training.build import SHIPPED, find_checkpoint, load_checkpoint
from radscribe.training.export_hub import exported_code
from radscribe.training.facts import FILE, TrainingFacts
from radscribe.training.generate import generate

FOLDERS = sorted(path.parent for path in SHIPPED.glob("*/config.json"))
SPACE = SHIPPED / "space"
NAMES = [folder.name for folder in FOLDERS]
shipped = pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)


def test_both_models_are_shipped():
    assert NAMES == ["mcsam-iu-xray-small", "uar-iu-xray-small"]


@shipped
def test_a_folder_is_small(folder):
    assert sum(path.stat().st_size for path in folder.glob("*.*")) <= 20 * 2**20
    assert (folder / FILE).stat().st_size <= 2**20


@shipped
def test_its_code_is_that_of_the_package(folder):
    """Where this fails: `python -m tests.tools.refresh_hub_cards`."""
    code = {path.name: path.read_text() for path in folder.glob("*.py")}
    assert code == exported_code(*load_checkpoint(str(folder)))


@shipped
def test_it_writes_by_its_name_alone(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("film.png")
    (row,) = generate([tmp_path / "film.png"], None, "test", None, folder.name, None)
    assert re.match(r"[A-Z]\S+ \S+", row["report"])  # no film of a chest: what it says is not asked
    assert "film.png` looks unlike the films this model learnt from" in capsys.readouterr().err


@shipped
def test_it_knows_how_common_a_sentence_was(folder):
    """Where this fails: `python -m radscribe.training.facts hub_cards/NAME --dataset DIR`."""
    facts = TrainingFacts.load(folder.name)
    assert facts.reports == 2069 and 0.1 < facts.share_of("The lungs are clear.") < 0.5
    assert facts.share_of("The lungs sing.") is None


@shipped
def test_its_card_has_scores_terms_and_licence(folder):
    card = (folder / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card and "## Terms" in card and "| the model |" in card
    assert "another study's films" in card and (folder / "NOTICE").is_file()


@shipped
def test_no_report_and_no_place_of_a_machine_is_in_it(folder):
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        assert "/root" not in json.dumps(content) and "/home" not in json.dumps(content)
    facts = (folder / FILE).read_bytes().lower()
    assert not [word for word in (b"lungs", b"heart", b"clear", b"/root", b"/home") if word in facts]


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(NAMES[0]) == str(FOLDERS[0])
    (tmp_path / NAMES[0]).mkdir()
    assert find_checkpoint(NAMES[0]) == NAMES[0]


def test_other_names_stay_as_they_are():
    assert find_checkpoint("user/name") == "user/name"


def test_the_space_asks_for_what_the_package_needs():
    asked = {line.strip() for line in (SPACE / "requirements.txt").read_text().splitlines() if line[0] not in "#-"}
    project = (SHIPPED.parent / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|dicom) = \[(.*?)\]$", project, re.DOTALL | re.MULTILINE)
    assert len(lists) == 2 and asked == set(re.findall(r'"(.*?)"', "".join(lists)))


def test_the_space_says_what_it_is_and_runs_the_page():
    card = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    project = (SHIPPED.parent / "pyproject.toml").read_text()
    assert card["sdk"] == "gradio" and f"gradio>={card['sdk_version'].rpartition('.')[0]}" in project
    assert (SPACE / card["app_file"]).read_text().endswith("from radscribe.training.app import serve\n\nserve()\n")
    assert "not a diagnosis" in (SPACE / "README.md").read_text()
