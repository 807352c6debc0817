"""Large data sets in parts: made by several processes in constant memory, gone on with after a kill.

OUT/.work holds, until the set is whole, what each part of some thousand studies became:
    options.json         what the set is made from; a later call must ask for the same
    part-00012.parquet   its study records, all splits
    part-00012.json      its counts; written last, so that a part with counts is a finished part
Every file is written under another name and renamed, so none is ever half there. At the end the parts are streamed
into OUT/<split> in the form of `DatasetDict.save_to_disk`; dataset_dict.json comes last and makes it a data set.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.table import InMemoryTable

from .habits import Habits, write_index
from .studies import SPLITS, STUDY_FEATURES, QuietBars, refuse_used_folder

WORK = ".work"
Counts = dict[str, Any]
MakePart = Callable[[int], tuple[list[dict[str, Any]], Counts]]  # part's number -> study records, JSON counts


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file under another name, then give it its own: it is never seen half written."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    write(unfinished)
    os.replace(unfinished, path)


def _name(number: int, ending: str) -> str:
    return f"part-{number:05d}.{ending}"


def read_part(work: Path, number: int, split: str | None = None) -> pa.Table:
    """The study records of a finished part, of one split or all."""
    table = pq.ParquetFile(work / _name(number, "parquet")).read().cast(STUDY_FEATURES.arrow_schema)
    return table if split is None else table.filter(pc.equal(table["split"], split))


def finished_parts(work: Path) -> dict[int, Counts]:
    """The counts of the parts that are done, by number."""
    return {int(path.stem.split("-")[1]): json.loads(path.read_text()) for path in sorted(work.glob("part-*.json"))}


def _write_part(make: MakePart, work: Path, number: int) -> Counts:
    """Make one part and leave its records, then its counts, in `work`."""
    records, counts = make(number)
    counts |= {"studies": Counter(record["split"] for record in records)}
    table = pa.Table.from_pylist(records, schema=STUDY_FEATURES.arrow_schema)
    write_whole(work / _name(number, "parquet"), lambda path: pq.write_table(table, path))
    write_whole(work / _name(number, "json"), lambda path: path.write_text(json.dumps(counts)))
    return counts


def _end_with_parent() -> None:
    """In a worker: end when the process that started it does, even by kill -9; it would wait for work for ever.

    Ctrl-C reaches the whole group of processes; the parent alone answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def _mapper(processes: int) -> Iterator[Callable]:
    """An ordered map: in this process, or over several."""
    if processes == 1:
        yield map
        return
    # Forked workers share this process's memory until they write to it, and a collection writes to every object.
    gc.collect()
    gc.freeze()
    try:
        with ProcessPoolExecutor(processes, initializer=_end_with_parent) as pool:
            yield pool.map
    finally:
        gc.unfreeze()


def write_parts(make: MakePart, work: Path, numbers: list[int], processes: int) -> Iterator[tuple[int, Counts]]:
    """Make these parts over several processes; yields (number, counts) as they are done, in order.

    An error of `make` ends all; parts that were done stay done.
    """
    yield from zip(numbers, run_in_order(partial(_write_part, make, work), numbers, processes), strict=True)


def run_in_order(function: Callable[[Any], Any], items: list[Any], processes: int) -> Iterator[Any]:
    """The function of every item, over several processes; results in the order of the items.

    `function` must be picklable: a module's function, or `functools.partial` of one. Raises ValueError (one line)
    where a worker is killed, as a machine short of memory does.
    """
    with _mapper(max(1, min(processes, len(items)))) as run:
        try:
            yield from run(function, items)
        except BrokenProcessPool as error:
            raise ValueError(
                "A worker process was killed (memory?). Run the same command again: it goes on."
            ) from error


@contextmanager
def open_work(out: Path, options: dict[str, Any]) -> Iterator[Path]:
    """OUT/.work for a data set made with these (JSON) `options`, for this call alone.

    Afterwards it is gone where the set is whole, or where a failed call has made no part worth keeping.
    Raises NotADirectoryError or ValueError (one line) for an OUT that is a file, finished or not ours, one that
    another process is working on, and one begun with other options from which parts are done.
    """
    work = out / WORK
    if (out / "dataset_dict.json").exists():
        shutil.rmtree(work, ignore_errors=True)  # of a call that was killed behind its last step
    if not work.is_dir():
        refuse_used_folder(out)
    work.mkdir(parents=True, exist_ok=True)
    with _sole_use(work):
        _compare_options(work, options)
        try:
            yield work
        finally:
            kept = any(counts["studies"] for counts in finished_parts(work).values())
            if not kept or (out / "dataset_dict.json").exists():
                shutil.rmtree(work)
                if not any(out.iterdir()):
                    out.rmdir()


