"""`radscribe generate`: one report a study, the control without fixed points, one line for input that cannot work."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from radscribe.modeling.modeling_report import VisualTokens
from radscribe.training import generate as module
from radscribe.training.facts import TrainingFacts
from radscribe.training.film_domain import FilmDomain
from radscribe.training.generate import generate
from radscribe.training.readers.studies import load_studies, save_studies
from tests.tools.make_dicom import PATIENT, make_dicom


@pytest.fixture
def dataset(draw_film, tmp_path, study):
    """Five studies to test on, of one or two films."""
    films = [str(draw_film(f"films/{i}.png", 40, 36 + i)) for i in range(7)]
    images = [films[:1], films[1:2], films[2:4], films[4:6], films[6:]]
    records = [
        study(f"s{i}", split="test", images=paths, views=["frontal"] * len(paths)) for i, paths in enumerate(images)
    ]
    save_studies(records, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def write(checkpoint):
    """write(images=..., dataset=...): `generate` with the tiny checkpoint."""

    def run(images=(), dataset=None, split="test", shuffle_images=None, out=None, **options):
        options = {"model": str(checkpoint)} | options
        return generate(list(images), dataset, split, shuffle_images, out=out, **options)

    return run


@pytest.fixture
def echo(monkeypatch):
    """A stand-in for the model whose report is the mean of the study's first film."""

    def answer(network, processor, loader):
        for batch in loader:
            yield from (f"{value:.4f}" for value in batch["pixel_values"][:, 0].mean((1, 2, 3)).tolist())

    monkeypatch.setattr(module, "_write_reports", answer)


def test_files_are_the_views_of_one_study(write, draw_film):
    reports = write([draw_film("front.png"), draw_film("side.png")])
    assert [row["id"] for row in reports] == ["front"] and isinstance(reports[0]["report"], str)


def test_the_model_is_given_every_view(write, draw_film, monkeypatch):
    monkeypatch.setattr(module, "_write_reports", lambda n, p, loader: [b["view_mask"].tolist() for b in loader])
    assert write([draw_film("front.png"), draw_film("side.png")])[0]["report"] == [[1, 1]]


def test_more_images_than_the_model_takes_are_refused(write, draw_film):
    with pytest.raises(ValueError, match="Give at most 2 images"):
        write([draw_film(f"{i}.png") for i in range(3)])


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_or_zip_of_more_films_than_the_model_takes_is_refused_alike(write, draw_film, tmp_path, kind):
    for i in range(3):
        draw_film(f"study/{i}.png")
    path = (
        tmp_path / "study" if kind == "folder" else shutil.make_archive(tmp_path / "study", "zip", tmp_path / "study")
    )
    with pytest.raises(ValueError, match="^Give at most 2 images: so many views this model takes. Got 3.$"):
        write([path])


def test_a_zip_gets_the_report_of_its_files(write, draw_film, tmp_path):
    films = [draw_film("study/a.png"), draw_film("study/b.png", 40, 50)]
    path = shutil.make_archive(tmp_path / "study", "zip", tmp_path / "study")
    own, folder, packed = write(films), write([tmp_path / "study"]), write([path])
    assert [row["id"] for row in own + folder + packed] == ["a", "study", "study"]
    assert own[0]["report"] == folder[0]["report"] == packed[0]["report"]


def test_no_tag_and_no_name_of_a_member_reaches_what_generate_says(radscribe, checkpoint, tmp_path):
    pytest.importorskip("pydicom")
    film = np.arange(400, dtype=np.uint16).reshape(20, 20)
    make_dicom(tmp_path / "in" / f"{PATIENT[0]}.dcm", film, ViewPosition="PA")
    good = shutil.make_archive(tmp_path / "good", "zip", tmp_path / "in")
    make_dicom(tmp_path / "in" / f"{PATIENT[1]}.dcm", np.stack([film, film]), NumberOfFrames=2)
    bad = shutil.make_archive(tmp_path / "bad", "zip", tmp_path / "in")
    said = [radscribe("generate", "--model", checkpoint, path) for path in (good, bad)]
    assert [code for code, _, _ in said] == [0, 2]
    assert re.fullmatch(r"Error: file 2 of `[^\n]*bad.zip` must hold one film. Got 2 frames[^\n]*\n", said[1][2])
    assert not any(word in text for word in PATIENT for _, out, err in said for text in (out, err))


