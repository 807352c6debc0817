"""Staged rows: a file that is whole or not there, and what becomes of the rows of a part."""

import pytest

from radscribe.training.readers.source import BrokenStudy
from radscribe.training.readers.staged import StagedSource, count_studies, make_records, prepare_staged, write_tables
from radscribe.training.readers.studies import load_splits

SCHEMA = "CREATE TABLE studies (number INTEGER PRIMARY KEY);"
EMPTY = {"views": [""], "findings": "", "impression": "", "indication": "", "comparison": "", "labels": []}


def load(count, file):
    with write_tables(file, SCHEMA) as db:
        db.executemany("INSERT INTO studies VALUES (?)", ((number,) for number in range(count)))


def make_two(file, skip_broken, number):
    """Studies 2n and 2n + 1."""
    return make_records(range(2 * number, min(2 * number + 2, count_studies(file))), record, skip_broken)


def record(number):
    """Every fifth study is broken, every fourth has no findings."""
    if number % 5 == 4:
        raise BrokenStudy("bad line", f"study {number} is bad.")
    if number % 4 == 3:
        return "no findings"
    return EMPTY | {"study_id": f"s{number}", "split": "train", "images": [f"/{number}.jpg"]}


def source(tmp_path, count, load=load):
    return StagedSource(tmp_path / "src", {"count": count}, lambda file: load(count, file), make_two, 2)


def prepare(tmp_path, count, skip_broken=True, **options):
    options = {"processes": 1, "embed": False} | options
    return prepare_staged(source(tmp_path, count), tmp_path / "out", skip_broken=skip_broken, **options)


def test_every_staged_study_is_asked_for_once(tmp_path):
    answer, parts = prepare(tmp_path, 9)
    assert load_splits(tmp_path / "out")["train"]["study_id"][:] == ["s0", "s1", "s2", "s5", "s6", "s8"]
    assert answer["kept"] == {"train": 6} and answer["skipped"] == {"no findings": 2, "bad line": 1}
    assert len(parts) == 5


def test_a_broken_study_ends_it_with_its_line_and_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="study 4 is bad. Correct it, .* --skip-broken"):
        prepare(tmp_path, 9, skip_broken=False)


def test_a_source_without_studies_is_named(tmp_path):
    with pytest.raises(ValueError, match="src holds no study that can be used .it is empty"):
        prepare(tmp_path, 0)


def test_a_failed_load_leaves_no_file_of_its_name(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with write_tables(tmp_path / "a.sqlite", SCHEMA):
            raise ZeroDivisionError
    assert not (tmp_path / "a.sqlite").exists()
