"""R2Gen's layout, which most papers use: `annotation.json` with split, report and image paths, and `images/`.

{"train": [{"id", "report", "image_path": ["CXR1_IM-0001/0.png", ...], "split"}], "val": [...], "test": [...]}
The report is the findings alone; views, other sections and labels are not in it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

from .source import BrokenStudy, SourceStudy

FILE = "annotation.json"
_SPLITS = ("train", "val", "test")
_EXPECTED = f"must hold a list for each of {', '.join(_SPLITS)}, as R2Gen's annotation.json does"


def study_id(name: str) -> str:
    """R2Gen's "CXR2384_IM-0942" is Open-i's study CXR2384, as is "CXR1_1_IM-0001" CXR1; other names stay."""
    return re.sub(r"^(CXR\d+)_(\d+_)?IM-.*", r"\1", name)


def read_annotation(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Stream (split, number from 1, row) in the order of the file; one row at a time stands in memory.

    Raises:
        ValueError: no such file, not JSON in UTF-8, or not a list for each of train, val and test.
    """
    if not path.is_file():
        raise ValueError(f"R2Gen's annotation.json is expected. {path} is no file.")
    numbers: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            for split, row in _stream_lists(file, path):
                numbers[split] = numbers.get(split, -1) + 1
                if numbers[split]:
                    yield split, numbers[split], row
    except (ijson.JSONError, UnicodeDecodeError) as error:
        done = ", ".join(f"{split} {number}" for split, number in numbers.items()) or "its beginning"
        raise ValueError(f"{path} is not JSON in UTF-8 behind {done}: {_first_line(error)}.") from error
    if set(numbers) != set(_SPLITS):
        raise ValueError(f"{path} {_EXPECTED}.")


def _stream_lists(file: BinaryIO, path: Path) -> Iterator[tuple[str, Any]]:
    """(split, row) of {"split": [row, ...], ...}, each list preceded by (split, None). Raises as `read_annotation`."""
    depth, split, builder = 0, "", None
    for event, value in ijson.basic_parse(file):
        depth -= event in ("end_map", "end_array")
        if depth >= 2:  # within a row
            builder = builder or ObjectBuilder()
            builder.event(event, value)
        elif event == "map_key":
            split = value
            if split not in _SPLITS:
                raise ValueError(f"{path}: a split must be one of {', '.join(_SPLITS)}. Got {split!r}.")
        elif event == "start_array" and depth == 1:
            yield split, None
        elif event not in (("start_map", "end_map") if depth == 0 else ("end_array",)):
            raise ValueError(f"{path} {_EXPECTED}.")
        depth += event in ("start_map", "start_array")
        if builder and depth == 2:
            yield split, builder.value
            builder = None


def _first_line(error: Exception) -> str:
    """What the parser said, without the picture of the place; its C library says it in bytes."""
    said = error.args[0] if isinstance(error, ijson.JSONError) and error.args else str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return text.strip().split("\n", 1)[0].rstrip(". ")


def read_split(path: Path) -> dict[str, str]:
    """The published split by study id. Raises ValueError as `read_annotation` does, and for a row without an id."""
    splits = {}
    for split, number, row in read_annotation(path):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise ValueError(f"{path} {split} {number} must have a string `id`. Got {str(row)[:80]}.")
        splits[study_id(row["id"])] = split
    return splits


def read_r2gen(src: Path) -> Iterator[SourceStudy | BrokenStudy]:
    """One study a row, films in the order of the file, below SRC/images."""
    for split, number, row in read_annotation(src / FILE):
        yield read_row(row, split, src / FILE, number, src / "images")


def read_row(row: Any, split: str, path: Path, number: int, images: Path) -> SourceStudy | BrokenStudy:
    """Row `number` of a split of the file `path` as a study whose films lie below the folder `images`."""
    where = f"{path} {split} {number}"
    expected = {"id": str, "report": str, "image_path": list}
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in expected.items()):
        return BrokenStudy("bad line", f"{where} must have `id`, `report` and a list `image_path`.")
    names = row["image_path"]
    if not all(isinstance(name, str) for name in names):
        return BrokenStudy("bad line", f"{where}: `image_path` must be a list of strings.")
    record = {"study_id": study_id(row["id"]), "split": split, "views": [""] * len(names)}
    record |= {"findings": row["report"].strip(), "labels": []}
    return SourceStudy(f"{where} (study {row['id']})", record, [(images / name).absolute() for name in names])
