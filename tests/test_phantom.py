"""Phantom data sets: reproducible, balanced, and refused with one line where the arguments are bad."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk
from PIL import Image

from radscribe.training.readers.phantom import can_be_seen, choose_findings, name_splits, study_random, write_phantoms
from radscribe.training.readers.phantom_grammar import KINDS, UNITS, Finding, all_findings, read_report


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """Twelve phantoms of seed 3, drawn by one process."""
    out = tmp_path_factory.mktemp("phantoms") / "set"
    write_phantoms(out, 12, seed=3, processes=1)
    return out


def all_rows(out: Path) -> list[dict]:
    return [row for split in load_from_disk(str(out)).values() for row in split]


def test_the_counts_of_each_split_are_returned(tmp_path):
    assert write_phantoms(tmp_path / "set", 3, seed=0, processes=1) == {"train": 1, "val": 1, "test": 1}


def test_a_twentieth_goes_to_val_and_to_test():
    splits = name_splits(2000)
    assert [splits.count(name) for name in ("train", "val", "test")] == [1800, 100, 100]


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(phantoms, tmp_path):
    write_phantoms(tmp_path / "set", 12, seed=3, processes=3)
    for first, second in zip(all_rows(phantoms), all_rows(tmp_path / "set"), strict=True):
        paths = zip(first.pop("images"), second.pop("images"), strict=True)
        assert first == second
        for one, other in paths:
            assert Path(one).read_bytes() == Path(other).read_bytes()


def test_a_larger_set_begins_with_the_studies_of_a_smaller_one(phantoms, tmp_path):
    write_phantoms(tmp_path / "set", 4, seed=3, processes=1)
    reports = {row["study_id"]: row["findings"] for row in all_rows(phantoms)}
    assert all(reports[row["study_id"]] == row["findings"] for row in all_rows(tmp_path / "set"))


def test_another_seed_gives_other_films(phantoms, tmp_path):
    write_phantoms(tmp_path / "set", 3, seed=4, processes=1)
    first, second = (np.asarray(Image.open(all_rows(out)[0]["images"][0])) for out in (phantoms, tmp_path / "set"))
    assert (first != second).any()


def test_ids_name_seed_and_index(phantoms):
    assert [row["study_id"] for row in all_rows(phantoms)] == [f"phantom-3-{index:06d}" for index in range(12)]


def test_each_study_has_a_frontal_and_a_lateral_grey_png(phantoms):
    for row in all_rows(phantoms):
        assert row["views"] == ["frontal", "lateral"]
        for path in row["images"]:
            assert Path(path).is_absolute()
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (224, 224))


def test_report_and_labels_say_the_same(phantoms):
    for row in all_rows(phantoms):
        stated = {finding.name for finding in read_report(row["findings"]).findings}
        assert stated == {label["name"] for label in row["labels"]}


def test_every_label_has_a_box_in_one_of_the_images(phantoms):
    for row in all_rows(phantoms):
        for label in row["labels"]:
            assert label["image"] in (0, 1)
            assert len(label["box"]) == 4


@pytest.fixture(scope="module")
def findings_of_many() -> list[list[Finding]]:
    return [choose_findings(study_random(0, index)) for index in range(4000)]


def test_about_a_third_is_normal(findings_of_many):
    assert 0.32 < np.mean([not findings for findings in findings_of_many]) < 0.38


def test_abnormal_studies_have_one_to_four_findings(findings_of_many):
    assert {len(findings) for findings in findings_of_many} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_is_present_in_at_most_a_fifth(unit, findings_of_many):
    share = np.mean([unit in {finding.unit for finding in findings} for findings in findings_of_many])
    assert 0.10 < share < 0.20


def test_no_study_has_a_unit_twice(findings_of_many):
    assert all(len({one.unit for one in findings}) == len(findings) for findings in findings_of_many)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Finding("effusion", "left", "large"), Finding("nodule", "left", "small", "middle")),
        (Finding("effusion", "left", "moderate"), Finding("fracture", "left", place="lower")),
        (Finding("pneumothorax", "left", "small"), Finding("nodule", "left", "small", "upper")),
        (Finding("pneumothorax", "left", "large"), Finding("effusion", "left", "large")),
        (Finding("consolidation", "left", place="upper"), Finding("nodule", "left", "small", "upper")),
        (Finding("cardiomegaly", size="marked"), Finding("nodule", "left", "small", "middle")),
        (Finding("cardiomegaly", size="marked"), Finding("fracture", "left", place="lower")),
        (Finding("cardiomegaly", size="mild"), Finding("consolidation", "left", place="lower")),
    ],
)
def test_a_finding_never_hides_another_of_its_side(one, other):
    assert not can_be_seen([one, other])
    assert can_be_seen([one, other._replace(side="right")])


def test_whatever_units_meet_there_is_a_way_to_show_them_all():
    # else `choose_findings` would never end
    options = {unit: [one for kind in KINDS for one in all_findings(kind) if one.unit == unit] for unit in UNITS}
    for units in itertools.combinations(UNITS, 4):
        assert any(map(can_be_seen, itertools.product(*(options[unit] for unit in units))))


def test_fewer_than_three_studies_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 3.*Got 2"):
        write_phantoms(tmp_path / "set", 2, seed=0)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`seed` must be 0 or more. Got -1"):
        write_phantoms(tmp_path / "set", 3, seed=-1)


def test_no_process_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`processes` must be at least 1"):
        write_phantoms(tmp_path / "set", 3, seed=0, processes=0)


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        write_phantoms(tmp_path, 3, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        write_phantoms(tmp_path / "file", 3, seed=0)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("radscribe.training.readers.phantom.draw_study", stop)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "set", 3, seed=0, processes=1)
    assert not (tmp_path / "set").exists()


def thumbnails(row: dict) -> np.ndarray:
    """Both films at 16x16, as one vector."""
    small = [Image.open(path).resize((16, 16), Image.Resampling.BOX) for path in row["images"]]
    return np.concatenate([np.asarray(image, np.float32).ravel() / 255 for image in small])


@pytest.mark.slow
def test_a_linear_model_on_thumbnails_stays_under_0_6(tmp_path):
    # else the exam would be passed without seeing shapes; measured 0.53, see also the README's table
    linear = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    write_phantoms(tmp_path / "set", 1800, seed=1)
    rows = all_rows(tmp_path / "set")
    pixels = np.stack([thumbnails(row) for row in rows])
    pixels = (pixels - pixels[:1500].mean(0)) / pixels[:1500].std(0)
    units = [{"/".join(label["name"].split("/")[:2]) for label in row["labels"]} for row in rows]
    truth = np.array([[unit in found for unit in UNITS] for found in units])
    models = [linear.LogisticRegression(max_iter=1000).fit(pixels[:1500], truth[:1500, i]) for i in range(len(UNITS))]
    answers = np.stack([model.predict(pixels[1500:]) for model in models], axis=1)
    assert metrics.f1_score(truth[1500:], answers, average="micro") < 0.6
