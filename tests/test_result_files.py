"""Files of other systems and for other evaluators, in the layouts of the published repositories; made-up reports."""

import csv
import json
import sys

import pytest

from radscribe.processing.processing_text import clean_report
from radscribe.training.predictions import read_predictions
from radscribe.training.readers.studies import save_studies
from radscribe.training.result_files import export_pairs, main, read_r2gen

FINDINGS = {
    "CXR30": "The heart is large. No effusion.",
    "CXR4": 'Clear lungs, "normal" heart.\nNo change.',
    "CXR100": "A small left effusion. The zygomatic heart is normal. " + "The lungs are clear. " * 20,
}
REPORTS = ["the heart is large .", "lungs are clear .", 'no effusion , or " change" .']


@pytest.fixture
def references(study, tmp_path):
    """A prepared data set of three test studies and one to train on."""
    records = [study("CXR1")] + [study(name, split="test", findings=text) for name, text in FINDINGS.items()]
    save_studies(records, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def write_rows(tmp_path):
    """write_rows("res.csv", rows): as pandas writes one column without header and index."""

    def write(name, rows):
        path = tmp_path / name
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([row] for row in rows)
        return path

    return write


@pytest.fixture
def truth():
    """truth(cut=59): the references as R2Gen decodes them, the rare word unknown."""

    def make(cut=59, names=FINDINGS):
        cleaned = [" ".join(clean_report(FINDINGS[name]).split()[:cut]) for name in names]
        return [text.replace("zygomatic", "<unk>") for text in cleaned]

    return make


@pytest.fixture
def annotation(tmp_path):
    """R2Gen's annotation.json with the test studies in another order, under its own ids."""
    rows = [{"id": f"{name}_IM-0{i}", "report": "", "image_path": []} for i, name in enumerate(sorted(FINDINGS))]
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps({"train": [], "val": [], "test": rows}))
    return path


def refused(error, *arguments, match, **settings):
    """Whether reading fails with one line that says this."""
    with pytest.raises(error, match=match) as caught:
        read_r2gen(*arguments, **settings)
    assert "\n" not in str(caught.value)


def test_rows_get_the_ids_of_the_prepared_split(references, write_rows):
    rows = read_r2gen(write_rows("res.csv", REPORTS), references, "test")
    assert rows == [{"id": name, "report": report} for name, report in zip(FINDINGS, REPORTS, strict=True)]


def test_an_empty_report_is_kept(references, write_rows):
    path = write_rows("res.csv", ["", "clear .", ""])
    assert path.read_text() == '""\nclear .\n""\n'  # as pandas does
    assert [row["report"] for row in read_r2gen(path, references, "test")] == ["", "clear .", ""]


@pytest.mark.parametrize("cut", [59, 99, 5])
def test_true_references_beside_the_results_are_accepted(references, write_rows, truth, cut):
    """Cut, unknown words and cleaning are R2Gen's; the cut is whatever that run had."""
    write_rows("gts.csv", truth(cut))
    assert len(read_r2gen(write_rows("res.csv", REPORTS), references, "test")) == 3


def test_a_wrong_order_is_found_by_the_references(references, write_rows, truth):
    write_rows("gts.csv", truth(names=["CXR30", "CXR100", "CXR4"]))
    said = r"gts.csv row 2 is not the report of 'CXR4', study 2 of split 'test': word 1 is 'a', the ref.* has 'clear'"
    refused(ValueError, write_rows("res.csv", REPORTS), references, "test", match=said)


def test_references_may_lie_elsewhere(references, write_rows, truth):
    path = write_rows("true.csv", truth(names=["CXR4", "CXR30", "CXR100"]))
    refused(
        ValueError, write_rows("res.csv", REPORTS), references, "test", truth=path, match="true.csv row 1 is not the"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row + " more", r"word 9 is 'more', the reference has '\(the end\)'"),
        (lambda row: row + " <unk>", r"word 9 is '<unk>', the reference has '\(the end\)'"),
        (lambda row: row.removesuffix(" ."), r"word 8 is '\(the end\)', the reference has '\.'"),
    ],
)
def test_a_reference_that_is_longer_or_shorter_is_another(references, write_rows, truth, change, said):
    rows = truth()
    write_rows("gts.csv", [change(rows[0]), *rows[1:]])
    refused(ValueError, write_rows("res.csv", REPORTS), references, "test", match=said)


def test_the_references_themselves_can_be_read_as_results(references, write_rows, truth):
    assert len(read_r2gen(write_rows("gts.csv", truth()), references, "test")) == 3


def test_the_order_may_be_that_of_the_annotation(references, write_rows, truth, annotation):
    """A data set prepared from Open-i has the order of its numbers."""
    names = sorted(FINDINGS)
    write_rows("gts.csv", truth(names=names))
    rows = read_r2gen(write_rows("res.csv", REPORTS), references, "test", annotation=annotation)
    assert [row["id"] for row in rows] == names


def test_an_annotation_of_other_studies_is_refused(references, write_rows, annotation):
    annotation.write_text(annotation.read_text().replace("CXR4_", "CXR5_"))
    path = write_rows("res.csv", REPORTS)
    said = r"split 'test' lacks 1 of the 3 studies of .*annotation.json, the first is 'CXR5'"
    refused(ValueError, path, references, "test", annotation=annotation, match=said)


