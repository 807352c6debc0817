"""Data sets of any size from rows that were staged in SQLite: what the readers of MIMIC-CXR share.

A reader streams its source, once and in one process, into OUT/.work/staged.sqlite, whose table `studies` is numbered
from 0; then several processes turn ranges of it into parts (parts.py), which become shards with the films (embed.py)
where asked for, and the data set. Neither the source nor the records ever stand in memory. A call that was killed goes
on behind the last finished part.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .embed import embed_films
from .habits import MIMIC_HABITS
from .parts import Counts, assemble, finished_parts, open_work, write_parts
from .source import BrokenStudy, count_or_raise
from .studies import Tally

SHARDS = "parquet"  # folder in OUT
PART_STUDIES = 1000
_STAGED = "staged.sqlite"  # file in OUT/.work
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class StagedSource:
    """A source of studies, and how its rows become records."""

    origin: Path  # the folder or file that errors name
    options: dict[str, Any]  # JSON: what the set is made from; a later call must ask for the same
    load: Callable[[Path], Any]  # fills the SQLite file of this name
    make: Callable[[Path, bool, int], tuple[list[dict[str, Any]], Counts]]  # file, skip_broken, part's number
    part_studies: int
    layout: str = ""  # for the title of the closing table


@contextmanager
def write_tables(file: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """A new SQLite file with this schema, to be filled; it appears when it is whole: a kill leaves none."""
    unfinished = file.with_name(file.name + ".new")
    unfinished.unlink(missing_ok=True)
    db = sqlite3.connect(unfinished)
    try:
        # Not safe against a crash, and need not be: then the file is made anew.
        db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {schema}")
        yield db
        db.commit()
    finally:
        db.close()
    os.replace(unfinished, file)


@contextmanager
def read_tables(file: Path) -> Iterator[sqlite3.Connection]:
    """`file` for reading; nobody writes it any more, so no locks are needed (network disks often lack them)."""
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        yield db
    finally:
        db.close()


def count_studies(file: Path) -> int:
    """Number of studies in the SQLite file."""
    with read_tables(file) as db:
        return db.execute("SELECT count(*) FROM studies").fetchone()[0]


def stamp(path: Path) -> list[Any]:
    """Name, size and time of a file: a later call sees by it that nothing changed."""
    return [str(path), path.stat().st_size, path.stat().st_mtime_ns]


def make_records(
    rows: Iterable[_Row], make: Callable[[_Row], dict[str, Any] | str], skip_broken: bool
) -> tuple[list[dict[str, Any]], Counts]:
    """The records of one part and its counts: kept by split, skipped and broken by reason.

    `make` gives a row's record, or why it is skipped. A BrokenStudy of it is counted or, without `skip_broken`, ends
    the part with its line (ValueError).
    """
    kept: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    records = []
    for row in rows:
        try:
            record = make(row)
        except BrokenStudy as error:
            count_or_raise(error, broken, skip_broken)
            continue
        if isinstance(record, str):
            skipped[record] += 1
        else:
            records.append(record)
            kept[record["split"]] += 1
    return records, {"kept": kept, "skipped": skipped, "broken": broken}


def prepare_staged(
    source: StagedSource, out: Path, *, skip_broken: bool, processes: int | None, embed: bool
) -> tuple[dict[str, Any], list[Counts]]:
    """Turn `source` into a data set at `out` (new, empty, or begun by this very call), over `processes` (one a core).

    embed: write OUT/parquet too, shards that carry the image files.
    Returns {"kept": {split: n}, "skipped": {reason: n}, "out": str}, "shards": n with `embed`, and the parts' counts.
    Raises ValueError (one line) for a broken study unless `skip_broken`, and where no study can be used.
    """
    say, cores = Console(stderr=True), processes or os.cpu_count() or 1
    with open_work(out, source.options | {"part_studies": source.part_studies, "embed": embed}) as work:
        done = _make_all(source, work, skip_broken, cores, say)
        tally = _add_up(done)
        if not tally.kept:
            skipped = tally.skipped_in_words() or "it is empty"
            raise ValueError(f"{source.origin} holds no study that can be used ({skipped}).")
        shards = {"shards": embed_films(work, out / SHARDS, cores, say)} if embed else {}
        assemble(work, out, MIMIC_HABITS)
    tally.show(f"{source.origin.name}{source.layout and f' ({source.layout})'} -> {out}")
    return tally.as_dict() | {"out": str(out)} | shards, done


def _make_all(source: StagedSource, work: Path, skip_broken: bool, processes: int, say: Console) -> list[Counts]:
    """Stage the source and make its parts, under a progress bar, as far as an earlier call did not; all counts."""
    staged = work / _STAGED
    if not staged.exists():
        with say.status(f"reading {source.origin.name}"):
            source.load(staged)
    studies = count_studies(staged)
    parts = range(-(-studies // source.part_studies))
    # A part made with --skip-broken that left broken studies out says nothing to a call without it.
    done = {n: counts for n, counts in finished_parts(work).items() if skip_broken or not counts["broken"]}
    if len(done) < len(parts):
        shutil.rmtree(work.parent / SHARDS, ignore_errors=True)  # cut from other parts than there will be
    if done:
        say.print(f"Going on: {len(done):,} of {len(parts):,} parts were done before.", highlight=False)
    columns = (TextColumn("reading studies"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=say, transient=True) as progress:
        task = progress.add_task("", total=studies, completed=min(studies, len(done) * source.part_studies))
        make = partial(source.make, staged, skip_broken)
        for number, counts in write_parts(make, work, [n for n in parts if n not in done], processes):
            done[number] = counts
            progress.advance(task, source.part_studies)
    return list(done.values())


def _add_up(parts: list[Counts]) -> Tally:
    """The counts of all parts as one tally."""
    tally = Tally()
    for counts in parts:
        tally.kept.update(counts["kept"])
        tally.skipped.update(counts["skipped"])
        tally.skipped.update(counts["broken"])
    return tally
