"""MIMIC-CXR-JPG with its reports, as PhysioNet hands them out (Johnson et al. 2019), at its size: 227,827 studies.

SRC:
    files/p10/p10000032/s50414267/<dicom_id>.jpg
    mimic-cxr-2.0.0-split.csv.gz, mimic-cxr-2.0.0-metadata.csv.gz        (2.0.0 or later, .csv or .csv.gz)
    mimic-cxr-2.0.0-chexpert.csv.gz                                      optional: labels
    mimic-cxr-reports.zip, or files/p10/p10000032/s50414267.txt          here or at --reports
    mimic_cxr_sectioned.csv                                              optional: read in place of the reports
The reports belong to MIMIC-CXR, not to MIMIC-CXR-JPG, hence --reports.

Labels are CheXpert's, of the whole study (image -1): a positive one is its column ("Pleural Effusion"), an uncertain
one carries an ending ("Pleural Effusion/uncertain"); negative and unmentioned ones are left out.
Images are not opened; only that each file stands there and is not empty is checked, and its path kept.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from .mimic_annotation import has_annotation, prepare_annotation
from .mimic_reports import decode_report, read_zip, report_path
from .mimic_tables import StudyRows, find_table, load_tables, read_studies
from .parts import Counts
from .sections import parse_sections
from .source import TARGETS, BrokenStudy, check_file, choose_target, study_labels
from .staged import PART_STUDIES, StagedSource, make_records, prepare_staged, stamp
from .studies import SECTIONS

VIEWS = ("frontal", "all", "first")
_RANK = {"PA": 0, "AP": 1, "LATERAL": 2, "": 3}  # frontal ones first, PA before AP
_VIEW = {"PA": "frontal", "AP": "frontal", "LATERAL": "lateral", "": ""}


@dataclass(frozen=True)
class Source:
    """Where everything stands, and what is to be made of it."""

    src: str
    reports: str  # zip, folder above `files`, or sectioned csv
    reports_kind: str  # "zip", "folder" or "sectioned"
    views: str
    target: str
    part_studies: int


def find_reports(src: Path, reports: Path | None) -> tuple[str, Path]:
    """("sectioned" | "zip" | "folder", path): what the sections are read from.

    A mimic_cxr_sectioned.csv beside the reports or in SRC comes first, then mimic-cxr-reports.zip, then the folder.
    `reports` may name the folder or one of the files; without it they are looked for in SRC.
    """
    place = reports or src
    if not place.exists():
        raise FileNotFoundError(
            f"--reports must name the zip or folder of MIMIC-CXR's reports. {place} does not exist."
        )
    if place.is_file():  # named outright: no other file takes its place
        return ("sectioned" if place.name.endswith((".csv", ".csv.gz")) else "zip"), place
    folder = place if place.name != "files" else place.parent
    for name in ("mimic_cxr_sectioned.csv", "mimic_cxr_sectioned.csv.gz"):
        for path in (folder / name, src / name):
            if path.is_file():
                return "sectioned", path
    archive = folder / "mimic-cxr-reports.zip"
    if archive.is_file():
        return "zip", archive
    if (folder / "files").is_dir():
        return "folder", folder
    expected = "mimic-cxr-reports.zip, mimic_cxr_sectioned.csv or files/p10/p10000032/s50414267.txt and the like"
    raise FileNotFoundError(f"{folder} holds no reports: expected {expected}; name their place with --reports.")


def find_tables(src: Path) -> dict[str, Path]:
    """The csv tables in SRC by name. Raises one line where SRC is missing, a file, or lacks one."""
    wanted = "SRC must be the folder of MIMIC-CXR-JPG"
    if not src.exists():
        raise FileNotFoundError(f"{wanted}. {src} does not exist.")
    if not src.is_dir():
        raise NotADirectoryError(f"{wanted}. Got the file {src}; name its folder.")
    found = {name: find_table(src, name) for name in ("split", "metadata", "chexpert")}
    for name in ("split", "metadata"):
        if found[name] is None:
            raise FileNotFoundError(
                f"{wanted}. {src} has no mimic-cxr-2.0.0-{name}.csv or .csv.gz (or later version)."
            )
    return {name: path for name, path in found.items() if path is not None}


def choose_images(positions: dict[str, str], views: str) -> list[str]:
    """The dicom_ids a study keeps, by `views`; equals stand in the order of their ids (= of their paths).

    "frontal": one frontal film, PA before AP; none where there is none. "all": all, frontal ones first, PA before AP,
    then lateral, then others. "first": the first path of the study, whatever it shows, as R2Gen does.
    """
    if views == "first":
        return [min(positions)]
    ordered = sorted(positions, key=lambda dicom: (_RANK[positions[dicom]], dicom))
    if views == "all":
        return ordered
    return [dicom for dicom in ordered[:1] if _VIEW[positions[dicom]] == "frontal"]


def _check_rows(rows: StudyRows, where: str) -> None:
    """Raise BrokenStudy where the tables lack a row for an image of the study or contradict each other."""
    for reason, table, missing in (
        ("no metadata row", "metadata", rows.splits.keys() - rows.positions.keys()),
        ("no split row", "split", rows.positions.keys() - rows.splits.keys()),
    ):
        if missing:
            raise BrokenStudy(reason, f"{where}: the {table} csv has no row for its image {min(missing)}.")
    if len(rows.subjects) > 1:
        raise BrokenStudy("two patients", f"{where} stands under two patients: {', '.join(sorted(rows.subjects))}.")
    if len(set(rows.splits.values())) > 1:
        raise BrokenStudy("two splits", f"{where} has images in two splits: {', '.join(set(rows.splits.values()))}.")


def _read_sections(rows: StudyRows, source: Source, notes: Counter, where: str) -> dict[str, str]:
    """The report's sections as read; BrokenStudy where there is no report."""
    if source.reports_kind == "sectioned":
        if rows.sections is None:
            raise BrokenStudy("no sectioned row", f"{where} has no row in {source.reports}.")
        return rows.sections
    missing = f"{where} has no report in {source.reports}; name their place with --reports"
    if source.reports_kind == "zip":
        if not rows.in_zip:
            raise BrokenStudy("missing report", f"{missing}.")
        if rows.report is None:
            raise BrokenStudy("damaged report", f"{where}: its report in {source.reports} is damaged.")
        text = rows.report
    else:
        path = report_path(Path(source.reports), rows.subject, rows.study)
        if not path.is_file():
            raise BrokenStudy("missing report", f"{missing} ({path.name} is expected at {path.parent}).")
        text = path.read_bytes()
    report, is_utf8 = decode_report(text)
    notes["not UTF-8"] += not is_utf8
    return parse_sections(report)


