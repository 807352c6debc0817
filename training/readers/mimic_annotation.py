"""MIMIC-CXR by R2Gen's `annotation.json`: its reports, its split and the paths below SRC/files or SRC/images.

A row is one report with one image or more; R2Gen trains on the first, a model here on as many as it has views. Rows of
one study (its images apart) stay rows, by the `id` that R2Gen gives them, so that its 3,858 test rows are 3,858 here.
The file, some hundred MB of JSON in one line, is streamed into SQLite a row at a time; the rest is staged.py's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .image_index import DICOM_SUFFIX
from .parts import Counts
from .r2gen import FILE, read_annotation, read_row
from .source import BrokenStudy, SourceStudy, check_file, find_fault, stated_view
from .staged import PART_STUDIES, StagedSource, make_records, prepare_staged, read_tables, stamp, write_tables

_SCHEMA = """
    CREATE TABLE studies (number INTEGER PRIMARY KEY, id TEXT, split TEXT, place INTEGER, row TEXT);
    CREATE INDEX studies_by_id ON studies (id, number);
"""


def has_annotation(src: Path) -> bool:
    """Whether SRC holds R2Gen's file."""
    return (src / FILE).is_file()


def prepare_annotation(
    src: Path, out: Path, *, skip_broken: bool, processes: int | None = None, embed: bool = False
) -> dict[str, Any]:
    """Turn SRC/annotation.json into a data set at `out`. Images are not opened; that each is there is checked.

    A DICOM file, which is known by its name here, is asked for its view.

    `processes` and `embed` are those of `prepare_mimic_cxr`. Killed or failed, the same call goes on where it ended.

    Raises:
        ValueError: a file that is no annotation; a broken row or a missing or empty image, unless `skip_broken`; no
            row that can be used.
    """
    path, folder = src / FILE, src / ("files" if (src / "files").is_dir() else "images")
    source = StagedSource(
        origin=path,
        options={"annotation": stamp(path), "images": str(folder)},
        load=partial(_load, path, folder),
        make=partial(make_part, path, folder, PART_STUDIES),
        part_studies=PART_STUDIES,
        layout="R2Gen",
    )
    answer, _ = prepare_staged(source, out, skip_broken=skip_broken, processes=processes, embed=embed)
    return answer | {"layout": "R2Gen"}


def _load(path: Path, folder: Path, file: Path) -> None:
    """Stream the rows into the SQLite `file`. One that is no study has no id: no later row repeats it."""

    def rows() -> Iterator[tuple]:
        for number, (split, place, row) in enumerate(read_annotation(path)):
            study = read_row(row, split, path, place, folder)
            name = study.record["study_id"] if isinstance(study, SourceStudy) else None
            yield number, name, split, place, json.dumps(row, default=str)  # ijson reads 0.5 as a Decimal

    with write_tables(file, _SCHEMA) as db:
        db.executemany("INSERT INTO studies VALUES (?, ?, ?, ?, ?)", rows())


def make_part(
    path: Path, folder: Path, size: int, file: Path, skip_broken: bool, number: int
) -> tuple[list[dict[str, Any]], Counts]:
    """The records and counts of part `number`, which is `size` rows of the SQLite `file`."""
    first, last = number * size, (number + 1) * size
    with read_tables(file) as db:
        rows = db.execute("SELECT split, place, row FROM studies WHERE number >= ? AND number < ?", (first, last))
        studies = [read_row(json.loads(row), split, path, place, folder) for split, place, row in rows]
        repeated = """SELECT id FROM studies AS s WHERE number >= ? AND number < ?
            AND EXISTS (SELECT 1 FROM studies AS earlier WHERE earlier.id = s.id AND earlier.number < ?)"""
        seen = {name for (name,) in db.execute(repeated, (first, last, first))}
    return make_records(studies, partial(_make_record, seen), skip_broken)


def _make_record(seen: set[str], study: SourceStudy | BrokenStudy) -> dict[str, Any] | str:
    """The row's record, or why it is skipped; `seen` collects the ids so far. Raises BrokenStudy."""
    if isinstance(study, BrokenStudy):
        raise study
    if fault := find_fault(study, seen):
        raise fault
    if not study.record["findings"]:
        return "no findings"
    for path in study.paths:
        check_file(path, study.where)
    views = [stated_view(path, study.where) if path.suffix.lower() == DICOM_SUFFIX else "" for path in study.paths]
    return study.record | {"images": [str(path) for path in study.paths], "views": views}
