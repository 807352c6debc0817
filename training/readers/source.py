"""What all readers of image folders share: a study as its source states it, checked, its films opened, then recorded.

A layout (plain.py, open_i.py, kaggle.py, r2gen.py) only reads: it yields a `SourceStudy`, or a `BrokenStudy` that says
in one line what is wrong. Here a broken one ends the reading or is counted, images are opened to the last byte, and
films that were squashed get their aspect back: the longest side keeps its pixels and the other is scaled down, so no
pixel is invented.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...processing.dicom_film import is_dicom, read_view
from ...processing.image_processing_cxr import open_picture
from .studies import Tally

MIN_SIDE = 16  # pixels: what is smaller is no film (a 1x1 placeholder, an icon)
TARGETS = ("findings", "impression", "findings+impression")


class BrokenStudy(ValueError):
    """A study that cannot be used: `reason` is its row in the closing table, the message the whole line."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class SourceStudy:
    """One study as its source states it, its image files not yet opened."""

    where: str  # "studies.jsonl line 12 (study CXR1)"
    record: dict[str, Any]  # study record without `images`
    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)  # (rows, columns) of each film; [] = as it is


def study_labels(names: Iterable[str]) -> list[dict[str, Any]]:
    """Codes of a whole study as label rows; blanks around a code and blank codes are slips of the source."""
    return [{"name": name.strip(), "image": -1, "box": []} for name in names if name.strip()]


def choose_target(record: dict[str, Any], target: str) -> dict[str, Any]:
    """The record with what the model is to write under `findings`: one section, or both one after the other."""
    parts = [record.get(name, "") for name in target.split("+")]
    return record | {"findings": " ".join(part for part in parts if part)}


def usable_studies(
    found: Iterable[SourceStudy | BrokenStudy], tally: Tally, target: str, skip_broken: bool
) -> Iterator[SourceStudy]:
    """The studies that can be recorded, with the target text; the others are counted, or the first broken one raised.

    Raises:
        ValueError: a broken study, an id that occurs twice, a study without images; unless `skip_broken`.
    """
    seen: set[str] = set()
    for study in found:
        if isinstance(study, BrokenStudy):
            count_or_raise(study, tally.skipped, skip_broken)
            continue
        if broken := find_fault(study, seen):
            count_or_raise(broken, tally.skipped, skip_broken)
            continue
        study.record = choose_target(study.record, target)
        if study.record["findings"]:
            yield study
        else:
            tally.skip(f"no {target.replace('+', ' and no ')}")


def find_fault(study: SourceStudy, seen: set[str]) -> BrokenStudy | None:
    """What is wrong with a study before its files are looked at; `seen` collects the ids so far."""
    name = study.record["study_id"]
    if name in seen:
        return BrokenStudy("duplicate id", f"{study.where}: the id {name!r} occurred before.")
    seen.add(name)
    if not study.paths:
        return BrokenStudy("no image", f"{study.where} has no image; at least one is needed.")
    return None


def count_or_raise(broken: BrokenStudy, counts: Counter[str], skip_broken: bool) -> None:
    """Count a broken study where the user asked for that, else end the reading with its line and the way out."""
    if not skip_broken:
        raise ValueError(f"{broken} Correct it, or leave broken studies out with --skip-broken.") from broken
    counts[broken.reason] += 1


