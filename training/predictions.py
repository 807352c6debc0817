"""Files of predictions, JSON lines {"id": str, "report": str}: any system's output can be scored in this form."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .protocols import Truth


def read_predictions(path: Path) -> dict[str, str]:
    """Read JSON lines {"id": str, "report": str} into {id: report}.

    Raises FileNotFoundError or IsADirectoryError for what is no file, ValueError naming the line that is not JSON,
    lacks a field or repeats an id, and for an empty file.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"Predictions are a file of JSON lines. Got the folder {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"The predictions {path} do not exist; make them with `radscribe generate --out`.")
    reports: dict[str, str] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        name, report = _parse_prediction(line, f"{path} line {number}")
        if name in reports:
            raise ValueError(f"{path} line {number}: the id {name!r} occurred before; one report a study is expected.")
        reports[name] = report
    if not reports:
        raise ValueError(f"The predictions {path} are empty; make them with `radscribe generate --out`.")
    return reports


def _read_lines(path: Path) -> list[str]:
    """A file's lines; a picture or another encoding is one clear line, not a codec's traceback."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}); predictions are a file of JSON lines in UTF-8."
        ) from error


def _parse_prediction(line: str, where: str) -> tuple[str, str]:
    """(id, report) of one line."""
    expected = 'expected {"id": "...", "report": "..."}'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error.msg}); {expected}.") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "report")):
        raise ValueError(f"{where}: {expected}. Got {line.strip()[:80]}.")
    return row["id"], row["report"]


def match_reports(
    predictions: dict[str, str], truth: Truth, path: Path, split: str, allow_missing: bool = False
) -> list[str]:
    """The predicted reports in the order of the studies.

    Raises ValueError unless the two sets of ids are the same; with `allow_missing` a study without a report gets an
    empty one, and a line on stderr counts them.
    """
    ids = [study["study_id"] for study in truth.studies]
    missing = [name for name in ids if name not in predictions]
    if len(missing) == len(ids):
        raise ValueError(
            f"{path} holds none of the studies of split {split!r}; it was made from another data set or split: "
            "name that one with --references and --split."
        )
    if missing:
        _report_missing(missing, len(ids), path, split, allow_missing)
    extra = sorted(set(predictions) - set(ids) - truth.unscored)
    if extra:
        raise ValueError(
            f"{path} holds {len(extra)} ids that are not in split {split!r}, the first is {extra[0]!r}; "
            "name the split they were made from with --split."
        )
    return [predictions.get(name, "") for name in ids]


def _report_missing(missing: list[str], studies: int, path: Path, split: str, allowed: bool) -> None:
    """Name the studies without a report: an error, or where they are allowed a note."""
    named = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    lacks = f"{path} lacks {len(missing)} of the {studies} studies of split {split!r} ({named})"
    if not allowed:
        raise ValueError(f"{lacks}; generate the whole split, or score them as empty with --allow-missing.")
    print(f"Note: {lacks}; they are scored as empty reports.", file=sys.stderr)