def test_a_split_gets_one_report_a_study_in_its_order(write, dataset):
    assert [row["id"] for row in write(dataset=dataset)] == [f"s{i}" for i in range(5)]


def test_the_same_film_gets_the_same_report_in_any_batch(write, dataset):
    assert write(dataset=dataset, batch_size=1) == write(dataset=dataset, batch_size=5)


def test_reports_are_sentences(write, dataset):
    assert not any(re.search(r"<|\s\.", row["report"]) for row in write(dataset=dataset))


def test_out_holds_one_json_line_a_study(write, dataset, tmp_path):
    rows = write(dataset=dataset, out=tmp_path / "new" / "reports.jsonl")
    lines = (tmp_path / "new" / "reports.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows


def test_the_checkpoints_own_settings_are_used(write, dataset, monkeypatch):
    lengths = []
    monkeypatch.setattr(
        "radscribe.processing.processing_mcsam.MCSAMProcessor.batch_decode",
        lambda self, ids: [lengths.append(ids.shape[1])] and [""] * len(ids),
    )
    write(dataset=dataset)
    assert max(lengths) <= 12


def test_the_model_is_not_in_training_mode(write, dataset, monkeypatch):
    modes = []
    monkeypatch.setattr(
        "radscribe.modeling.modeling_mcsam.MCSAMForConditionalGeneration.generate",
        lambda self, **inputs: (
            modes.append(self.training) or torch.ones(len(inputs["view_mask"]), 2, dtype=torch.long)
        ),
    )
    write(dataset=dataset)
    assert modes == [False]


@pytest.mark.parametrize("options", [{"bf16": True}, {}])
def test_half_precision_comes_on_request(write, dataset, monkeypatch, options):
    asked = []

    def note(*args, **kwargs):
        asked.append(torch.is_autocast_enabled("cpu"))
        return torch.ones(len(kwargs["pixel_values"]), 3, dtype=torch.long)

    monkeypatch.setattr("radscribe.MCSAMForConditionalGeneration.generate", note)
    assert len(write(dataset=dataset, **options)) == 5 and set(asked) == {bool(options)}


def test_the_control_gives_no_study_its_own_films(write, dataset, echo):
    own, control = write(dataset=dataset), write(dataset=dataset, shuffle_images=1)
    assert all(a["report"] != b["report"] for a, b in zip(own, control, strict=True))


def test_the_control_keeps_ids_and_order(write, dataset, echo):
    own, control = write(dataset=dataset), write(dataset=dataset, shuffle_images=1)
    assert [row["id"] for row in own] == [row["id"] for row in control]


def test_the_control_uses_every_film_once(write, dataset, echo):
    own, control = write(dataset=dataset), write(dataset=dataset, shuffle_images=1)
    assert sorted(row["report"] for row in own) == sorted(row["report"] for row in control)


def test_the_control_repeats_for_a_seed(write, dataset, echo):
    assert write(dataset=dataset, shuffle_images=3) == write(dataset=dataset, shuffle_images=3)


def test_neither_files_nor_a_data_set_is_refused(write):
    with pytest.raises(ValueError, match="^Give either image files .* or `--dataset DIR`"):
        write()


def test_files_and_a_data_set_together_are_refused(write, dataset, draw_film):
    with pytest.raises(ValueError, match="^Give either image files .* or `--dataset DIR`"):
        write([draw_film("a.png")], dataset)


def test_files_have_no_control(write, draw_film):
    with pytest.raises(ValueError, match="`--shuffle-images` swaps films between the studies of a `--dataset`"):
        write([draw_film("a.png")], shuffle_images=0)


def test_a_folder_as_out_is_refused(write, dataset, tmp_path):
    with pytest.raises(IsADirectoryError, match="`--out` must be a file to write. Got the folder"):
        write(dataset=dataset, out=tmp_path)


@pytest.fixture
def bad_film(draw_film, tmp_path):
    """bad_film("text"): the path of a film that cannot be read."""

    def make(kind):
        path = tmp_path / f"{kind}.jpg"
        if kind == "text":
            path.write_text("These are notes, no film.")
        elif kind == "one_pixel":
            Image.new("L", (1, 1)).save(path)
        elif kind == "truncated":
            Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(path)
            path.write_bytes(path.read_bytes()[:-2000])
        elif kind == "folder":
            path.mkdir()
        elif kind == "empty":
            path.touch()
        return path  # "missing": made by nobody

    return make


BAD_FILMS = ["text", "one_pixel", "truncated", "folder", "empty", "missing"]


@pytest.mark.parametrize("kind", BAD_FILMS)
def test_a_film_that_cannot_be_read_is_one_line_and_exit_code_2(radscribe, checkpoint, bad_film, kind):
    code, out, err = radscribe("generate", "--model", checkpoint, bad_film(kind))
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"Error: [^\n]*{kind}\.jpg[^\n]*\n", err)


