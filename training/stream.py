"""Training studies streamed from the Parquet shards of `prepare --embed`: memory does not grow with the data set.

`datasets` reads the shards: each process and each of its workers has shards of its own, their order is drawn anew each
epoch, and a buffer mixes the studies of a few. What a run reads follows from its seed and the number of processes and
workers, so a resumed one goes on where it stopped, but for films that could not be read: it reads past what it has
learnt without decoding a film.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.image_processing_cxr import read_grey
from .data import vary_film
from .errors import one_line
from .readers.embed import GROUP_STUDIES
from .readers.staged import SHARDS

MOST_BAD = 100  # studies that a worker, and shards that a run, may pass over before it stops


class StudyStream(torch.utils.data.IterableDataset):
    """Studies without end, `{"images": films, "text": findings}` as `StudyFilms` gives them.

    Args:
        folder: a prepared data set with shards.
        seed: of the order and the augmentation.
        buffer: studies among which the next is drawn; each keeps the bytes of its films in memory.
        rank, world: this process and how many there are.
        batch_size: studies a batch, by which workers take turns.
        augmentation, shrink: as `StudyFilms`.

    Raises:
        ValueError: no shards, fewer whole ones than processes, or too many that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        buffer: int,
        rank: int,
        world: int,
        batch_size: int,
        augmentation: CXRAugmentation | None = None,
        shrink: int | None = None,
    ) -> None:
        whole = _whole_shards(folder)
        if len(whole) < world:
            raise ValueError(f"`{folder / SHARDS}` has {len(whole)} shards for {world} processes: each needs one.")
        shards = whole[rank::world]
        self.shards = len(shards)
        # datasets' own Parquet reader ends the whole stream at a shard that is damaged inside.
        self.stream = datasets.IterableDataset.from_generator(_read_shards, gen_kwargs={"shards": shards})
        self.seed, self.rank, self.batch_size, self.buffer = seed, rank, batch_size, buffer
        self.augmentation, self.shrink = augmentation, shrink
        self.learnt = 0  # batches of this process that a resumed run has learnt from before

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, min(info.num_workers, self.shards)) if info else (0, 1)
        if worker >= workers:
            return  # a shard is one worker's
        # Workers take turns: of 7 batches 3 workers gave 3, 2 and 2.
        past = self.batch_size * (self.learnt // workers + (worker < self.learnt % workers))
        epoch = given = bad = 0
        while True:
            # Not `set_epoch`: its number is shared by all workers, and the first to begin an epoch would change the
            # order of those that are still to begin the one before.
            order = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
            before = given
            for row in self.stream.shuffle(order, buffer_size=self.buffer):
                given += 1
                if given <= past:
                    continue
                try:
                    films = self._read(row, np.random.default_rng([self.seed, self.rank, worker, given]))
                except ValueError as error:
                    bad += 1
                    print(f"study {row['study_id']} is passed over ({bad}): {error}", file=sys.stderr, flush=True)
                    if bad > MOST_BAD:
                        raise ValueError(f"More than {MOST_BAD} studies cannot be read, the last: {error}") from error
                    continue
                yield {"images": films, "text": row["findings"]}
            if given == before:
                raise ValueError("None of the shards of a worker can be read.")
            epoch += 1

    def _read(self, row: dict[str, Any], random: np.random.Generator) -> list[Image.Image]:
        """The films of a study from their files' bytes."""
        films = []
        for number, data in enumerate(row["films"], start=1):
            grey = read_grey(data, f"film {number} of study {row['study_id']}")
            films.append(
                grey if self.augmentation is None else vary_film(grey, self.augmentation, self.shrink, random)
            )
        return films


def _read_shards(shards: list[str]) -> Iterator[dict[str, Any]]:
    """The studies of these shards; one that is damaged inside is named and left there."""
    for shard in shards:
        try:
            for rows in pq.ParquetFile(shard).iter_batches(GROUP_STUDIES, columns=["study_id", "findings", "films"]):
                yield from rows.to_pylist()
        except (OSError, ValueError) as error:
            print(f"the rest of {shard} is passed over: {one_line(error)}", file=sys.stderr, flush=True)


def _whole_shards(folder: Path) -> list[str]:
    """The training shards whose ends can be read; others are named, and few may be missing."""
    found = sorted((folder / SHARDS).glob("train-*.parquet"))
    if not found:
        raise ValueError(
            f"`stream_buffer` reads shards, and `{folder / SHARDS}` has none: `radscribe prepare --embed`."
        )
    whole = []
    for shard in found:
        try:
            pq.read_metadata(shard)
            whole.append(str(shard))
        except (OSError, ValueError) as error:
            print(f"{shard} is passed over: it is no whole Parquet file ({error})", file=sys.stderr)
    if len(found) - len(whole) > min(MOST_BAD, len(found) // 10):
        raise ValueError(f"{len(found) - len(whole)} of {len(found)} shards in `{folder / SHARDS}` cannot be read.")
    return whole
