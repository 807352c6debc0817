"""The csv tables of MIMIC-CXR-JPG, streamed into one SQLite file: 377,110 rows never stand in memory.

Sources (PhysioNet, MIMIC-CXR-JPG 2.x; Johnson et al. 2019), each plain or gzipped, any version in its name:
    mimic-cxr-2.0.0-split.csv      dicom_id, study_id, subject_id, split (train, validate, test)
    mimic-cxr-2.0.0-metadata.csv   dicom_id, study_id, subject_id, ViewPosition, PerformedProcedureStepDescription ...
    mimic-cxr-2.0.0-chexpert.csv   study_id and a column a label: 1.0 positive, -1.0 uncertain, 0.0 negative, blank
    mimic_cxr_sectioned.csv        study, impression, findings, last_paragraph, comparison (MIT-LCP/mimic-cxr, txt/)

Tables of the file: splits, metadata (a row an image); labels, sections, reports (a row a study); studies, which
numbers all studies from 0 in the order patient, study, as their folders stand.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .csv_rows import read_rows
from .staged import read_tables, write_tables
from .studies import SECTIONS

SPLITS = {"train": "train", "validate": "val", "test": "test"}  # theirs -> the study record's
_IMAGE_IDS = ("dicom_id", "study_id", "subject_id")
_SCHEMA = """
    CREATE TABLE splits (dicom TEXT, study TEXT, subject TEXT, split TEXT, line INTEGER);
    CREATE TABLE metadata (dicom TEXT, study TEXT, subject TEXT, position TEXT, line INTEGER);
    CREATE TABLE labels (study TEXT PRIMARY KEY, names TEXT) WITHOUT ROWID;
    CREATE TABLE sections (study TEXT PRIMARY KEY, findings TEXT, impression TEXT, indication TEXT, comparison TEXT);
    CREATE TABLE reports (study TEXT PRIMARY KEY, report BLOB);
    CREATE TABLE studies (number INTEGER PRIMARY KEY, study TEXT, subject TEXT);
"""
_NUMBER_STUDIES = """
    CREATE INDEX splits_by_study ON splits (study);
    CREATE INDEX metadata_by_study ON metadata (study);
    INSERT INTO studies SELECT row_number() OVER (ORDER BY subject, study) - 1, study, subject FROM (
        SELECT study, min(subject) AS subject FROM (
            SELECT study, subject FROM splits UNION ALL SELECT study, subject FROM metadata) GROUP BY study);
