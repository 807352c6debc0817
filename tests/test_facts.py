"""What a checkpoint ships of its training set: counted sentences without their words, and which films are strange."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from radscribe.training import facts as module
from radscribe.training.build import load_checkpoint
from radscribe.training.export_hub import export
from radscribe.training.facts import FILE, TrainingFacts, count_sentences, hash_sentence
from radscribe.training.readers.studies import load_studies, save_studies

REPORTS = ["The lungs are clear. Heart size is normal.", "the lungs are CLEAR. The lungs are clear.", "Old fracture."]


def draw(path, film):
    Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A set of 60 training films lit from above."""
    folder, random = tmp_path_factory.mktemp("usual"), np.random.default_rng(0)
    rows = np.linspace(220, 30, 40)[:, None]
    films = [rows + random.normal(0, 12, (40, 40)) + random.normal(0, 8) for _ in range(60)]
    studies = [
        {"study_id": f"s{i}", "split": "train", "images": [draw(folder / f"{i}.png", film)], "views": ["frontal"]}
        | {"findings": REPORTS[i % 3]}
        for i, film in enumerate(films)
    ]
    save_studies(studies, folder / "set")
    return folder / "set"


@pytest.fixture(scope="module")
def known(checkpoint, usual, tmp_path_factory):
    """The folder of a checkpoint with its facts. Copy it before changing it."""
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("known") / "run")
    module.write_facts(str(folder), usual, folder, workers=0)
    return folder


@pytest.fixture
def facts(known):
    return TrainingFacts.load(str(known))


# Sentences


def test_a_sentence_counts_once_a_report_however_it_is_written(facts):
    assert facts.reports == 60
    assert facts.share_of("The lungs are clear.") == facts.share_of("the  lungs are clear") == pytest.approx(2 / 3)


@pytest.mark.parametrize("text", ["There is an effusion.", "", "The lungs are clear. Old fracture."])
def test_what_is_unknown_or_no_sentence_has_no_share(facts, text):
    assert facts.share_of(text) is None


def test_what_one_report_alone_says_is_not_kept():
    reports, hashes, counts, rarer = count_sentences([*REPORTS, ""], "iu")
    assert (reports, hashes.tolist(), counts.tolist(), rarer) == (3, [hash_sentence("the lungs are clear")], [2], 1)


def test_of_too_many_sentences_the_rarest_go(monkeypatch):
    monkeypatch.setattr(module, "MOST_SENTENCES", 2)
    reports = ["A. B. C. D."] * 2 + ["A. B."] + ["A."]
    _, hashes, counts, rarer = count_sentences(reports, "iu")
    assert (sorted(counts.tolist()), rarer) == ([3, 4], 2) and len(hashes) == 2


def test_hashes_are_those_of_any_other_process():
    assert hash_sentence("the lungs are clear") == 18050897222078451225  # written down by one


# The file


def test_what_is_saved_is_loaded_again(facts, tmp_path):
    facts.save(tmp_path)
    again = TrainingFacts.load(str(tmp_path))
    assert (again.reports, again.rarer, again.style) == (facts.reports, facts.rarer, facts.style)
    assert again.share_of(REPORTS[2]) == facts.share_of(REPORTS[2]) == pytest.approx(1 / 3)
    features = np.random.default_rng(0).normal(size=(3, facts.films.mean.shape[1]))
    assert again.films.strangeness(features).tolist() == facts.films.strangeness(features).tolist()


def test_no_word_of_a_report_is_in_the_file(known):
    content = (known / FILE).read_bytes().lower()
    assert not [word for word in b"lungs clear heart fracture".split() if word in content]
    with safe_open(known / FILE, framework="np") as file:
        assert set(file.keys()) == {"hashes", "counts", *module.TENSORS}


def test_a_model_without_facts_has_none(checkpoint):
    assert TrainingFacts.load(str(checkpoint)) is None
    assert TrainingFacts.load("nobody/nothing") is None


def test_a_damaged_file_is_named(known, tmp_path):
    (tmp_path / FILE).write_bytes((known / FILE).read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"{FILE}` is damaged .* make it anew"):
        TrainingFacts.load(str(tmp_path))


def test_transformers_loads_the_same_model_beside_it(known, checkpoint):
    with_facts, without = (load_checkpoint(str(folder))[0].state_dict() for folder in (known, checkpoint))
    assert all(tensor.equal(without[name]) for name, tensor in with_facts.items())


def test_an_export_takes_the_facts_along(known, tmp_path):
    assert FILE in export(str(known), tmp_path / "out")["files"]
    assert (tmp_path / "out" / FILE).read_bytes() == (known / FILE).read_bytes()


# Films


def strangeness(facts, folder, films):
    network, processor = load_checkpoint(str(folder))
    return facts.strangeness(network.eval(), processor(images=films, return_tensors="pt"))


def test_training_films_are_not_strange(facts, known, usual):
    found = strangeness(facts, known, [films for films in load_studies(usual, "train")["images"]])
    assert found.shape == (60,) and (found > 1).sum() <= 3


def test_a_film_upside_down_is_strange_and_the_study_s_other_film_is_not(facts, known, usual):
    film = Image.open(load_studies(usual, "train")["images"][0][0])
    found = strangeness(facts, known, [[film, film.transpose(Image.Transpose.ROTATE_180)]])
    assert found.shape == (2,) and found[0] < 1 < found[1]


def test_films_that_cannot_be_read_cost_the_facts_of_films_alone(checkpoint, study, tmp_path, capsys):
    save_studies([study(f"s{i}") for i in range(5)], tmp_path / "set")
    module.write_facts(str(checkpoint), tmp_path / "set", tmp_path, workers=0)
    facts = TrainingFacts.load(str(tmp_path))
    assert facts.films is None and facts.share_of("Clear.") == 1
    assert facts.strangeness(None, {}) is None
    assert "which films are strange cannot be told" in capsys.readouterr().err


# The command


@pytest.fixture
def run_command(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["facts", *map(str, arguments)])
        module.main()

    return run


def test_the_command_writes_where_it_is_told(run_command, checkpoint, usual, tmp_path):
    run_command(checkpoint, "--dataset", usual, "--out", tmp_path)
    assert TrainingFacts.load(str(tmp_path)).reports == 60


@pytest.mark.parametrize(
    ("checkpoint_name", "dataset", "message"),
    [("nobody/nothing", "set", "no folder `nobody/nothing`"), (None, "gone", "gone does not exist")],
)
def test_what_is_not_there_is_one_line(run_command, checkpoint, tmp_path, capsys, checkpoint_name, dataset, message):
    with pytest.raises(SystemExit) as end:
        run_command(checkpoint_name or checkpoint, "--dataset", tmp_path / dataset)
    error = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and error.startswith("Error: ") and message in error
