"""Result files of other systems in, files for other evaluators out.

    python -m radscribe.training.result_files from-r2gen RES.csv --references DIR --split test --out FILE.jsonl
    python -m radscribe.training.result_files for-radeval PREDICTIONS.jsonl --references DIR --split test --out FILE

What is read:
    CSV   `res.csv` of R2GenCMN's tester (modules/tester.py of zhjohnchan/R2GenCMN) and of its many descendants: a
          report a row, no header, no ids, in the order of annotation.json's split, as the test loader does not
          shuffle. `gts.csv` beside it holds the references, decoded from ids: cleaned, cut at --max_seq_length less
          the start mark, rare words `<unk>`. R2Gen itself writes no reports.
    JSON  `test_result.json` of R2GenGPT (models/R2GenGPT.py of wang-zhanyu/R2GenGPT): {annotation id: [report]}.

What is written: CSV with the columns id, reference, hypothesis, or JSON lines with id, ref, hyp: the names in
docs/file_formats.md of jbdel/RadEval. Its evaluator takes lists (no command reads files), and that page shows the
three lines that read either. References are the raw findings: RadGraph and its like know sentences, not word strings.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from itertools import zip_longest
from pathlib import Path

from ..processing.processing_text import clean_report
from .errors import one_line
from .predictions import match_reports, read_predictions
from .protocols import Protocol, load_truth
from .readers.habits import load_habits
from .readers.r2gen import read_annotation, study_id
from .readers.studies import load_studies

UNKNOWN = "<unk>"  # stands for any word in R2Gen's references
END = "(the end)"


def read_r2gen(
    results: Path, references: Path, split: str, truth: Path | None = None, annotation: Path | None = None
) -> list[dict[str, str]]:
    """Reports of R2GenCMN or R2GenGPT as {"id", "report"}, the form that `radscribe evaluate` reads.

    Args:
        results: res.csv, or R2GenGPT's JSON.
        references: the prepared data set whose split was generated. The rows of a CSV get its ids in its order.
        truth: R2GenCMN's gts.csv; by default the one beside a CSV, where there is one. Each row must be the cleaned
            report of its study: this is what finds a wrong split or order.
        annotation: R2Gen's annotation.json, for a data set prepared from another source (Open-i, Kaggle): its order is
            that source's own, so the order of the rows is taken from this file.

    Raises:
        FileNotFoundError, IsADirectoryError: a file that is none.
        ValueError: another format, another number of rows than studies, or a row of `truth` that is not its study's.
    """
    results = _check_file(results, "The file of results")
    studies = load_studies(references, split)
    findings = dict(zip(studies["study_id"], studies["findings"], strict=True))
    if results.suffix.lower() == ".json":
        if truth is not None or annotation is not None:
            raise ValueError(f"`truth` and `annotation` give ids to the rows of a CSV; {results} has its own.")
        return _check_ids(_read_json(results), set(findings), results, split)
    names = list(findings) if annotation is None else _read_order(Path(annotation), split, findings)
    reports = _read_column(results)
    _check_count(reports, names, results, split)
    if truth is None and (results.parent / "gts.csv").is_file() and results.name != "gts.csv":
        truth = results.parent / "gts.csv"
    if truth is not None:
        style = load_habits(references).style
        cleaned = [clean_report(findings[name], style).split() for name in names]
        _check_truth(_read_column(_check_file(truth, "The file of references")), names, cleaned, Path(truth), split)
    return [{"id": name, "report": report} for name, report in zip(names, reports, strict=True)]


def _check_file(path: Path, what: str) -> Path:
    """The path of a file that is there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{what} is expected. Got the folder {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} does not exist.")
    return path


def _read_column(path: Path) -> list[str]:
    """The rows of a CSV of one column without a header."""
    rows: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if len(row) != 1:  # a blank line has none; pandas writes an empty report as ""
                    raise ValueError(
                        f"{path} line {reader.line_num}: one column is expected, a report a row, as R2GenCMN's tester "
                        f"writes res.csv. Got {len(row)}."
                    )
                rows.append(row[0])
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); res.csv of R2GenCMN is.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV ({error}).") from error
    return rows


def _read_order(annotation: Path, split: str, findings: dict[str, str]) -> list[str]:
    """Study ids in the order of the annotation's split, each of which must be among the prepared studies."""
    names = []
    for found, number, row in read_annotation(annotation):
        if found == split:
            if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                raise ValueError(f"{annotation} {split} {number} must have a string `id`. Got {str(row)[:80]}.")
            names.append(study_id(row["id"]))
    lacking = [name for name in names if name not in findings]
    if lacking:
        raise ValueError(
            f"The prepared split {split!r} lacks {len(lacking)} of the {len(names)} studies of {annotation}, the "
            f"first is {lacking[0]!r}; prepare it with --split-from that file."
        )
    return names


def _check_count(rows: list[str], names: list[str], path: Path, split: str) -> None:
    if len(rows) != len(names):
        raise ValueError(
            f"{path} has {len(rows)} rows and split {split!r} {len(names)} studies; a row a study, no header, is "
            "expected: name the split and the data set that were generated."
        )