def restored_size(size: tuple[int, int], film: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that gives a file of `size` (width, height) the aspect of `film` (rows, columns).

    The longest side of the file stays, the other is scaled down. The same size comes back where at most one pixel
    would change.
    """
    rows, columns = film
    longest = max(size)
    width, height = (longest, longest * rows / columns) if columns >= rows else (longest * columns / rows, longest)
    shrink = min(1.0, size[0] / width, size[1] / height)  # never above what the file holds on either side
    restored = max(1, round(width * shrink)), max(1, round(height * shrink))
    return size if all(abs(a - b) <= 1 for a, b in zip(restored, size, strict=True)) else restored


def check_file(path: str | Path, where: str) -> None:
    """Raise BrokenStudy where an image file is missing, a folder or empty; it is not opened."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter: no name that a file can have
        raise BrokenStudy("missing image", f"{where} names an image that does not exist: {path}.") from None
    if stat.S_ISDIR(found.st_mode):
        raise BrokenStudy("unreadable image", f"{where} names a folder, not an image: {path}.")
    if not found.st_size:
        raise BrokenStudy("empty image", f"{where} names an image that is an empty file: {path}.")


def open_film(path: Path, where: str) -> Image.Image:
    """Decode an image file whole. Raises BrokenStudy for one that is missing, empty, no image, cut short or tiny."""
    check_file(path, where)
    try:
        with open_picture(path, "it") as image:
            image.load()
    except ImportError as error:  # pydicom is missing: the fault of no study, so none is left out for it
        raise ImportError(f"{where}: the image {path} cannot be read ({error})") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ... for one fact
        unknown = isinstance(error.__cause__, UnidentifiedImageError)
        reason = "no image format known" if unknown else str(error).rstrip(".")
        raise _unreadable(path, where, reason) from error
    if min(image.size) < MIN_SIDE:
        size = f"{image.width}x{image.height}"
        raise BrokenStudy(
            "unreadable image", f"{where}: the image {path} is {size}; a film has {MIN_SIDE} pixels a side or more."
        )
    return image


def stated_view(path: Path, where: str) -> str:
    """The view that a DICOM file states; "" where it, or a picture, states none. Raises BrokenStudy as `open_film`."""
    try:
        return (read_view(path, "it") or "") if is_dicom(path) else ""
    except ValueError as error:
        raise _unreadable(path, where, str(error).rstrip(".")) from error


def _unreadable(path: Path, where: str, reason: str) -> BrokenStudy:
    return BrokenStudy("unreadable image", f"{where}: the image {path} cannot be read ({reason}).")


def _write_film(image: Image.Image, size: tuple[int, int], target: Path) -> Path:
    """Scale to `size` (width, height) and save: JPEG at quality 95 for 8 bits, PNG for 16. Returns the file."""
    if image.mode.startswith("I"):
        grey = Image.fromarray(np.asarray(image, dtype=np.float32)).resize(size, Image.Resampling.LANCZOS)
        target = target.with_suffix(".png")
        Image.fromarray(np.asarray(grey).clip(0, 65535).round().astype(np.uint16)).save(target)
    else:
        target = target.with_suffix(".jpg")
        image.convert("L").resize(size, Image.Resampling.LANCZOS).save(target, quality=95)
    return target


def _finish(number: int, study: SourceStudy, folder: Path, home: Path) -> tuple[dict[str, Any], int] | BrokenStudy:
    """Open a study's images and restore squashed ones: its record and how many were restored, or what is wrong.

    A view that the source does not state is the one that a DICOM file states of itself.
    """
    images, views, restored = [], list(study.record["views"]), 0
    try:
        for position, path in enumerate(study.paths):
            image = open_film(path, study.where)
            views[position] = views[position] or stated_view(path, study.where)
            film = study.sizes[position] if study.sizes else None
            size = restored_size(image.size, film) if film else image.size
            if size != image.size:
                path = home / _write_film(image, size, folder / f"{number:06d}-{position}").name
                restored += 1
            images.append(str(path))
    except BrokenStudy as broken:
        return broken
    return study.record | {"images": images, "views": views}, restored


def finish_studies(
    studies: list[SourceStudy], folder: Path, home: Path, tally: Tally, skip_broken: bool
) -> tuple[list[dict[str, Any]], int]:
    """Open and restore all images under a progress bar: the records kept and the number of restored files.

    Restored files are written into `folder`, and recorded as they will stand in `home`.
    Threads, not processes: PIL decodes, scales and encodes outside the interpreter lock.
    """
    records, restored = [], 0
    columns = (TextColumn("reading studies"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        results = pool.map(lambda number, study: _finish(number, study, folder, home), count(1), studies)
        for result in progress.track(results, total=len(studies)):
            if isinstance(result, BrokenStudy):
                count_or_raise(result, tally.skipped, skip_broken)
                continue
            records.append(result[0])
            restored += result[1]
    return records, restored
