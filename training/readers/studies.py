"""The study record: one schema for every reader, a `datasets.DatasetDict` on disk (one key a split).

A study is one examination: 1..V images, the sections of its report and what is known to be in it. Images are kept
as absolute paths, not pixels: `datasets` would copy the pixels of an Image column whenever it saves.
`labels` rows: `name` a slash path ("effusion/left/large/-"), `image` an index into `images` (-1 = whole study),
`box` (x0, y0, x1, y1) in pixels of that image's file, or empty.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, Features, List, Value
from rich.console import Console
from rich.table import Table

from .habits import OWN_HABITS, Habits, write_index

SECTIONS = ("findings", "impression", "indication", "comparison")  # of a report, as the record keeps them
SPLITS = ("train", "val", "test", "extra")
STUDY_FEATURES = Features(
    {
        "study_id": Value("string"),
        "split": Value("string"),
        "images": List(Value("string")),  # absolute paths
        "views": List(Value("string")),  # "frontal", "lateral" or "" where unknown, one an image
        "findings": Value("string"),
        "impression": Value("string"),
        "indication": Value("string"),
        "comparison": Value("string"),
        "labels": List({"name": Value("string"), "image": Value("int32"), "box": List(Value("float32"))}),
    }
)


class Tally:
    """Counts studies kept (by split) and skipped (by reason), for the closing table every reader prints."""

    def __init__(self) -> None:
        self.kept: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def keep(self, split: str) -> None:
        """Count one study kept in this split."""
        self.kept[split] += 1

    def skip(self, reason: str) -> None:
        """Count one study left out for this reason."""
        self.skipped[reason] += 1

    def skipped_in_words(self) -> str:
        """Reasons and counts: "3 no findings, 1 missing image"; "" where nothing was skipped."""
        return ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())

    def as_dict(self) -> dict[str, dict[str, int]]:
        """The counts as plain JSON: {"kept": {split: n}, "skipped": {reason: n}}."""
        splits = {split: self.kept[split] for split in SPLITS if self.kept[split]}
        return {"kept": splits, "skipped": dict(self.skipped.most_common())}

    def show(self, title: str) -> None:
        """Print the closing table on stderr (stdout belongs to --json)."""
        table = Table(title=title, title_justify="left", min_width=len(title))
        table.add_column("studies")
        table.add_column("count", justify="right")
        counts = self.as_dict()
        for split, count in counts["kept"].items():
            table.add_row(f"kept: {split}", f"{count:,}", style="green")
        for reason, count in counts["skipped"].items():
            table.add_row(f"skipped: {reason}", f"{count:,}", style="yellow")
        console = Console(stderr=True)
        console.print(table)
        if missing := [split for split in ("train", "val") if not counts["kept"].get(split)]:
            console.print(f"No study in {' and '.join(missing)}: training needs both.", highlight=False)


def refuse_used_folder(out: Path) -> None:
    """Raise unless `out` is new or an empty folder: a prepared data set is never written over.

    `save_studies` and `open_work` call this; the former lets `out/images` stand, which the reader has just filled.
    """
    if out.is_file():
        raise NotADirectoryError(f"OUT must be a folder to create. Got the file {out}; choose another name.")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"OUT must be a new or empty folder. {out} already holds files; remove it or choose another.")


def _check_record(record: dict[str, Any], seen: set[str]) -> None:
    """Raise ValueError where a record cannot be a study; `seen` collects the ids so far."""
    name = record["study_id"]
    if name in seen:
        raise ValueError(f"`study_id` must be unique. {name!r} occurs twice.")
    seen.add(name)
    if record["split"] not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Got {record['split']!r} in study {name!r}.")
    if not record["images"]:
        raise ValueError(f"`images` must name at least one image. Study {name!r} has none.")
    if len(record["views"]) != len(record["images"]):
        raise ValueError(
            f"`views` must have one entry an image. Study {name!r} has {len(record['images'])} images "
            f"and {len(record['views'])} views."
        )


def save_studies(records: Iterable[dict[str, Any]], out: Path, habits: Habits = OWN_HABITS) -> dict[str, int]:
    """Write study records as a `DatasetDict` at `out`, one key for each split that occurs.

    `out` may already hold an `images` folder that the reader has just filled; nothing else is touched. `habits` are
    stored with it (habits.py).

    Returns the number of studies a split. Raises ValueError (one line) for a duplicate id, an unknown split, a study
    without images, views and images of different number, or no study at all. Missing sections become "".
    """
    out = Path(out)
    if not out.is_dir() or any(path.name != "images" for path in out.iterdir()):
        refuse_used_folder(out)
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for record in records:
        full = {key: record.get(key, [] if key in ("views", "labels", "images") else "") for key in STUDY_FEATURES}
        _check_record(full, seen)
        rows[full["split"]].append(full)
    rows = {split: found for split, found in rows.items() if found}
    if not rows:
        raise ValueError(f"A data set needs at least one study; none is left to write to {out}.")
    tables = {split: Dataset.from_list(found, features=STUDY_FEATURES) for split, found in rows.items()}
    with QuietBars():
        DatasetDict(tables).save_to_disk(str(out))
    write_index(out, list(tables), habits)
    return {split: len(found) for split, found in rows.items()}


class QuietBars:
    """Switches the progress bars of `datasets` off inside a with block: writing a few thousand rows needs none."""

    def __enter__(self) -> None:
        self.were_on = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()

    def __exit__(self, *_: object) -> None:
        if self.were_on:
            datasets.enable_progress_bars()


def load_splits(path: Path) -> DatasetDict:
    """Open a prepared data set with all its splits (`datasets.DatasetDict`).

    Raises FileNotFoundError, NotADirectoryError or ValueError with one line for a missing folder, a file in its
    place, a folder that `radscribe prepare` did not write.
    """
    path = Path(path)
    way_out = "make it with `radscribe prepare`"
    if not path.exists():
        raise FileNotFoundError(f"The data set {path} does not exist; {way_out}.")
    if not path.is_dir():
        raise NotADirectoryError(f"A data set is a folder written by `radscribe prepare`. Got the file {path}.")
    if not (path / "dataset_dict.json").is_file():
        raise ValueError(f"The folder {path} is not a prepared data set (no dataset_dict.json in it); {way_out}.")
    try:
        names = json.loads((path / "dataset_dict.json").read_text())["splits"]
        # `datasets` writes a split without studies but fails to open it again.
        full = [name for name in names if not _is_empty(path / name)]
        splits = DatasetDict({name: Dataset.load_from_disk(str(path / name)) for name in full})
    except Exception as error:  # whatever `datasets` meets in a damaged folder: the user needs the folder's name
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"The data set {path} cannot be read ({reason}); {way_out} again.") from error
    return splits


def _is_empty(folder: Path) -> bool:
    """Whether a split on disk holds no study."""
    return not json.loads((folder / "state.json").read_text())["_data_files"]


def is_phantom_set(ids: Iterable[str]) -> bool:
    """Whether every study is a phantom, so that the exam can read its report back."""
    return all(name.startswith("phantom-") for name in ids)


def load_studies(path: Path, split: str) -> Dataset:
    """Open one split of a prepared data set.

    Raises as `load_splits` does, and ValueError (one line) for a split that is not there, listing those that are, an
    empty one, or columns that are not the study record's.
    """
    splits = load_splits(path)
    if split not in splits and (Path(path) / split).is_dir():
        raise ValueError(f"The split {split!r} of {path} is empty; choose another split.")
    if split not in splits:
        found = ", ".join(f"{name} ({len(rows)})" for name, rows in splits.items())
        raise ValueError(f"The data set {path} has no split {split!r}. It has: {found}.")
    studies: Dataset = splits[split]
    missing = [name for name in STUDY_FEATURES if name not in studies.column_names]
    if missing:
        raise ValueError(f"The data set {path} is not made of study records: no column {', '.join(missing)}.")
    if len(studies) == 0:
        raise ValueError(f"The split {split!r} of {path} is empty; choose another split.")
    return studies
