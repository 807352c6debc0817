"""What readers share: targets, broken studies, films opened whole and given their aspect back."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radscribe.training.readers import source
from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.source import BrokenStudy, check_file, choose_target, restored_size
from radscribe.training.readers.studies import load_studies
from tests.tools.make_dicom import PATIENT, make_dicom, told


def row(name="one", **changes):
    return {"id": name, "images": ["images/a.png"], "findings": "Clear lungs."} | changes


def test_a_squashed_film_gets_its_aspect_back(plain_source):
    src, out = plain_source([row(orig_size=[[1000, 2000]])])
    prepare_iu_xray(src, out)
    with Image.open(load_studies(out, "train")[0]["images"][0]) as film:
        assert film.size == (64, 32)


def test_a_film_of_the_right_aspect_stays_where_it_is(plain_source):
    src, out = plain_source([row(orig_size=[[2991, 2992]])])
    assert prepare_iu_xray(src, out)["restored_images"] == 0
    assert load_studies(out, "train")[0]["images"] == [str(src / "images" / "a.png")]


def test_sixteen_bits_survive_the_restoring(plain_source):
    src, out = plain_source([row(images=["images/deep.png"], orig_size=[[1000, 2000]])])
    Image.fromarray(np.full((64, 64), 40000, dtype=np.uint16)).save(src / "images" / "deep.png")
    prepare_iu_xray(src, out)
    with Image.open(load_studies(out, "train")[0]["images"][0]) as film:
        assert np.asarray(film).max() == 40000


@pytest.fixture
def dicom_source(plain_source):
    """dicom_source(record fields): a plain source of one study of two DICOM films and a picture, and its OUT."""
    pytest.importorskip("pydicom")

    def make(**changes):
        src, out = plain_source([row(images=["images/f.dcm", "images/l.dcm", "images/a.png"], **changes)])
        pixels = np.arange(1600, dtype=np.uint16).reshape(40, 40)
        for name, position in (("f", "PA"), ("l", "LL")):
            make_dicom(src / "images" / f"{name}.dcm", pixels, ViewPosition=position)
        return src, out

    return make


def test_views_that_the_source_does_not_state_are_those_of_the_dicom_files(dicom_source):
    src, out = dicom_source()
    prepare_iu_xray(src, out)
    assert load_studies(out, "train")[0]["views"] == ["frontal", "lateral", ""]


def test_views_that_the_source_states_stay(dicom_source):
    src, out = dicom_source(views=["lateral", None, None])
    prepare_iu_xray(src, out)
    assert load_studies(out, "train")[0]["views"] == ["lateral", "lateral", ""]


def test_a_squashed_dicom_film_keeps_its_view(dicom_source):
    src, out = dicom_source(orig_size=[[1000, 2000], None, None])
    assert prepare_iu_xray(src, out)["restored_images"] == 1
    assert load_studies(out, "train")[0]["views"] == ["frontal", "lateral", ""]


def test_without_pydicom_no_study_is_left_out_for_it(dicom_source, monkeypatch):
    src, out = dicom_source()
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"f.dcm cannot be read \(it is a DICOM file, which needs pydicom: pip inst"):
        prepare_iu_xray(src, out, skip_broken=True)


def test_a_dicom_file_that_is_no_film_is_named_without_its_patient(dicom_source):
    src, out = dicom_source()
    frames = np.zeros((2, 40, 40), np.uint16)
    make_dicom(src / "images" / "l.dcm", frames, NumberOfFrames=2)
    said = told(prepare_iu_xray, src, out)
    assert "l.dcm cannot be read (it must hold one film. Got 2 frames" in said
    assert not any(word in said for word in PATIENT)


def test_a_film_of_too_many_pixels_is_one_line(plain_source, monkeypatch):
    monkeypatch.setattr("radscribe.processing.dicom_film.MOST_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match=r"a.png cannot be read \(it is 64x64 pixels: a film has at most"):
        prepare_iu_xray(*plain_source([row()]))


@pytest.mark.parametrize(
    ("size", "film", "restored"),
    [
        ((256, 256), (2320, 2828), (256, 210)),
        ((256, 256), (2828, 2320), (210, 256)),
        ((300, 247), (2320, 2828), (300, 247)),  # was never squashed: the film's aspect within a pixel
        ((200, 256), (1000, 1000), (200, 200)),  # never above what the file holds
    ],
)
def test_restored_size(size, film, restored):
    assert restored_size(size, film) == restored


BROKEN = {
    "bad line": ("{not json", "line 2 is not JSON"),
    "missing image": (row("two", images=["images/gone.png"]), r"study two\) names an image that does not exist"),
    "no image": (row("two", images=[]), r"study two\) has no image"),
    "duplicate id": (row("one"), "the id 'one' occurred before"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_study_ends_the_reading_with_its_line(plain_source, reason):
    broken, message = BROKEN[reason]
    src, out = plain_source([row(), broken])
    with pytest.raises(ValueError, match=message):
        prepare_iu_xray(src, out)


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_study_is_counted_where_asked(plain_source, reason):
    src, out = plain_source([row(), BROKEN[reason][0]])
    counts = prepare_iu_xray(src, out, skip_broken=True)
    assert counts["kept"] == {"train": 1} and counts["skipped"] == {reason: 1}


@pytest.mark.parametrize("content", ["text", "cut", "dot"])
def test_an_image_that_is_none_is_named(plain_source, content):
    src, out = plain_source([row(images=["images/bad.jpg"])])
    bad = src / "images" / "bad.jpg"
    Image.effect_noise((64, 64) if content == "cut" else (1, 1), 50).save(bad)
    if content == "text":
        bad.write_text("not a picture")
    if content == "cut":
        bad.write_bytes(bad.read_bytes()[:900])
    with pytest.raises(ValueError, match="bad.jpg"):
        prepare_iu_xray(src, out)


def test_nothing_is_left_behind_by_a_failure(plain_source):
    src, out = plain_source([row("one", orig_size=[[1000, 2000]]), row("two", images=["gone.png"])])
    with pytest.raises(ValueError, match="gone.png"):
        prepare_iu_xray(src, out)
    assert not out.exists()


def die_at_the_second_film(src, out):
    real, begun = source._write_film, []

    def write(*given):
        begun.append(given)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)

    source._write_film = write
    prepare_iu_xray(src, out)


def test_after_a_kill_the_same_call_simply_succeeds(plain_source):
    src, out = plain_source([row(name, orig_size=[[1000, 2000]]) for name in "abc"])
    killed = multiprocessing.get_context("fork").Process(target=die_at_the_second_film, args=(src, out))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL and [path.name for path in out.iterdir()] == [".work"]
    assert prepare_iu_xray(src, out)["restored_images"] == 3
    assert {path.name for path in out.iterdir()} == {"dataset_dict.json", "images", "train"}
    assert [Path(image).parent for row in load_studies(out, "train") for image in row["images"]] == [
        out / "images"
    ] * 3


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_is_checked_without_opening_it(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BrokenStudy, match="study 7 names an image that (does not exist|is an empty file): .*a.png"):
        check_file(tmp_path / "a.png", "study 7")


def test_the_target_may_be_another_section_or_both():
    record = {"findings": "Clear lungs.", "impression": "Normal."}
    texts = [choose_target(record, target)["findings"] for target in ("findings", "impression", "findings+impression")]
    assert texts == ["Clear lungs.", "Normal.", "Clear lungs. Normal."]


def test_both_sections_as_target_are_one_where_the_other_is_missing():
    assert choose_target({"findings": "", "impression": "Normal."}, "findings+impression")["findings"] == "Normal."


def test_studies_without_the_target_are_counted_by_its_name(plain_source):
    src, out = plain_source([row("one", impression="Normal."), row("two")])
    assert prepare_iu_xray(src, out, target="impression")["skipped"] == {"no impression": 1}


def test_the_impression_stays_where_it_is_written_as_the_target(plain_source):
    src, out = plain_source([row(impression="Normal.")])
    prepare_iu_xray(src, out, target="findings+impression")
    study = load_studies(out, "train")[0]
    assert (study["findings"], study["impression"]) == ("Clear lungs. Normal.", "Normal.")
