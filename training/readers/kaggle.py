"""IU X-ray as Kaggle hands it out: `indiana_reports.csv`, `indiana_projections.csv` and a folder of PNG films."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .csv_rows import read_rows
from .image_index import film_name, index_images
from .source import BrokenStudy, SourceStudy, study_labels
from .studies import SECTIONS

REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"


def read_kaggle(src: Path) -> Iterator[SourceStudy | BrokenStudy]:
    """One study a row of the reports, frontal films first; its split is for the caller to give.

    Raises:
        ValueError: a table is missing, not UTF-8, no CSV, or lacks a column.
    """
    images = index_images(src)
    films: dict[str, list[tuple[str, str]]] = defaultdict(list)  # uid -> (view, file)
    for _, row in _read_table(src / PROJECTIONS, ("uid", "filename", "projection")):
        films[row["uid"]].append((row["projection"].lower(), row["filename"]))
    for where, row in _read_table(src / REPORTS, ("uid", "MeSH", *SECTIONS)):
        yield _read_row(f"{where} (study CXR{row['uid']})", row, films.pop(row["uid"], []), images, src)
    for uid in films:
        yield BrokenStudy("no report", f"{src / PROJECTIONS}: {REPORTS} has no row for the uid {uid}.")


def _read_row(
    where: str, row: dict[str, str], films: list[tuple[str, str]], images: dict[str, Path], src: Path
) -> SourceStudy | BrokenStudy:
    unknown = sorted({view for view, _ in films} - {"frontal", "lateral"})
    if unknown:
        return BrokenStudy("bad line", f"{where}: `projection` must be Frontal or Lateral. Got {unknown[0]!r}.")
    if not row["uid"]:
        return BrokenStudy("bad line", f"{where}: `uid` is empty.")
    films = sorted(films, key=lambda film: film[0])  # "frontal" before "lateral", else as the table has them
    record: dict[str, Any] = {"study_id": f"CXR{row['uid']}", "views": [view for view, _ in films]}
    record |= {name: row[name].strip() for name in SECTIONS}
    record["labels"] = study_labels(row["MeSH"].split(";"))
    return SourceStudy(where, record, [images.get(film_name(name), src / name) for _, name in films])


def _read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table, each with "file line 12"; a cell that is missing is ""."""
    if not path.is_file():
        raise ValueError(f"SRC must hold {REPORTS} and {PROJECTIONS}. {path} does not exist.")
    for line, row in read_rows(path, columns, blank=""):
        yield f"{path} line {line}", row