@pytest.mark.parametrize("kind", BAD_FILMS)
def test_a_spoilt_film_in_a_data_set_is_one_line_and_exit_code_2(
    radscribe, checkpoint, bad_film, draw_film, study, tmp_path, kind
):
    good, bad = str(draw_film("good.png")), str(bad_film(kind))
    save_studies([study("a", split="test", images=[good]), study("b", split="test", images=[bad])], tmp_path / "set")
    code, out, err = radscribe("generate", "--model", checkpoint, "--dataset", tmp_path / "set")
    assert code == 2 and len(err.splitlines()[-1]) < 250
    assert re.fullmatch(r"Error: [^\n]*\.jpg[^\n]*", err.splitlines()[-1])


@pytest.mark.slow
def test_a_spoilt_film_that_a_worker_meets_is_one_line_too(
    radscribe, checkpoint, bad_film, draw_film, study, tmp_path
):
    """From 33 studies on a second process reads the films; its errors come wrapped in a traceback."""
    good, bad = str(draw_film("good.png")), str(bad_film("text"))
    records = [study(f"a{i:02}", split="test", images=[bad if i == 39 else good]) for i in range(40)]
    save_studies(records, tmp_path / "set")
    code, _, err = radscribe("generate", "--model", checkpoint, "--dataset", tmp_path / "set")
    assert code == 2
    assert re.fullmatch(r"Error: `[^`\n]*text.jpg` is no image[^\n]*", err.splitlines()[-1])


def test_a_missing_data_set_is_one_line(radscribe, checkpoint, tmp_path):
    code, _, err = radscribe("generate", "--model", checkpoint, "--dataset", tmp_path / "gone")
    assert code == 2 and re.fullmatch(r"Error: The data set [^\n]*gone does not exist[^\n]*\n", err)


def test_a_split_that_is_not_there_is_one_line(radscribe, checkpoint, dataset):
    code, _, err = radscribe("generate", "--model", checkpoint, "--dataset", dataset, "--split", "val")
    assert code == 2 and re.fullmatch(r"Error: [^\n]*no split 'val'. It has: test \(5\)\.\n", err)


def test_a_checkpoint_of_another_model_type_is_one_line(radscribe, draw_film, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    code, out, err = radscribe("generate", "--model", tmp_path, draw_film("a.png"))
    assert (code, out) == (2, "") and re.fullmatch(r"Error: [^\n]*`bert` model. Expected one of: mcsam, uar.\n", err)


def test_a_failed_call_leaves_no_reports_behind(write, dataset, tmp_path):
    with pytest.raises(ValueError):
        write(dataset=dataset, model=str(tmp_path), out=tmp_path / "reports.jsonl")
    assert not (tmp_path / "reports.jsonl").exists()


def test_the_data_set_is_only_read(write, dataset):
    before = list(load_studies(dataset, "test"))
    write(dataset=dataset, shuffle_images=1)
    assert list(load_studies(dataset, "test")) == before


@pytest.fixture
def neighbours(tmp_path, draw_film, study):
    """A set whose test films are those of training studies in another order; t2 has no report to give."""
    films = [[str(draw_film(f"films/{i}.png", 40, 36 + 9 * i))] for i in range(4)]
    training = [study(f"t{i}", images=films[i], findings=f"Report {i}." if i != 2 else "") for i in range(4)]
    asked = [study(f"s{i}", split="test", images=films[i]) for i in (3, 0, 1)]
    save_studies(training + asked, tmp_path / "set")
    return tmp_path / "set"


def test_the_nearest_training_study_gives_its_report(write, neighbours):
    rows = write(dataset=neighbours, nearest_neighbour=True)
    assert [row["report"] for row in rows] == ["Report 3.", "Report 0.", "Report 1."]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"split": "train"}, "would find each training study itself"), ({"shuffle_images": 1}, "make a file of each")],
)
def test_neighbours_that_say_nothing_are_refused(write, neighbours, options, message):
    with pytest.raises(ValueError, match=message):
        write(dataset=neighbours, nearest_neighbour=True, **options)


