"""`prepare mimic-cxr` on R2Gen's annotation.json."""

import json

import pytest

from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr
from radscribe.training.readers.studies import load_splits

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


def test_holes_are_counted_where_asked(source):
    good = ROW | {"image_path": ["p10/a.jpg"]}
    rows = [good, good, good | {"id": "b", "report": " "}, good | {"id": "c", "image_path": ["gone.jpg"]}, 7]
    src, out = source(rows)
    counts = prepare_mimic_cxr(src, out, skip_broken=True)
    assert counts["kept"] == {"train": 1}
    assert counts["skipped"] == {"duplicate id": 1, "no findings": 1, "missing image": 1, "bad line": 1}


def test_no_row_that_can_be_used_is_refused(source):
    src, out = source([ROW | {"image_path": ["p10/a.jpg"], "report": ""}])
    with pytest.raises(ValueError, match=r"holds no row that can be used \(1 no findings\)"):
        prepare_mimic_cxr(src, out)


@pytest.mark.parametrize("option", [{"views": "all"}, {"target": "impression"}, {"embed": True}, {"reports": "x"}])
def test_what_the_file_does_not_carry_is_refused(source, option):
    src, out = source([ROW | {"image_path": ["p10/a.jpg"]}])
    with pytest.raises(ValueError, match=f"annotation.json .*leave out `{next(iter(option))}`"):
        prepare_mimic_cxr(src, out, **option)
