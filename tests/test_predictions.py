"""Files of predictions: one clear line for every bad one."""

import pytest

from radscribe.training.predictions import match_reports, read_predictions
from radscribe.training.protocols import Protocol, load_truth
from radscribe.training.readers.studies import save_studies

IDS = ("a", "b", "c")
GOOD = [{"id": name, "report": "Clear."} for name in IDS]


@pytest.fixture
def match(tmp_path, study, write_lines):
    """match(rows, **options): the reports of three studies out of such a file."""
    save_studies([study(name, split="val") for name in IDS], tmp_path / "set")
    truth = load_truth(tmp_path / "set", "val", Protocol())

    def read_and_match(rows, **options):
        file = write_lines("file.jsonl", rows)
        return match_reports(read_predictions(file), truth, file, "val", **options)

    return read_and_match


def test_reports_come_in_the_order_of_the_studies(match):
    rows = [{"id": name, "report": name.upper()} for name in "cab"]
    assert match(rows) == ["A", "B", "C"]


def test_a_line_separator_within_a_report_does_not_end_its_line(match):
    rows = ['{"id": "a", "report": "one\u2028two"}', *GOOD[1:]]
    assert match(rows)[0] == "one\u2028two"


def test_missing_reports_are_empty_where_they_are_allowed(match, capsys):
    assert match(GOOD[:2], allow_missing=True) == ["Clear.", "Clear.", ""]
    assert "lacks 1 of the 3 studies of split 'val' (c); they are scored as empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:2], r"lacks 1 of the 3 studies of split 'val' \(c\); generate the whole split, or .* --allow-missing"),
        ([{"id": "z", "report": "Clear."}], "holds none of the studies of split 'val'; it was made from another data"),
        (GOOD + [{"id": "z", "report": ""}], "holds 1 ids that are not in split 'val', the first is 'z'"),
        (GOOD + GOOD[:1], "line 4: the id 'a' occurred before"),
        (["{broken"], "line 1 is not JSON"),
        ([{"id": "a"}], "line 1: expected"),
        ([], "are empty"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(match, rows, message):
    with pytest.raises(ValueError, match=message):
        match(rows)


def test_none_of_the_studies_is_refused_even_where_gaps_are_allowed(match):
    with pytest.raises(ValueError, match="holds none of the studies"):
        match([{"id": "z", "report": "Clear."}], allow_missing=True)


def test_a_folder_is_no_predictions_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="Got the folder"):
        read_predictions(tmp_path)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes('{"id": "a", "report": "\u00e9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_predictions(tmp_path / "latin.jsonl")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="radscribe generate --out"):
        read_predictions(tmp_path / "gone.jsonl")