def _make_record(source: Source, notes: Counter, rows: StudyRows) -> dict[str, Any] | str:
    """The study's record, or why it is skipped. Raises BrokenStudy."""
    where = f"Study s{rows.study}"
    _check_rows(rows, where)
    chosen = choose_images(rows.positions, source.views)
    if not chosen:
        return "no frontal view"
    sections = _read_sections(rows, source, notes, where)
    folder = Path(source.src, "files", f"p{rows.subject[:2]}", f"p{rows.subject}", f"s{rows.study}")
    record: dict[str, Any] = {
        "study_id": f"s{rows.study}",
        "split": next(iter(rows.splits.values())),
        "images": [str(folder / f"{dicom}.jpg") for dicom in chosen],
        "views": [_VIEW[rows.positions[dicom]] for dicom in chosen],
        "labels": study_labels(rows.labels),
    }
    record |= {name: sections.get(name, "") for name in SECTIONS}
    record = choose_target(record, source.target)
    if not record["findings"]:
        return f"no {source.target.replace('+', ' and no ')}"
    for path in record["images"]:
        check_file(path, where)
    return record


def make_part(source: Source, tables: Path, skip_broken: bool, number: int) -> tuple[list[dict[str, Any]], Counts]:
    """The records of one part and its counts, among them the reports that were not UTF-8."""
    notes: Counter[str] = Counter()
    first = number * source.part_studies
    rows = read_studies(tables, first, first + source.part_studies)
    records, counts = make_records(rows, partial(_make_record, source, notes), skip_broken)
    return records, counts | {"not_utf8": notes["not UTF-8"]}


