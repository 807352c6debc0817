"""R2Gen's layout, which most papers use: `annotation.json` with split, report and image paths, and `images/`.

{"train": [{"id", "report", "image_path": ["CXR1_IM-0001/0.png", ...], "split"}], "val": [...], "test": [...]}
The report is the findings alone; views, other sections and labels are not in it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .source import BrokenStudy, SourceStudy

FILE = "annotation.json"
_SPLITS = ("train", "val", "test")


def study_id(name: str) -> str:
    """R2Gen's "CXR2384_IM-0942" is Open-i's study CXR2384, as is "CXR1_1_IM-0001" CXR1; other names stay."""
    return re.sub(r"^(CXR\d+)_(\d+_)?IM-.*", r"\1", name)


def read_annotation(path: Path) -> dict[str, list[Any]]:
    """The rows of each split.

    Raises:
        ValueError: no such file, not JSON in UTF-8, or not a list for each of train, val and test.
    """
    if not path.is_file():
        raise ValueError(f"R2Gen's annotation.json is expected. {path} is no file.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON in UTF-8: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(split), list) for split in _SPLITS):
        raise ValueError(f"{path} must hold a list for each of {', '.join(_SPLITS)}, as R2Gen's annotation.json does.")
    unknown = sorted(set(content) - set(_SPLITS))
    if unknown:
        raise ValueError(f"{path}: a split must be one of {', '.join(_SPLITS)}. Got {unknown[0]!r}.")
    return content


def read_split(path: Path) -> dict[str, str]:
    """The published split by study id. Raises ValueError as `read_annotation` does, and for a row without an id."""
    splits = {}
    for split, rows in read_annotation(path).items():
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                raise ValueError(f"{path} {split} {number} must have a string `id`. Got {str(row)[:80]}.")
            splits[study_id(row["id"])] = split
    return splits


def read_r2gen(src: Path, images: Path | None = None) -> Iterator[SourceStudy | BrokenStudy]:
    """One study a row, films in the order of the file, below SRC/images or the folder `images`."""
    images = images or src / "images"
    for split, rows in read_annotation(src / FILE).items():
        for number, row in enumerate(rows, start=1):
            yield _read_row(row, split, f"{src / FILE} {split} {number}", images)


def _read_row(row: Any, split: str, where: str, images: Path) -> SourceStudy | BrokenStudy:
    expected = {"id": str, "report": str, "image_path": list}
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in expected.items()):
        return BrokenStudy("bad line", f"{where} must have `id`, `report` and a list `image_path`.")
    names = row["image_path"]
    if not all(isinstance(name, str) for name in names):
        return BrokenStudy("bad line", f"{where}: `image_path` must be a list of strings.")
    record = {"study_id": study_id(row["id"]), "split": split, "views": [""] * len(names)}
    record |= {"findings": row["report"].strip(), "labels": []}
    return SourceStudy(f"{where} (study {row['id']})", record, [(images / name).absolute() for name in names])
