"""`prepare mimic-cxr` on R2Gen's annotation.json: rows and holes, parts that are gone on with, films embedded."""

import json
import tracemalloc

import numpy as np
import pytest
from datasets import load_dataset

from radscribe.training.readers import mimic_annotation
from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr
from radscribe.training.readers.studies import load_splits
from tests.tools.make_dicom import make_dicom

ROW = {"id": "02aa", "study_id": 50414267, "subject_id": 10000032, "report": "Clear lungs.", "split": "train"}


@pytest.fixture
def source(tmp_path, draw_film):
    """source([row, ...], folder): SRC with these training rows, one film below `folder`, and an OUT."""

    def make(rows, folder="files"):
        draw_film(f"src/{folder}/p10/a.jpg")
        (tmp_path / "src" / "annotation.json").write_text(json.dumps({"train": rows, "val": [], "test": []}))
        return tmp_path / "src", tmp_path / "out"

    return make


@pytest.mark.parametrize("folder", ["files", "images"])
def test_a_row_becomes_a_study_with_its_film(source, folder):
    src, out = source([ROW | {"image_path": ["p10/a.jpg"]}], folder)
    prepare_mimic_cxr(src, out)
    study = load_splits(out)["train"][0]
    assert (study["study_id"], study["findings"]) == ("02aa", "Clear lungs.")
    assert study["images"] == [str(src / folder / "p10" / "a.jpg")]


def test_a_missing_image_ends_it_with_one_line(source):
    src, out = source([ROW | {"image_path": ["p10/gone.jpg"]}])
    with pytest.raises(ValueError, match=r"train 1 \(study 02aa\) names an image that does not exist: .*gone.jpg"):
        prepare_mimic_cxr(src, out)


def test_an_empty_image_ends_it_with_one_line(source):
    src, out = source([ROW | {"image_path": ["p10/none.jpg"]}])
    (src / "files" / "p10" / "none.jpg").touch()
    with pytest.raises(ValueError, match="names an image that is an empty file: .*none.jpg"):
        prepare_mimic_cxr(src, out)


def test_holes_are_counted_where_asked(source):
    good = ROW | {"image_path": ["p10/a.jpg"]}
    rows = [good, good, good | {"id": "b", "report": " "}, good | {"id": "c", "image_path": ["gone.jpg"]}, 7]
    src, out = source(rows)
    counts = prepare_mimic_cxr(src, out, skip_broken=True)
    assert counts["kept"] == {"train": 1}
    assert counts["skipped"] == {"duplicate id": 1, "no findings": 1, "missing image": 1, "bad line": 1}


def test_no_row_that_can_be_used_is_refused(source):
    src, out = source([ROW | {"image_path": ["p10/a.jpg"], "report": ""}])
    with pytest.raises(ValueError, match=r"annotation.json holds no study that can be used \(1 no findings\)"):
        prepare_mimic_cxr(src, out)


@pytest.mark.parametrize("option", [{"views": "all"}, {"target": "impression"}, {"reports": "x"}])
def test_what_the_file_does_not_carry_is_refused(source, option):
    src, out = source([ROW | {"image_path": ["p10/a.jpg"]}])
    with pytest.raises(ValueError, match=f"annotation.json .*leave out `{next(iter(option))}`"):
        prepare_mimic_cxr(src, out, **option)


def many_rows(count=30):
    """Rows of which every seventh has the id of an earlier one."""
    return [
        ROW | {"id": f"{i - i % 7 // 6:03d}", "report": f"Report {i}.", "image_path": ["p10/a.jpg"]}
        for i in range(count)
    ]


@pytest.fixture
def many(source, monkeypatch):
    """(SRC of 30 rows, OUT), read in parts of 4."""
    monkeypatch.setattr(mimic_annotation, "PART_STUDIES", 4)
    return source(many_rows())


def read_all(out):
    return [row for split in load_splits(out).values() for row in split]


def test_the_number_of_processes_changes_nothing(many, tmp_path):
    answers = []
    for processes in (1, 2):
        answers.append(prepare_mimic_cxr(many[0], tmp_path / str(processes), processes=processes, skip_broken=True))
    assert answers[0]["skipped"] == answers[1]["skipped"] == {"duplicate id": 4}
    assert read_all(tmp_path / "1") == read_all(tmp_path / "2")


def test_a_repeated_id_is_found_across_parts(source, monkeypatch):
    monkeypatch.setattr(mimic_annotation, "PART_STUDIES", 1)
    row = ROW | {"image_path": ["p10/a.jpg"]}
    src, out = source([row, row | {"id": "b"}, row])
    with pytest.raises(ValueError, match="train 3 .study 02aa.: the id '02aa' occurred before"):
        prepare_mimic_cxr(src, out, processes=1)


@pytest.fixture
def interrupted(many, monkeypatch):
    """SRC, an OUT whose making ended before part 3 of 8, and the list of the parts made since."""
    made, real = [], mimic_annotation.make_part

    def fail_at_3(*given):
        if given[-1] == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(mimic_annotation, "make_part", fail_at_3)
    with pytest.raises(KeyboardInterrupt):
        prepare_mimic_cxr(*many, processes=1, skip_broken=True)
    monkeypatch.setattr(mimic_annotation, "make_part", lambda *given: (made.append(given[-1]), real(*given))[1])
    return *many, made


def test_a_second_call_repeats_no_part_and_no_staging(interrupted, monkeypatch):
    src, out, made = interrupted
    monkeypatch.setattr(mimic_annotation, "read_annotation", None)
    prepare_mimic_cxr(src, out, processes=1, skip_broken=True)
    assert made == [3, 4, 5, 6, 7]


def test_a_second_call_ends_in_the_same_data_set(interrupted, tmp_path):
    src, out, _ = interrupted
    for folder in (out, tmp_path / "whole"):
        prepare_mimic_cxr(src, folder, processes=1, skip_broken=True)
    assert read_all(out) == read_all(tmp_path / "whole")


def test_an_annotation_changed_between_the_calls_is_refused(interrupted):
    src, out, _ = interrupted
    (src / "annotation.json").write_text((src / "annotation.json").read_text() + " ")
    with pytest.raises(ValueError, match=r"begun with other options \(annotation\)"):
        prepare_mimic_cxr(src, out, processes=1, skip_broken=True)


def test_embedded_films_are_the_files_of_the_images(source, tmp_path):
    src, out = source([ROW | {"image_path": ["p10/a.jpg"]}])
    assert prepare_mimic_cxr(src, out, embed=True)["shards"] == 1
    files = str(out / "parquet" / "train-*.parquet")
    (row,) = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert row["study_id"] == "02aa" and row["films"] == [(src / "files" / "p10" / "a.jpg").read_bytes()]


def test_views_are_those_of_dicom_files(source, tmp_path):
    pytest.importorskip("pydicom")
    src, out = source([ROW | {"image_path": ["p10/a.jpg", "p10/l.dcm"]}])
    make_dicom(src / "files" / "p10" / "l.dcm", np.zeros((20, 20), np.uint16), ViewPosition="LL")
    prepare_mimic_cxr(src, out, processes=1)
    assert load_splits(out)["train"]["views"] == [["", "lateral"]]


def test_memory_does_not_grow_with_the_rows(source):
    peaks = []
    for count in (500, 5000):
        src, out = source(many_rows(count))
        tracemalloc.start()
        mimic_annotation._load(src / "annotation.json", src / "files", out.with_suffix(".sqlite"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
