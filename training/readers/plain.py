"""The plain format: `SRC/studies.jsonl` (a study a line) beside its images. IU X-ray, or your own studies.

Fields of a line; only the first three are needed:
    id          str, unique
    images      list[str], paths relative to SRC or absolute, frontal first
    findings    str, the section to be learned; a study with an empty one is skipped and counted
    split       "train", "val", "test" or "extra"; "train" where it is left out
    views       list of "frontal", "lateral" or null, one an image
    orig_size   list of [rows, columns] or null, one an image: the film's size before it was squashed
    impression, indication, comparison   str
    mesh        list[str], codes of the whole study; they become `labels`
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .source import BrokenStudy, SourceStudy, study_labels
from .studies import SECTIONS, SPLITS

FILE = "studies.jsonl"


def read_plain(src: Path) -> Iterator[SourceStudy | BrokenStudy]:
    """Every line of SRC/studies.jsonl that is not blank.

    Raises:
        ValueError: the file is not UTF-8.
    """
    source = src / FILE
    try:
        with source.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _read_line(line, number, source)
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8.") from error


def _read_line(line: str, number: int, source: Path) -> SourceStudy | BrokenStudy:
    try:
        return parse_line(line, number, source)
    except BrokenStudy as broken:
        return broken


def _strings(row: dict[str, Any], name: str, where: str) -> list[str]:
    """The list of strings under `name`, null entries as "", [] where the key is missing or null."""
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(part is None or isinstance(part, str) for part in value):
        raise BrokenStudy("bad line", f"{where}: `{name}` must be a list of strings. Got {json.dumps(value)[:80]}.")
    return [part or "" for part in value]


def _film_sizes(row: dict[str, Any], count: int, where: str) -> list[tuple[int, int] | None]:
    """`orig_size` as one (rows, columns) or None an image; all None where the key is missing."""
    value = row.get("orig_size") or [None] * count
    expected = f"`orig_size` must be one [rows, columns] or null for each of the {count} images"
    if not isinstance(value, list) or len(value) != count:
        raise BrokenStudy("bad line", f"{where}: {expected}. Got {json.dumps(value)[:80]}.")
    sizes: list[tuple[int, int] | None] = []
    for size in value:
        good = isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        if size is not None and not good:
            raise BrokenStudy("bad line", f"{where}: {expected}. Got {json.dumps(size)[:80]}.")
        sizes.append((size[0], size[1]) if size else None)
    return sizes


def _views(row: dict[str, Any], count: int, where: str) -> list[str]:
    """One of "frontal", "lateral" and "" (unknown) an image."""
    views = _strings(row, "views", where) or [""] * count
    if len(views) != count or set(views) - {"frontal", "lateral", ""}:
        raise BrokenStudy(
            "bad line", f"{where}: `views` must be one of frontal, lateral, null for each of the {count} images."
        )
    return views


def _sections(row: dict[str, Any], where: str) -> dict[str, str]:
    """The report's sections as stripped strings; null and missing ones are ""."""
    sections = {name: row.get(name) or "" for name in SECTIONS}
    for name, text in sections.items():
        if not isinstance(text, str):
            raise BrokenStudy("bad line", f"{where}: `{name}` must be a string. Got {json.dumps(text)[:80]}.")
    return {name: text.strip() for name, text in sections.items()}


def parse_line(line: str, number: int, source: Path) -> SourceStudy:
    """Check one line of `source` (numbered from 1). Raises BrokenStudy, naming file and line, for what is no study."""
    where = f"{source} line {number}"
    try:
        row = json.loads(line.strip())  # a column counts from the line's own start
    except json.JSONDecodeError as error:
        raise BrokenStudy("bad line", f"{where} is not JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(row, dict):
        raise BrokenStudy("bad line", f"{where} must be a JSON object. Got {line.strip()[:80]}.")
    missing = [name for name in ("id", "images", "findings") if name not in row]
    if missing:
        raise BrokenStudy("bad line", f"{where} misses the field {', '.join(f'`{name}`' for name in missing)}.")
    if not isinstance(row["id"], str) or not row["id"]:
        raise BrokenStudy("bad line", f"{where}: `id` must be a non-empty string. Got {json.dumps(row['id'])[:80]}.")
    split = row.get("split") or "train"
    if split not in SPLITS:
        raise BrokenStudy("bad line", f"{where}: `split` must be one of {', '.join(SPLITS)}. Got {split!r}.")
    names = _strings(row, "images", where)
    record = {"study_id": row["id"], "split": split, "views": _views(row, len(names), where)}
    record |= _sections(row, where)
    record["labels"] = study_labels(_strings(row, "mesh", where))
    paths = [Path(os.path.abspath(source.parent / name)) for name in names]
    return SourceStudy(f"{where} (study {row['id']})", record, paths, _film_sizes(row, len(names), where))