def _check_truth(rows: list[str], names: list[str], cleaned: list[list[str]], path: Path, split: str) -> None:
    """Every row must be the cleaned report of its study, cut where the longest row ends; `<unk>` is any word.

    The longest row tells the cut of that run, whatever its --max_seq_length was: a longer report was cut there too.
    """
    _check_count(rows, names, path, split)
    cut = max((len(row.split()) for row in rows), default=0)
    for number, (row, name, reference) in enumerate(zip(rows, names, cleaned, strict=True), start=1):
        if difference := _first_difference(row.split(), reference[:cut]):
            place, got, expected = difference
            raise ValueError(
                f"{path} row {number} is not the report of {name!r}, study {number} of split {split!r}: word {place} "
                f"is {got!r}, the reference has {expected!r}. The split, its order (--annotation) or the cleaning "
                "differs."
            )


def _first_difference(row: list[str], reference: list[str]) -> tuple[int, str, str] | None:
    """(place from 1, word of the row, word of the reference) where they part."""
    for place, (got, expected) in enumerate(zip_longest(row, reference, fillvalue=END), start=1):
        if got != expected and (got != UNKNOWN or expected == END):
            return place, got, expected
    return None


def _read_json(path: Path) -> dict[str, str]:
    """R2GenGPT's {id: [report]} as {study id: report}."""
    expected = "expected {id: [report]}, as R2GenGPT writes test_result.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); {expected}.") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error.msg}); {expected}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; {expected}.")
    reports: dict[str, str] = {}
    for name, texts in content.items():
        if not isinstance(texts, list) or len(texts) != 1 or not isinstance(texts[0], str):
            raise ValueError(f"{path}: {name!r} has {str(texts)[:80]}; {expected}.")
        if study_id(name) in reports:
            raise ValueError(f"{path}: the study {study_id(name)!r} occurs twice; one report a study is expected.")
        reports[study_id(name)] = texts[0]
    return reports


def _check_ids(reports: dict[str, str], known: set[str], path: Path, split: str) -> list[dict[str, str]]:
    """The rows, which must be of the studies of the split; that some lack is for `evaluate` to say."""
    extra = [name for name in reports if name not in known]
    if extra:
        raise ValueError(
            f"{path} holds {len(extra)} ids that are not in split {split!r}, the first is {extra[0]!r}; name the "
            "split and the data set that were generated."
        )
    return [{"id": name, "report": report} for name, report in reports.items()]


def export_pairs(predictions: Path, references: Path, split: str, out: Path) -> int:
    """Write predictions beside the raw findings for RadEval: a .csv or .jsonl. Returns the number of rows.

    Raises ValueError or an OSError with one line for another ending of `out`, and as `radscribe evaluate` does for
    predictions that are not those of the split.
    """
    out = Path(out)
    if out.suffix.lower() not in (".csv", ".jsonl"):
        raise ValueError(f"`out` must end in .csv or .jsonl. Got {out.name!r}.")
    if out.is_dir():
        raise IsADirectoryError(f"`out` must be a file to write. Got the folder {out}.")
    reports = read_predictions(predictions)
    truth = load_truth(references, split, Protocol("full"))
    matched = match_reports(reports, truth, predictions, split)
    rows = [
        (study["study_id"], study["findings"], report) for study, report in zip(truth.studies, matched, strict=True)
    ]
    if out.suffix.lower() == ".csv":
        _write_csv(rows, out)
    else:
        write_lines([dict(zip(("id", "ref", "hyp"), row, strict=True)) for row in rows], out)
    return len(rows)


def _write_csv(rows: list[tuple[str, str, str]], out: Path) -> None:
    """The rows under RadEval's names; a note where pandas, as RadEval's page calls it, would read no text."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "reference", "hypothesis"))
        writer.writerows(rows)
    if empty := sum(not report for _, _, report in rows):
        print(
            f"Note: {empty} reports are empty; pandas reads them as NaN unless `keep_default_na=False` (or write a "
            ".jsonl).",
            file=sys.stderr,
        )


def write_lines(rows: list[dict[str, str]], out: Path) -> None:
    """Write JSON lines; folders on the way are made."""
    if out.is_dir():
        raise IsADirectoryError(f"`out` must be a file to write. Got the folder {out}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Result files of other systems in, files for other evaluators out.")
    commands = parser.add_subparsers(dest="command", required=True)
    reads = commands.add_parser("from-r2gen", help="R2GenCMN's res.csv or R2GenGPT's test_result.json")
    reads.add_argument("results", type=Path)
    reads.add_argument("--truth", type=Path, help="gts.csv (default: the one beside res.csv)")
    reads.add_argument("--annotation", type=Path, help="annotation.json, where the data set has another order")
    writes = commands.add_parser("for-radeval", help="pairs of reference and hypothesis, .csv or .jsonl")
    writes.add_argument("predictions", type=Path)
    for command in (reads, writes):
        command.add_argument("--references", type=Path, required=True, help="the prepared data set")
        command.add_argument("--split", default="test")
        command.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """The commands of the module's head; one JSON document on stdout."""
    given = _parse_arguments()
    try:
        if given.command == "from-r2gen":
            rows = read_r2gen(given.results, given.references, given.split, given.truth, given.annotation)
            write_lines(rows, given.out)
            count = len(rows)
        else:
            count = export_pairs(given.predictions, given.references, given.split, given.out)
        print(json.dumps({"reports": count, "out": os.fspath(given.out)}))
    except (ValueError, OSError) as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