def _load(source: Source, tables: dict[str, Path], file: Path) -> None:
    """The tables, and the reports of a zip, in the SQLite `file`."""
    reports = Path(source.reports)
    if source.reports_kind == "sectioned":
        tables = tables | {"sectioned": reports}
    load_tables(file, tables, read_zip(reports) if source.reports_kind == "zip" else (), reports)


def _check_arguments(views: str, target: str, processes: int | None) -> None:
    for name, value, choices in (("views", views, VIEWS), ("target", target, TARGETS)):
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Got {value!r}.")
    if processes is not None and processes < 1:
        raise ValueError(f"`processes` must be at least 1, or None for one a core. Got {processes}.")


def _refuse_options(**given: Any) -> None:
    """R2Gen's file has made these choices already."""
    made = {"reports": None, "views": "frontal", "target": "findings"}
    for name, value in given.items():
        if value != made[name]:
            raise ValueError(f"R2Gen's annotation.json has its own reports, images and split: leave out `{name}`.")


def prepare_mimic_cxr(
    src: Path,
    out: Path,
    *,
    reports: Path | None = None,
    views: str = "frontal",
    target: str = "findings",
    processes: int | None = None,
    skip_broken: bool = False,
    embed: bool = False,
) -> dict[str, Any]:
    """Turn MIMIC-CXR-JPG at `src` into a data set of study records at `out` (new, empty, or begun by this very call).

    reports: zip or folder of MIMIC-CXR's reports, or mimic_cxr_sectioned.csv; without it they are looked for in `src`.
    views: which images a study keeps, see `choose_images`; with "frontal" a study without a frontal film is skipped.
    target: what stands in the record's field `findings`, the text a model learns: findings, impression, or both one
        after the other (one of them is enough). The other sections stay as read. No target text: skipped.
    processes: default one a core. The result does not depend on it.
    embed: write OUT/parquet too, shards that carry the image files (embed.py).

    Where SRC has R2Gen's annotation.json and no split table, that file is read instead (mimic_annotation.py), with
    the reports, views and target of its own.
    Killed or failed, the same call goes on where it ended. A missing image, report or csv row and rows that contradict
    each other end it with one line (ValueError), or are counted with `skip_broken`. A damaged table always ends it.
    Reports that are not UTF-8 are read as cp1252 and counted. Progress and the closing table go to stderr.
    Returns {"kept": {split: n}, "skipped": {reason: n}, "not_utf8": n, "out": str}, "shards": n with `embed`.
    """
    _check_arguments(views, target, processes)
    src, out = Path(os.path.abspath(src)), Path(os.path.abspath(out))
    if has_annotation(src) and find_table(src, "split") is None:
        _refuse_options(reports=reports, views=views, target=target)
        return prepare_annotation(src, out, skip_broken=skip_broken, processes=processes, embed=embed)
    say, tables = Console(stderr=True), find_tables(src)
    kind, place = find_reports(src, None if reports is None else Path(os.path.abspath(reports)))
    source = Source(str(src), str(place), kind, views, target, PART_STUDIES)
    stamps = {name: stamp(path) for name, path in (tables | {"reports": place}).items() if path.is_file()}
    say.print(f"Reports: {place}", highlight=False)
    if kind == "sectioned":
        say.print("That table has no indication: it stays empty. --reports ZIP reads the reports.", highlight=False)
    if has_annotation(src):
        say.print("R2Gen's annotation.json lies there too; the tables are read.", highlight=False)
    if target != "findings":
        say.print(f"The field `findings` holds: {target}.", highlight=False)
    staged = StagedSource(
        origin=src,
        options=asdict(source) | {"tables": stamps},
        load=partial(_load, source, tables),
        make=partial(make_part, source),
        part_studies=PART_STUDIES,
    )
    answer, parts = prepare_staged(staged, out, skip_broken=skip_broken, processes=processes, embed=embed)
    not_utf8 = sum(counts["not_utf8"] for counts in parts)
    if not_utf8:
        say.print(f"{not_utf8:,} reports were not UTF-8 and read as cp1252.", highlight=False)
    return answer | {"not_utf8": not_utf8}