"""


@dataclass
class StudyRows:
    """What the tables hold about one study; images by their dicom_id."""

    study: str  # digits, without the s
    subject: str  # digits, without the p
    subjects: set[str] = field(default_factory=set)  # more than one: the tables contradict each other
    splits: dict[str, str] = field(default_factory=dict)
    positions: dict[str, str] = field(default_factory=dict)  # "PA", "AP", "LATERAL" or ""
    labels: list[str] = field(default_factory=list)
    sections: dict[str, str] | None = None  # None: not in the sectioned csv
    in_zip: bool = False
    report: bytes | None = None  # from the zip; None: not in it, or damaged


def find_table(folder: Path, name: str) -> Path | None:
    """The table "split", "metadata" or "chexpert" of `folder`, or None: newest version, plain before gzipped."""
    found = [*folder.glob(f"mimic-cxr-*-{name}.csv"), *folder.glob(f"mimic-cxr-*-{name}.csv.gz")]
    return max(
        found, key=lambda path: ([int(n) for n in re.findall(r"\d+", path.name)], path.suffix == ".csv"), default=None
    )


def position_of(view: str, description: str) -> str:
    """ "PA", "AP", "LATERAL" or "" (oblique, decubitus, unknown) of an image.

    `view` is ViewPosition (AP, PA, LATERAL, LL count). Where it is blank, `description`, the
    PerformedProcedureStepDescription of the study ("CHEST, PA"), decides if it names one direction alone: "CHEST (PA
    AND LAT)" stands at both films and tells nothing.
    """
    view = view.strip().upper()
    if view:
        return {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL"}.get(view, "")
    words = set(re.findall(r"[A-Z]+", description.upper()))
    frontal, lateral = words & {"PA", "AP"}, words & {"LAT", "LATERAL", "LL"}
    if frontal and lateral or len(frontal) == 2:
        return ""
    return "LATERAL" if lateral else next(iter(frontal), "")


def _digits(value: str, letter: str, where: str) -> str:
    """An id as its digits: "50414267" and "s50414267" are the same study. It becomes part of a path, so no more."""
    digits = value.strip().removeprefix(letter)
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{where}: an id must be digits, as in {letter}50414267. Got {value!r}.")
    return digits


def _image_rows(path: Path, column: str, values: Iterable[tuple[int, dict[str, str], str]]) -> Iterator[tuple]:
    """Rows (dicom, study, subject, value, line) of a table with a row an image."""
    for line, row, value in values:
        where, dicom = f"{path} line {line}", row["dicom_id"].strip()
        if not re.fullmatch(r"[\w.-]+", dicom):
            raise ValueError(f"{where}: `dicom_id` must be letters, digits, dots and dashes. Got {dicom!r}.")
        yield dicom, _digits(row["study_id"], "s", where), _digits(row["subject_id"], "p", where), value, line


def _split_values(path: Path) -> Iterator[tuple[int, dict[str, str], str]]:
    for line, row in read_rows(path, (*_IMAGE_IDS, "split")):
        split = row["split"].strip()
        if split not in SPLITS:
            raise ValueError(f"{path} line {line}: `split` must be {', '.join(SPLITS)}. Got {split!r}.")
        yield line, row, SPLITS[split]


def _position_values(path: Path) -> Iterator[tuple[int, dict[str, str], str]]:
    for line, row in read_rows(path, (*_IMAGE_IDS, "ViewPosition")):
        yield line, row, position_of(row["ViewPosition"], row.get("PerformedProcedureStepDescription") or "")


def _label_rows(path: Path) -> Iterator[tuple[str, str]]:
    """(study, label names as JSON): positive ones by their column, uncertain ones with "/uncertain" after it."""
    endings = {"1": "", "-1": "/uncertain"}
    for line, row in read_rows(path, ("study_id",)):
        where, names = f"{path} line {line}", []
        for column, value in row.items():
            if column in ("study_id", "subject_id", None):
                continue
            key = (value or "").strip().removesuffix(".0")
            if key in endings:
                names.append(column + endings[key])
            elif key not in ("0", ""):
                raise ValueError(f"{where}: `{column}` must be 1.0, 0.0, -1.0 or blank. Got {value!r}.")
        yield _digits(row["study_id"], "s", where), json.dumps(names)


def _section_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """(study, findings, impression, indication, comparison); a section that the table has no column for is ""."""
    for line, row in read_rows(path, ("study", "findings", "impression")):
        study = _digits(row["study"], "s", f"{path} line {line}")
        # The table keeps the report's line breaks; folded, its texts are those of our own parser.
        yield study, *(" ".join((row.get(name) or "").split()) for name in SECTIONS)


def _fill(db: sqlite3.Connection, table: str, rows: Iterable[tuple], path: Path) -> None:
    """Insert rows as they stream; a study that a table holds twice is an error."""
    marks = ", ".join("?" * len(db.execute(f"SELECT * FROM {table}").description))
    try:
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    except sqlite3.IntegrityError as error:
        raise ValueError(f"{path} holds a study twice; each must have one row.") from error


def _refuse_repeated_images(db: sqlite3.Connection, table: str, path: Path) -> None:
    found = f"SELECT dicom, min(line), max(line) FROM {table} GROUP BY dicom HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
    if (double := db.execute(found).fetchone()) is not None:
        raise ValueError(f"{path}: the dicom_id {double[0]!r} occurs twice, on lines {double[1]} and {double[2]}.")


def load_tables(
    file: Path, tables: dict[str, Path], zip_reports: Iterable[tuple[str, bytes | None]] = (), zip_name: Path = Path()
) -> None:
    """Stream the tables ("split", "metadata", maybe "chexpert", "sectioned") into the SQLite `file`.

    `zip_reports` are (study, report), None for a damaged one. `file` appears when it is whole.
    Raises ValueError (one line) for what `read_rows` names, bad ids, splits and values, images or studies held twice.
    """
    with write_tables(file, _SCHEMA) as db:
        for name, table, values in (("split", "splits", _split_values), ("metadata", "metadata", _position_values)):
            _fill(db, table, _image_rows(tables[name], name, values(tables[name])), tables[name])
            _refuse_repeated_images(db, table, tables[name])
        for name, table, rows in (("chexpert", "labels", _label_rows), ("sectioned", "sections", _section_rows)):
            if name in tables:
                _fill(db, table, rows(tables[name]), tables[name])
        _fill(db, "reports", zip_reports, zip_name)
        db.executescript(_NUMBER_STUDIES)


def read_studies(file: Path, first: int, last: int) -> list[StudyRows]:
    """The studies numbered `first` to `last` - 1, in order, with all that the tables hold about them."""
    with read_tables(file) as db:

        def select(columns: str, table: str) -> Iterator[tuple]:
            joined = f"SELECT number, {columns} FROM studies JOIN {table} AS t USING (study)"
            return db.execute(f"{joined} WHERE number >= ? AND number < ?", (first, last))

        numbered = db.execute("SELECT * FROM studies WHERE number >= ? AND number < ?", (first, last))
        found = {number: StudyRows(study, subject) for number, study, subject in numbered}
        for number, dicom, subject, split in select("dicom, t.subject, split", "splits"):
            found[number].splits[dicom] = split
            found[number].subjects.add(subject)
        for number, dicom, subject, position in select("dicom, t.subject, position", "metadata"):
            found[number].positions[dicom] = position
            found[number].subjects.add(subject)
        for number, names in select("names", "labels"):
            found[number].labels = json.loads(names)
        for number, *texts in select(", ".join(SECTIONS), "sections"):
            found[number].sections = dict(zip(SECTIONS, texts, strict=True))
        for number, report in select("report", "reports"):
            found[number].in_zip, found[number].report = True, report
    return [found[number] for number in sorted(found)]
