"""`prepare iu-xray`: which layout is found, who gets which split, and that all layouts give the same records."""

import pytest

from radscribe.training.readers.iu_xray import find_layout, prepare_iu_xray, split_by_seed
from tests.tools.compare_layouts import compare
from tests.tools.iu_layouts import write_layouts

SECTIONS = {"findings": "Clear lungs.", "impression": "Normal & well.", "indication": "Cough.", "comparison": ""}


@pytest.fixture
def layouts(tmp_path, draw_film, write_lines):
    """A folder in the plain format with eight made-up studies of IU X-ray's kind; the fourth one has no findings."""
    rows = []
    for i in range(1, 9):
        images = [f"images/{i}_IM-000{i}-{view}001.png" for view in (4, 3)]
        for image in images:
            draw_film(f"src/{image}")
        row = {"id": f"CXR{i}", "images": images, "views": ["frontal", "lateral"], "mesh": ["Opacity/lung", "normal"]}
        row |= SECTIONS | {"split": ["train", "val", "test", "extra"][i % 4 - 1]}
        rows.append(row | ({"findings": ""} if i == 3 else {}))
    write_lines("src/studies.jsonl", rows)
    return tmp_path / "src"


@pytest.mark.slow
def test_every_layout_gives_the_records_of_the_plain_format(layouts, tmp_path):
    found = compare(layouts, tmp_path / "out")
    assert found == {
        "open_i": {"studies": 7, "equal": 7, "missing": 0},
        "kaggle": {"studies": 7, "equal": 7, "missing": 0},
        "r2gen": {"studies": 5, "equal": 5, "missing": 0},
    }


def test_the_layout_is_found_by_its_files(layouts, tmp_path):
    write_layouts(layouts, tmp_path / "out")
    names = [find_layout(layouts)[0], *(find_layout(tmp_path / "out" / n)[0] for n in ("open_i", "kaggle", "r2gen"))]
    assert names == ["plain", "Open-i", "Kaggle", "R2Gen"]


def test_an_annotation_beside_other_files_is_their_split_where_it_is_named_so(layouts, tmp_path, capsys):
    write_layouts(layouts, tmp_path / "out")
    src = tmp_path / "out" / "kaggle"
    (tmp_path / "out" / "r2gen" / "annotation.json").rename(src / "annotation.json")
    assert find_layout(src)[0] == "R2Gen" and "holds R2Gen, Kaggle: read as R2Gen" in capsys.readouterr().err
    counts = prepare_iu_xray(src, tmp_path / "data", split_from=src / "annotation.json")
    assert counts["layout"] == "Kaggle" and counts["kept"]["val"] == 2


@pytest.mark.parametrize("names", [1, 10, 137])
def test_a_seeded_split_is_70_10_20(names):
    splits = list(split_by_seed([f"CXR{i}" for i in range(names)], seed=1).values())
    shares = [splits.count(split) for split in ("train", "val", "test")]
    assert sum(shares) == names and shares == pytest.approx([0.7 * names, 0.1 * names, 0.2 * names], abs=1)


def test_a_seeded_split_does_not_depend_on_the_order():
    names = [f"CXR{i}" for i in range(50)]
    assert split_by_seed(names, 3) == split_by_seed(names[::-1], 3)


def test_another_seed_splits_otherwise():
    names = [f"CXR{i}" for i in range(50)]
    assert split_by_seed(names, 3) != split_by_seed(names, 4)


def test_a_seeded_split_is_said_aloud(layouts, tmp_path, capsys):
    write_layouts(layouts, tmp_path / "out")
    prepare_iu_xray(tmp_path / "out" / "kaggle", tmp_path / "data", seed=5)
    assert "split: 70/10/20 by study, seed 5" in capsys.readouterr().err


def test_studies_outside_of_the_published_split_are_extra(layouts, tmp_path):
    write_layouts(layouts, tmp_path / "out")
    annotation = tmp_path / "out" / "r2gen" / "annotation.json"
    counts = prepare_iu_xray(tmp_path / "out" / "open_i", tmp_path / "data", split_from=annotation)
    assert counts["kept"] == {"train": 2, "val": 2, "test": 1, "extra": 2}


def test_a_published_split_for_a_source_with_its_own_is_refused(layouts, tmp_path):
    with pytest.raises(ValueError, match="`split_from` is for sources without a split; plain states its own"):
        prepare_iu_xray(layouts, tmp_path / "data", split_from=tmp_path / "annotation.json")


def test_an_unknown_target_is_refused(layouts, tmp_path):
    with pytest.raises(
        ValueError, match="`target` must be one of findings, impression, findings.impression. Got 'all'"
    ):
        prepare_iu_xray(layouts, tmp_path / "data", target="all")


def test_a_source_that_is_a_file_is_refused(plain_source):
    src, out = plain_source([])
    with pytest.raises(NotADirectoryError, match="name its folder"):
        prepare_iu_xray(src / "studies.jsonl", out)


def test_a_source_without_studies_is_refused(plain_source):
    src, out = plain_source([])
    with pytest.raises(ValueError, match="no study that can be used"):
        prepare_iu_xray(src, out)


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="SRC must be a folder. .* does not exist"):
        prepare_iu_xray(tmp_path / "gone", tmp_path / "out")


def test_a_folder_of_no_layout_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="SRC must hold studies.jsonl, annotation.json, indiana_reports.csv or"
    ):
        prepare_iu_xray(tmp_path, tmp_path / "out")
