"""R2Gen's annotation.json: records, the published split, and one line for each kind of broken file or row."""

import json

import pytest

from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.r2gen import read_annotation, read_r2gen, read_split, study_id
from radscribe.training.readers.source import BrokenStudy

ROW = {"id": "CXR7_IM-0001", "report": " Clear lungs. ", "image_path": ["CXR7_IM-0001/0.png"], "split": "train"}


@pytest.fixture
def source(tmp_path, draw_film):
    """source(content): a folder with this annotation.json (text, or what becomes JSON) and one film."""

    def make(content):
        draw_film("src/images/CXR7_IM-0001/0.png")
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "src" / "annotation.json").write_text(text)
        return tmp_path / "src"

    return make


def rows(*train, **others):
    return {"train": list(train), "val": [], "test": []} | others


def test_a_row_becomes_a_study_of_its_list(source):
    (study,) = read_r2gen(source(rows(val=[ROW])))
    assert (study.record["study_id"], study.record["split"], study.record["findings"]) == (
        "CXR7",
        "val",
        "Clear lungs.",
    )


def test_films_lie_below_images(source):
    src = source(rows(ROW))
    assert next(read_r2gen(src)).paths == [src / "images" / "CXR7_IM-0001" / "0.png"]


@pytest.mark.parametrize(
    ("name", "study"), [("CXR7_IM-0001-1001", "CXR7"), ("CXR1_1_IM-0001", "CXR1"), ("s50414267", "s50414267")]
)
def test_ids_of_iu_xray_become_those_of_open_i(name, study):
    assert study_id(name) == study


def test_the_published_split_is_a_table_of_studies(source):
    path = source(rows(ROW, test=[ROW | {"id": "CXR8_IM-0002"}])) / "annotation.json"
    assert read_split(path) == {"CXR7": "train", "CXR8": "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON in UTF-8 behind its beginning: ."),
        (json.dumps(rows(ROW))[:-20], "is not JSON in UTF-8 behind train 1: "),
        ({"train": {}, "val": [], "test": []}, "must hold a list for each of train, val, test"),
        (7, "must hold a list for each of train, val, test"),
        ([], "must hold a list for each of train, val, test"),
        ({"train": []}, "must hold a list for each of train, val, test"),
        (rows(validate=[]), "a split must be one of train, val, test. Got 'validate'"),
    ],
)
def test_a_file_that_is_no_annotation_is_refused(source, content, message):
    with pytest.raises(ValueError, match=message):
        list(read_annotation(source(content) / "annotation.json"))


def test_a_row_without_an_id_is_refused_as_a_split(source):
    with pytest.raises(ValueError, match="annotation.json train 1 must have a string `id`. Got {'id': 5}"):
        read_split(source(rows({"id": 5})) / "annotation.json")


def test_a_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="annotation.json is expected. .* is no file"):
        read_split(tmp_path / "annotation.json")


@pytest.mark.parametrize("row", [7, {"id": "a", "report": "b"}, ROW | {"report": None}, ROW | {"image_path": [3]}])
def test_a_broken_row_is_named(source, row):
    (found,) = read_r2gen(source(rows(row)))
    assert isinstance(found, BrokenStudy) and "annotation.json train 1" in str(found)


def test_a_missing_film_is_named(source, tmp_path):
    src = source(rows(ROW | {"image_path": ["gone.png"]}))
    with pytest.raises(ValueError, match="names an image that does not exist: .*gone.png"):
        prepare_iu_xray(src, tmp_path / "out")
