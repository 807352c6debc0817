"""The study record: what is saved comes back, what cannot be a study is refused in one line."""

import pytest

from radscribe.training.readers.studies import (
    STUDY_FEATURES,
    Tally,
    is_phantom_set,
    load_splits,
    load_studies,
    save_studies,
)


def test_a_saved_study_comes_back_whole(tmp_path, study):
    labels = [{"name": "nodule/left/small/upper", "image": 0, "box": [1.0, 2.0, 3.0, 4.0]}]
    save_studies([study("a", labels=labels, impression="Fine.")], tmp_path / "out")
    expected = study("a", labels=labels, impression="Fine.", indication="", comparison="")
    assert load_studies(tmp_path / "out", "train")[0] == expected


def test_columns_are_the_study_record(tmp_path, study):
    save_studies([study("a")], tmp_path / "out")
    assert load_studies(tmp_path / "out", "train").features == STUDY_FEATURES


def test_only_splits_that_occur_are_written(tmp_path, study):
    counts = save_studies([study("a"), study("b", split="test"), study("c")], tmp_path / "out")
    assert counts == {"train": 2, "test": 1}


def test_an_images_folder_filled_before_is_kept(tmp_path, study):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "film.png").touch()
    save_studies([study("a")], tmp_path / "out")
    assert (tmp_path / "out" / "images" / "film.png").exists()


def test_a_used_folder_is_refused(tmp_path, study):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="new or empty folder"):
        save_studies([study("a")], tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, study):
    (tmp_path / "out").touch()
    with pytest.raises(NotADirectoryError, match="Got the file"):
        save_studies([study("a")], tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [], "views": []}, "has none"),
        ({"split": "validate"}, "must be one of train, val, test, extra"),
        ({"views": []}, "one entry an image"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, study, changes, message):
    with pytest.raises(ValueError, match=message):
        save_studies([study("a", **changes)], tmp_path / "out")


def test_a_repeated_id_is_refused(tmp_path, study):
    with pytest.raises(ValueError, match="'a' occurs twice"):
        save_studies([study("a"), study("a")], tmp_path / "out")


def test_no_study_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one study"):
        save_studies([], tmp_path / "out")


def test_an_unknown_split_lists_those_that_exist(tmp_path, study):
    save_studies([study("a")], tmp_path / "out")
    with pytest.raises(ValueError, match=r"no split 'test'. It has: train \(1\)"):
        load_studies(tmp_path / "out", "test")


def test_a_missing_data_set_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="radscribe prepare"):
        load_studies(tmp_path / "nowhere", "test")


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="Got the file"):
        load_studies(tmp_path / "file", "test")


def test_any_other_folder_is_no_data_set(tmp_path):
    with pytest.raises(ValueError, match="not a prepared data set"):
        load_studies(tmp_path, "test")


def test_a_damaged_data_set_is_named(tmp_path, study):
    save_studies([study("a")], tmp_path / "out")
    (tmp_path / "out" / "train" / "state.json").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        load_studies(tmp_path / "out", "train")


def test_tally_counts_by_split_and_by_reason(capsys):
    tally = Tally()
    tally.keep("val")
    tally.keep("train")
    tally.skip("no findings")
    assert tally.as_dict() == {"kept": {"train": 1, "val": 1}, "skipped": {"no findings": 1}}


def test_tally_leaves_stdout_alone(capsys):
    tally = Tally()
    tally.skip("no findings")
    tally.show("title")
    captured = capsys.readouterr()
    assert captured.out == "" and "no findings" in captured.err


def test_an_empty_split_leaves_the_others_readable(tmp_path, study):
    save_studies([study("a", split="train"), study("b", split="test")], tmp_path / "set")
    splits = load_splits(tmp_path / "set")
    splits["test"] = splits["test"].select([])
    splits.save_to_disk(tmp_path / "emptied")
    assert len(load_studies(tmp_path / "emptied", "train")) == 1
    with pytest.raises(ValueError, match="The split 'test' of .* is empty"):
        load_studies(tmp_path / "emptied", "test")


@pytest.mark.parametrize(
    ("ids", "expected"), [(["phantom-1-0", "phantom-1-1"], True), (["phantom-1-0", "CXR4"], False)]
)
def test_a_phantom_set_holds_phantoms_alone(ids, expected):
    assert is_phantom_set(ids) == expected


def test_a_set_that_cannot_be_trained_on_says_so(capsys):
    tally = Tally()
    tally.keep("train")
    tally.show("mine")
    assert "No study in val: training needs both." in capsys.readouterr().err
