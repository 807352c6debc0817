"""Data sets made in parts: nothing is lost, nothing made twice, nobody's folder touched."""

import os
from functools import partial

import pytest
from datasets import load_from_disk

from radscribe.training.readers.habits import IU_HABITS
from radscribe.training.readers.parts import assemble, finished_parts, open_whole, open_work, write_parts
from radscribe.training.readers.studies import STUDY_FEATURES, load_splits, save_studies

EMPTY = {"views": [""], "findings": "", "impression": "", "indication": "", "comparison": "", "labels": []}


def record(number, split="train"):
    return EMPTY | {"study_id": f"s{number}", "split": split, "images": [f"/{number}.jpg"]}


def make_two(number):
    """Two studies a part; every third part is of the test split."""
    split = "test" if number % 3 == 2 else "train"
    return [record(2 * number, split), record(2 * number + 1, split)], {"process": os.getpid()}


def make_none(number):
    return [], {}


def fail_at(wrong, number):
    if number == wrong:
        raise ValueError(f"part {number} is wrong")
    return make_two(number)


def die(number):
    os._exit(1)


def make_set(out, parts=4, processes=1):
    with open_work(out, {}) as work:
        list(write_parts(make_two, work, list(range(parts)), processes))
        return assemble(work, out, IU_HABITS)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_set_holds_every_study_in_the_order_of_the_parts(tmp_path, processes):
    make_set(tmp_path / "out", processes=processes)
    splits = load_splits(tmp_path / "out")
    assert splits["train"]["study_id"][:] == ["s0", "s1", "s2", "s3", "s6", "s7"]
    assert splits["test"]["study_id"][:] == ["s4", "s5"]


def test_assemble_counts_the_studies_of_each_split(tmp_path):
    assert make_set(tmp_path / "out") == {"train": 6, "test": 2}


def test_a_set_equals_the_one_save_studies_writes(tmp_path):
    make_set(tmp_path / "parts")
    save_studies([row for number in range(4) for row in make_two(number)[0]], tmp_path / "whole")
    for split, rows in load_splits(tmp_path / "parts").items():
        assert rows.to_list() == load_splits(tmp_path / "whole")[split].to_list()


def test_columns_are_the_study_record(tmp_path):
    make_set(tmp_path / "out")
    assert load_from_disk(tmp_path / "out")["train"].features == STUDY_FEATURES


def test_sets_that_begin_alike_have_different_fingerprints(tmp_path):
    for parts in (1, 2):
        make_set(tmp_path / str(parts), parts)
    first, second = (load_from_disk(tmp_path / str(parts))["train"]._fingerprint for parts in (1, 2))
    assert first != second


def test_several_processes_share_the_parts(tmp_path):
    with open_work(tmp_path / "out", {}) as work:
        counts = dict(write_parts(make_two, work, list(range(8)), 2))
    assert os.getpid() not in {part["process"] for part in counts.values()}


def test_parts_done_before_an_error_stay(tmp_path):
    with pytest.raises(ValueError, match="part 2 is wrong"):
        with open_work(tmp_path / "out", {}) as work:
            list(write_parts(partial(fail_at, 2), work, [0, 1, 2, 3], 1))
    assert list(finished_parts(tmp_path / "out" / ".work")) == [0, 1]


def test_an_error_of_another_process_arrives(tmp_path):
    with open_work(tmp_path / "out", {}) as work, pytest.raises(ValueError, match="part 2 is wrong"):
        list(write_parts(partial(fail_at, 2), work, [0, 1, 2, 3], 2))


def test_a_worker_that_dies_is_one_line(tmp_path):
    with open_work(tmp_path / "out", {}) as work, pytest.raises(ValueError, match="worker process was killed"):
        list(write_parts(die, work, [0, 1, 2], 2))


def test_a_failure_before_the_first_study_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="part 1 is wrong"):
        with open_work(tmp_path / "out", {}) as work:
            list(write_parts(make_none, work, [0], 1))
            list(write_parts(partial(fail_at, 1), work, [1], 1))
    assert not (tmp_path / "out").exists()


def test_a_whole_set_keeps_no_work(tmp_path):
    make_set(tmp_path / "out")
    assert not (tmp_path / "out" / ".work").exists()


def test_a_kill_while_splits_are_moved_in_is_made_good(tmp_path, monkeypatch):
    real, moves = os.replace, []

    def replace(source, target):
        moves.append(target)
        if target == tmp_path / "out" / "test":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        make_set(tmp_path / "out")
    monkeypatch.setattr(os, "replace", real)
    assert (tmp_path / "out" / "train").exists()
    with open_work(tmp_path / "out", {}) as work:
        assemble(work, tmp_path / "out", IU_HABITS)
    assert {name: len(rows) for name, rows in load_splits(tmp_path / "out").items()} == {"train": 6, "test": 2}


def test_another_call_at_the_same_time_is_refused(tmp_path):
    with open_work(tmp_path / "out", {}):
        with pytest.raises(ValueError, match="by another process"):
            with open_work(tmp_path / "out", {}):
                pass


def make_small_set(out):
    with open_whole(out) as whole:
        (whole / "images" / "0.jpg").touch()
        save_studies([record(0)], whole)


def test_a_small_set_takes_its_place_with_its_images(tmp_path):
    make_small_set(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dataset_dict.json", "images", "train"}
    assert load_splits(tmp_path / "out")["train"]["study_id"][:] == ["s0"]


def test_a_small_set_that_was_killed_is_begun_anew(tmp_path):
    left = tmp_path / "out" / ".work" / "whole" / "images" / "1.jpg"
    left.parent.mkdir(parents=True)
    left.touch()
    make_small_set(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["0.jpg"]


def test_a_small_set_that_was_killed_while_it_moved_in_is_begun_anew(tmp_path):
    for name in (".work", "images", "train"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "old").touch()
    make_small_set(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("old"))


def begin(out, options):
    with open_work(out, options) as work:
        list(write_parts(make_two, work, [0], 1))


def test_other_options_are_named_and_refused(tmp_path):
    begin(tmp_path / "out", {"a": 1, "b": 2})
    with pytest.raises(ValueError, match=r"with other options \(b\)"):
        begin(tmp_path / "out", {"a": 1, "b": 3})


def test_a_refused_call_keeps_the_parts(tmp_path):
    begin(tmp_path / "out", {"a": 1})
    with pytest.raises(ValueError, match="other options"):
        begin(tmp_path / "out", {"a": 2})
    assert list(finished_parts(tmp_path / "out" / ".work")) == [0]


@pytest.mark.parametrize("name", ["note.txt", "dataset_dict.json"])
def test_a_folder_that_is_not_ours_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="new or empty folder"):
        begin(tmp_path, {})


def test_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(NotADirectoryError, match="Got the file"):
        begin(tmp_path / "out", {})