def test_another_number_of_rows_is_refused(references, write_rows):
    path = write_rows("res.csv", ["report", *REPORTS])
    refused(ValueError, path, references, "test", match="res.csv has 4 rows and split 'test' 3 studies.*no header")
    refused(ValueError, path, references, "train", match="has 4 rows and split 'train' 1 studies")
    write_rows("gts.csv", ["one"])
    path = write_rows("res.csv", REPORTS)
    refused(ValueError, path, references, "test", match="gts.csv has 1 rows and split 'test' 3 studies")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", r"line 1: one column is expected, a report a row.* Got 2\.$"),
        ("clear .\n\nclear .\n", r"line 2: one column .* Got 0\.$"),
        ('"clear .\n', "is no CSV"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_of_another_format_is_one_line(references, tmp_path, text, said):
    path = tmp_path / "res.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(ValueError, path, references, "test", match=said)


def test_missing_files_and_folders_are_named(references, write_rows, tmp_path):
    refused(FileNotFoundError, tmp_path / "no.csv", references, "test", match="results .*no.csv does not exist")
    refused(IsADirectoryError, tmp_path, references, "test", match="results is expected. Got the folder")
    path = write_rows("res.csv", REPORTS)
    refused(FileNotFoundError, path, references, "test", truth=tmp_path / "no.csv", match="references .*no.csv does")
    refused(ValueError, path, references, "val", match="has no split 'val'")


def test_json_of_r2gengpt_has_its_own_ids(references, tmp_path):
    path = tmp_path / "test_result.json"
    path.write_text(json.dumps({"CXR100_IM-0002-1001": ["An effusion."], "CXR4_1_IM-2": ["Clear."]}))
    rows = read_r2gen(path, references, "test")
    assert rows == [{"id": "CXR100", "report": "An effusion."}, {"id": "CXR4", "report": "Clear."}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"CXR4": "Clear."}', r"'CXR4' has Clear\.; expected \{id: \[report\]\}"),
        ('{"CXR4": ["a", "b"]}', "'CXR4' has"),
        ('{"CXR4_IM-1": ["a"], "CXR4_IM-2": ["b"]}', "the study 'CXR4' occurs twice"),
        ('{"CXR9": ["a"]}', "holds 1 ids that are not in split 'test', the first is 'CXR9'"),
        ('["a"]', "holds a list; expected"),
        ("{", "is not JSON"),
    ],
)
def test_other_json_is_one_line(references, tmp_path, content, said):
    path = tmp_path / "test_result.json"
    path.write_text(content)
    refused(ValueError, path, references, "test", match=said)


def test_json_needs_no_references_for_its_ids(references, tmp_path):
    path = tmp_path / "test_result.json"
    path.write_text('{"CXR4": ["a"]}')
    refused(ValueError, path, references, "test", truth=path, match="its own")


@pytest.fixture
def predictions(write_lines):
    """Predictions of the three studies, one of them empty."""
    reports = zip(FINDINGS, ["heart, large", "", 'a "quoted"\nreport'], strict=True)
    return write_lines("predictions.jsonl", [{"id": name, "report": report} for name, report in reports])


def test_a_csv_for_radeval_has_raw_findings_and_every_report(references, predictions, tmp_path, capsys):
    out = tmp_path / "new" / "pairs.csv"
    assert export_pairs(predictions, references, "test", out) == 3
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "reference", "hypothesis"]
    assert {row["id"]: row["reference"] for row in rows} == {name: text for name, text in FINDINGS.items()}
    assert [row["hypothesis"] for row in rows] == ["heart, large", "", 'a "quoted"\nreport']
    assert capsys.readouterr().err.startswith("Note: 1 reports are empty; pandas reads them as NaN")


def test_json_lines_for_radeval_have_its_names(references, predictions, tmp_path, capsys):
    export_pairs(predictions, references, "test", tmp_path / "pairs.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [["id", "ref", "hyp"]] * 3
    assert [row["ref"] for row in rows] == list(FINDINGS.values()) and rows[1]["hyp"] == ""
    assert not capsys.readouterr().err


def test_predictions_of_other_studies_are_refused(references, write_lines, tmp_path):
    path = write_lines("p.jsonl", [{"id": "CXR4", "report": "Clear."}])
    with pytest.raises(ValueError, match="lacks 2 of the 3 studies"):
        export_pairs(path, references, "test", tmp_path / "pairs.csv")
    assert not (tmp_path / "pairs.csv").exists()


def test_the_ending_of_the_file_tells_the_format(references, predictions, tmp_path):
    with pytest.raises(ValueError, match=r"`out` must end in .csv or .jsonl. Got 'pairs.txt'\.$"):
        export_pairs(predictions, references, "test", tmp_path / "pairs.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(IsADirectoryError, match="Got the folder"):
        export_pairs(predictions, references, "test", tmp_path / "folder.csv")


@pytest.fixture
def run(monkeypatch, capsys):
    """run("from-r2gen", ...): the module's command -> (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["result_files", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return call


def test_the_command_writes_what_evaluate_reads(references, write_rows, tmp_path, run):
    out = tmp_path / "reports.jsonl"
    path = write_rows("res.csv", REPORTS)
    code, said, _ = run("from-r2gen", path, "--references", references, "--out", out)
    assert code == 0 and json.loads(said) == {"reports": 3, "out": str(out)}
    assert read_predictions(out) == dict(zip(FINDINGS, REPORTS, strict=True))


def test_the_command_writes_pairs(references, predictions, tmp_path, run):
    code, said, _ = run(
        "for-radeval", predictions, "--references", references, "--split", "test", "--out", tmp_path / "pairs.jsonl"
    )
    assert code == 0 and json.loads(said)["reports"] == 3 and (tmp_path / "pairs.jsonl").is_file()


def test_the_command_says_one_line_and_exits_with_2(references, write_rows, tmp_path, run):
    path = write_rows("res.csv", REPORTS[:2])
    code, said, error = run("from-r2gen", path, "--references", references, "--out", tmp_path / "out.jsonl")
    assert (code, said) == (2, "") and error.startswith("Error: ") and error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()