def test_neighbours_of_image_files_are_refused(write, draw_film):
    with pytest.raises(ValueError, match="looks among the training studies"):
        write([draw_film("a.png")], nearest_neighbour=True)


@pytest.fixture
def with_facts(checkpoint, tmp_path):
    """with_facts(limit): the checkpoint with facts by which a blank film has distance 1 and any other 2."""

    def make(limit):
        folder = shutil.copytree(checkpoint, tmp_path / f"known_{limit}")
        domain = FilmDomain(np.zeros((1, 24)), np.eye(2, 24)[None], np.ones((1, 2)), np.ones(1), np.array([limit]))
        TrainingFacts(1, np.array([], np.uint64), np.array([], np.int32), 1, "iu", domain).save(folder)
        return str(folder)

    return make


def test_a_strange_film_is_named_with_its_strangeness(write, with_facts, draw_film, tmp_path, capsys):
    Image.new("L", (40, 40), 90).save(tmp_path / "blank.png")
    write([tmp_path / "blank.png", draw_film("noise.png")], model=with_facts(1.55))
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"`{tmp_path / 'noise.png'}` looks unlike the films this model learnt from (strangeness 1.3; 1 is the limit): "
        "its words may mean nothing."
    )


def test_all_strange_films_of_a_study_share_a_line(write, with_facts, draw_film, capsys):
    write([draw_film("a.png"), draw_film("b.png")], model=with_facts(0.5))
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"`\S+a.png` and `\S+b.png` look unlike .* \(strangeness up to 4.0;", line)


def test_of_a_folder_the_strange_film_is_named_by_its_number(write, with_facts, draw_film, tmp_path, capsys):
    draw_film("study/b.png")
    Image.new("L", (40, 40), 90).save(tmp_path / "study" / "a.png")
    write([tmp_path / "study"], model=with_facts(1.55))
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"file 2 of `{tmp_path / 'study'}` looks unlike")


@pytest.mark.parametrize("to_file", [True, False])
def test_of_a_data_set_the_number_of_strange_films_is_told_once(write, with_facts, dataset, tmp_path, capsys, to_file):
    write(dataset=dataset, model=with_facts(1.6), out=tmp_path / "reports.jsonl" if to_file else None, batch_size=2)
    said = [line for line in capsys.readouterr().err.splitlines() if "unlike" in line]
    assert len(said) == 1 and said[0].startswith("7 of 7 films look unlike")


def test_nothing_is_said_of_films_that_look_as_usual(write, with_facts, draw_film, capsys):
    write([draw_film("a.png")], model=with_facts(2.5))
    assert "unlike" not in capsys.readouterr().err


def test_nothing_is_said_by_a_model_without_facts(write, draw_film, capsys):
    write([draw_film("a.png")])
    assert "unlike" not in capsys.readouterr().err


def test_a_warning_changes_no_report(write, with_facts, dataset, tmp_path):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write(dataset=dataset, out=files[0])
    write(dataset=dataset, out=files[1], model=with_facts(0.5))
    assert files[0].read_text() == files[1].read_text()


def test_films_are_read_once(write, with_facts, dataset, monkeypatch):
    read, original = [], VisualTokens.read
    monkeypatch.setattr(
        VisualTokens, "read", lambda self, *films: read.append(len(films[1])) or original(self, *films)
    )
    write(dataset=dataset, model=with_facts(1.6))
    assert sum(read) == 5
