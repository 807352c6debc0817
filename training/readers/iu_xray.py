"""The plain format: `SRC/studies.jsonl` (a study a line) beside its images: IU X-ray, or your own studies.

Fields of a line; only the first three are needed:
    id          str, unique
    images      list[str], paths relative to SRC or absolute, frontal first
    findings    str, the section to be learned; a study with an empty one is skipped and counted
    split       "train", "val", "test" or "extra"; "train" where it is left out
    views       list of "frontal", "lateral" or null, one an image
    orig_size   list of [rows, columns] or null, one an image: the film's size before it was squashed
    impression, indication, comparison   str
    mesh        list[str], codes of the whole study; they become `labels`

IU X-ray (Demner-Fushman et al., JAMIA 2016) is often handed on squashed to a square. Where `orig_size` says that a
file lost its aspect it gets it back: the longest side keeps its pixels and the other is scaled down, so no pixel is
invented. Such films are written to OUT/images; every other path stays where it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .studies import SPLITS, Tally, refuse_used_folder, remove_unfinished, save_studies

MIN_SIDE = 16  # pixels: what is smaller is no film (a 1x1 placeholder, an icon)
_SECTIONS = ("findings", "impression", "indication", "comparison")


class BrokenStudy(ValueError):
    """A study that cannot be used: `reason` is its row in the closing table, the message the whole line."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class PlainStudy:
    """One checked line of studies.jsonl, its image files not yet opened."""

    where: str  # "studies.jsonl line 12"
    number: int
    record: dict[str, Any]
    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)  # (rows, columns) of the film


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
    sections = {name: row.get(name) or "" for name in _SECTIONS}
    for name, text in sections.items():
        if not isinstance(text, str):
            raise BrokenStudy("bad line", f"{where}: `{name}` must be a string. Got {json.dumps(text)[:80]}.")
    return {name: text.strip() for name, text in sections.items()}


def parse_line(line: str, number: int, source: Path) -> PlainStudy:
    """Check one line of `source` (numbered from 1). Raises BrokenStudy, naming file and line, for what is no study."""
    where = f"{source} line {number}"
    try:
        row = json.loads(line)
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
    record["labels"] = [{"name": name, "image": -1, "box": []} for name in _strings(row, "mesh", where)]
    paths = [Path(os.path.abspath(source.parent / name)) for name in names]
    return PlainStudy(f"{where} (study {row['id']})", number, record, paths, _film_sizes(row, len(names), where))


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


def _open_film(path: Path, where: str) -> Image.Image:
    """Decode an image file whole. Raises BrokenStudy for one that is missing, no image, cut short or tiny."""
    if path.is_dir():
        raise BrokenStudy("unreadable image", f"{where} names a folder, not an image: {path}.")
    if not path.is_file():
        raise BrokenStudy("missing image", f"{where} names an image that does not exist: {path}.")
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ... for one fact
        # PIL names an unknown file in full; of a truncated one it says what is missing
        reason = "no image format known" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenStudy("unreadable image", f"{where}: the image {path} cannot be read ({reason}).") from error
    if min(image.size) < MIN_SIDE:
        size = f"{image.width}x{image.height}"
        raise BrokenStudy(
            "unreadable image", f"{where}: the image {path} is {size}; a film has {MIN_SIDE} pixels a side or more."
        )
    return image


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


def _finish(study: PlainStudy, folder: Path) -> tuple[dict[str, Any], int] | BrokenStudy:
    """Open a study's images and restore squashed ones: its record and how many were restored, or what is wrong."""
    images, restored = [], 0
    try:
        for position, (path, film) in enumerate(zip(study.paths, study.sizes, strict=True)):
            image = _open_film(path, study.where)
            size = restored_size(image.size, film) if film else image.size
            if size != image.size:
                path = _write_film(image, size, folder / f"{study.number:06d}-{position}")
                restored += 1
            images.append(str(path))
    except BrokenStudy as broken:
        return broken
    return study.record | {"images": images}, restored


def _read_lines(source: Path, tally: Tally, skip_broken: bool) -> Iterator[PlainStudy]:
    """Yield the usable lines of `source`; count the others, or raise the first that is broken."""
    seen: set[str] = set()
    with source.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                study = parse_line(line, number, source)
                name = study.record["study_id"]
                if name in seen:
                    raise BrokenStudy("duplicate id", f"{source} line {number}: the id {name!r} occurred before.")
                seen.add(name)
                if not study.paths:
                    raise BrokenStudy("no image", f"{study.where} has no image; `images` must name at least one.")
            except BrokenStudy as broken:
                _count_or_raise(broken, tally, skip_broken)
                continue
            if study.record["findings"]:
                yield study
            else:
                tally.skip("no findings")


def _count_or_raise(broken: BrokenStudy, tally: Tally, skip_broken: bool) -> None:
    """Count a broken study where the user asked for that, else end the reading with its line and the way out."""
    if not skip_broken:
        raise ValueError(f"{broken} Correct it, or leave broken studies out with --skip-broken.") from broken
    tally.skip(broken.reason)


def _find_source(src: Path) -> Path:
    """SRC/studies.jsonl, or an error that says what stands there instead."""
    wanted = "SRC must be a folder that holds studies.jsonl"
    if not src.exists():
        raise FileNotFoundError(f"{wanted}. {src} does not exist.")
    if not src.is_dir():
        raise NotADirectoryError(f"{wanted}. Got the file {src}; name its folder.")
    if not (src / "studies.jsonl").is_file():
        raise FileNotFoundError(f"{wanted}. {src} has none.")
    return src / "studies.jsonl"


def prepare_iu_xray(src: Path, out: Path, skip_broken: bool = False) -> dict[str, Any]:
    """Turn the plain format at `src` into a data set of study records at `out` (a new or empty folder).

    Shows progress and a closing table of kept and skipped studies on stderr. A broken line, a missing or unreadable
    image, a study without images and a repeated id end it with one line (ValueError); `skip_broken` counts them
    instead. Returns {"kept": {split: n}, "skipped": {reason: n}, "restored_images": n, "out": str}.
    """
    src, out = Path(src), Path(out).absolute()
    source, tally = _find_source(src), Tally()
    refuse_used_folder(out)
    studies = list(_read_lines(source, tally, skip_broken))
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        records, restored = _finish_all(studies, folder, tally, skip_broken)
        if not records:
            skipped = ", ".join(f"{count} {reason}" for reason, count in tally.skipped.items()) or "it is empty"
            raise ValueError(f"{source} holds no study that can be used ({skipped}).")
        save_studies(records, out)
    except BaseException:
        remove_unfinished(out)
        raise
    if not restored:
        folder.rmdir()
    tally.show(f"{src.name} -> {out}")
    return tally.as_dict() | {"restored_images": restored, "out": str(out)}


def _finish_all(
    studies: list[PlainStudy], folder: Path, tally: Tally, skip_broken: bool
) -> tuple[list[dict[str, Any]], int]:
    """Open and restore all images under a progress bar: the records kept and the number of restored files.

    Threads, not processes: PIL decodes, scales and encodes outside the interpreter lock.
    """
    records, restored = [], 0
    columns = (TextColumn("reading studies"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        results = pool.map(lambda study: _finish(study, folder), studies)
        for result in progress.track(results, total=len(studies)):
            if isinstance(result, BrokenStudy):
                _count_or_raise(result, tally, skip_broken)
                continue
            record, count = result
            records.append(record)
            restored += count
            tally.keep(record["split"])
    return records, restored