def _compare_options(work: Path, options: dict[str, Any]) -> None:
    """Note the options of a new work, or compare with those it was begun with."""
    file = work / "options.json"
    earlier = json.loads(file.read_text()) if file.is_file() else {}
    if earlier == options:
        return
    if finished_parts(work):
        changed = ", ".join(sorted(name for name in earlier | options if earlier.get(name) != options.get(name)))
        raise ValueError(f"{work.parent} was begun with other options ({changed}): ask for the same, or remove it.")
    for path in work.iterdir():
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_whole(file, lambda path: path.write_text(json.dumps(options)))


@contextmanager
def _sole_use(work: Path) -> Iterator[None]:
    """Keep a second call out of `work` while this one lasts; a kill frees it at once."""
    lock = sqlite3.connect(work / "lock", timeout=0, isolation_level=None)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise ValueError(f"{work.parent} is being prepared by another process ({error}); wait for it.") from error
        yield
    finally:
        lock.close()


class _SplitFile:
    """One split in the form of `Dataset.save_to_disk`, written batch by batch.

    `Dataset.from_parquet` would map the whole split into memory to copy it; this holds one part.
    """

    def __init__(self, folder: Path, first: pa.Table) -> None:
        self.folder = folder
        # `datasets` writes a data set of one row: its two json files suit any number of rows.
        with QuietBars():
            Dataset(InMemoryTable(first.slice(0, 1))).save_to_disk(str(folder))
        (self.data,) = folder.glob("data-*.arrow")
        self.hash = hashlib.sha256()
        self.writer = pa.ipc.new_stream(str(self.data), first.schema)

    def write(self, rows: pa.Table) -> None:
        """Append rows."""
        self.hash.update("\n".join(rows["study_id"].to_pylist()).encode())
        self.writer.write_table(rows)

    def close(self) -> None:
        """End the file; the fingerprint, by which `datasets` finds cached results, must be this content's own."""
        self.writer.close()
        state = json.loads((self.folder / "state.json").read_text())
        state["_fingerprint"] = self.hash.hexdigest()[:16]
        (self.folder / "state.json").write_text(json.dumps(state, indent=2))


def assemble(work: Path, out: Path, habits: Habits) -> dict[str, int]:
    """Stream all finished parts of `work` into a `DatasetDict` at `out`; returns studies a split."""
    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    files: dict[str, _SplitFile] = {}
    counts = dict.fromkeys(SPLITS, 0)
    for number in finished_parts(work):
        table = read_part(work, number)
        for split in pc.unique(table["split"]).to_pylist():
            rows = table.filter(pc.equal(table["split"], split))
            if split not in files:
                files[split] = _SplitFile(whole / split, rows)
            files[split].write(rows)
            counts[split] += len(rows)
    for file in files.values():
        file.close()
    splits = [split for split in SPLITS if split in files]
    write_index(whole, splits, habits)
    _move_in(whole, out, splits)
    return {split: count for split, count in counts.items() if count}


def _move_in(whole: Path, out: Path, folders: list[str]) -> None:
    """Move folders of a finished set into OUT, then what makes it one. A kill leaves `.work` for the next call."""
    for name in folders:
        shutil.rmtree(out / name, ignore_errors=True)
        os.replace(whole / name, out / name)
    os.replace(whole / "dataset_dict.json", out / "dataset_dict.json")


@contextmanager
def open_whole(out: Path) -> Iterator[Path]:
    """A folder below OUT/.work to fill with a small data set in one go: its `images`, then what `save_studies` writes.

    Where the block ends well its content becomes OUT's. An error leaves nothing behind; a kill leaves a folder that
    the next call begins anew. Raises as `open_work` does.
    """
    with open_work(out, {}) as work:
        whole = work / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        (whole / "images").mkdir(parents=True)
        yield whole
        _move_in(whole, out, sorted(path.name for path in whole.iterdir() if path.is_dir()))
