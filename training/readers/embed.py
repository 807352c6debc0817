"""Parquet shards that carry the image files themselves, for clusters where a million small files are a burden.

OUT/<split>-00000-of-00012.parquet: `SHARD_STUDIES` studies each, all columns of the study record and `films`, the
bytes of each image's file as it stands on disk (JPEG stays JPEG, DICOM stays DICOM with all its tags), in the order
of `images`. Row groups are small, so that neither writer nor reader needs memory for more than a few studies.
`datasets.load_dataset("parquet", data_files=...)` opens them, streaming or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, List, Value
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .parts import finished_parts, read_part, run_in_order, write_whole
from .studies import SPLITS, STUDY_FEATURES

SHARD_STUDIES = 256
GROUP_STUDIES = 8  # a row group: about 12 MB of MIMIC-CXR-JPG with one film a study
FILM_FEATURES = Features({**STUDY_FEATURES, "films": List(Value("binary"))})


@dataclass
class Shard:
    """One file, and where its studies stand: (part, first, last + 1), counted within the part's rows of the split."""

    name: str
    split: str
    pieces: list[tuple[int, int, int]]


def plan_shards(parts: dict[int, dict[str, int]], size: int) -> list[Shard]:
    """Cut the studies of each split, parts in order, into shards of `size`; parts: number -> studies a split."""
    shards = []
    for split in SPLITS:
        total = sum(counts.get(split, 0) for counts in parts.values())
        count = -(-total // size)
        for index in range(count):
            pieces = list(_pieces(parts, split, index * size, (index + 1) * size))
            shards.append(Shard(f"{split}-{index:05d}-of-{count:05d}.parquet", split, pieces))
    return shards


def _pieces(parts: dict[int, dict[str, int]], split: str, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Where the studies `first` to `last` - 1 of a split stand in its parts."""
    begin = 0
    for number, counts in parts.items():
        end = begin + counts.get(split, 0)
        if max(first, begin) < min(last, end):
            yield number, max(first, begin) - begin, min(last, end) - begin
        begin = end


def _write_shard(work: Path, folder: Path, shard: Shard) -> None:
    """Write one shard, a row group at a time."""

    def write(path: Path) -> None:
        # Films are compressed already, and a dictionary of them would hold the whole column.
        with pq.ParquetWriter(path, FILM_FEATURES.arrow_schema, compression="none", use_dictionary=False) as file:
            for number, first, last in shard.pieces:
                rows = read_part(work, number, shard.split).slice(first, last - first)
                for start in range(0, len(rows), GROUP_STUDIES):
                    file.write_table(_add_films(rows.slice(start, GROUP_STUDIES)))

    write_whole(folder / shard.name, write)


def _add_films(rows: pa.Table) -> pa.Table:
    """The rows with the bytes of their images."""
    films = [[Path(image).read_bytes() for image in images] for images in rows["images"].to_pylist()]
    columns = [*rows.columns, pa.array(films, pa.list_(pa.binary()))]
    return pa.table(columns, names=[*rows.column_names, "films"]).cast(FILM_FEATURES.arrow_schema)


def embed_films(work: Path, folder: Path, processes: int, say: Console) -> int:
    """Write the shards of all finished parts of `work` into `folder`; returns their number. Those there are kept.

    Raises OSError (one line, naming the file) for an image that cannot be read.
    """
    folder.mkdir(exist_ok=True)
    for unfinished in folder.glob("*.new"):  # of a call that was killed
        unfinished.unlink()
    shards = plan_shards({number: counts["studies"] for number, counts in finished_parts(work).items()}, SHARD_STUDIES)
    waiting = [shard for shard in shards if not (folder / shard.name).exists()]
    if len(waiting) < len(shards):
        say.print(
            f"Going on: {len(shards) - len(waiting):,} of {len(shards):,} shards were done before.", highlight=False
        )
    columns = (TextColumn("embedding films"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=say, transient=True) as progress:
        written = run_in_order(partial(_write_shard, work, folder), waiting, processes)
        for _ in progress.track(written, total=len(waiting)):
            pass
    return len(shards)
