"""Does the memory of a streamed epoch grow with the data set, and how fast does it start?

python -m tests.benchmarks.stream FOLDER [--sizes 2000 200000]

Made-up studies (one JPEG of 128 pixels each, 256 a shard as `prepare --embed` writes them) are streamed for one epoch
with a buffer of 1,000, batches of 16, without workers; each size in a process of its own. `peak` is that process's
largest resident memory, imports included.
"""

import argparse
import io
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from radscribe.training.readers.embed import FILM_FEATURES, GROUP_STUDIES, SHARD_STUDIES
from radscribe.training.stream import StudyStream

BATCH, BUFFER = 16, 1000


def make(folder: Path, studies: int) -> None:
    """Shards of so many studies, unless they lie there."""
    if (folder / "parquet").is_dir():
        return
    random = np.random.default_rng(0)
    films = []
    for _ in range(64):
        file = io.BytesIO()
        smooth = Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).resize(
            (128, 128), Image.Resampling.BICUBIC
        )
        smooth.save(file, "jpeg")
        films.append(file.getvalue())
    (folder / "parquet").mkdir(parents=True)
    count = -(-studies // SHARD_STUDIES)
    blank = {"split": "train", "images": ["x.jpg"], "views": ["frontal"], "labels": [], "impression": ""}
    blank |= {"indication": "", "comparison": "", "findings": "The lungs are clear. The heart is normal in size. " * 4}
    for shard in range(count):
        rows = range(shard * SHARD_STUDIES, min((shard + 1) * SHARD_STUDIES, studies))
        records = [blank | {"study_id": f"s{i}", "films": [films[i % 64]]} for i in rows]
        table = pa.Table.from_pylist(records, schema=FILM_FEATURES.arrow_schema)
        name = f"train-{shard:05d}-of-{count:05d}.parquet"
        pq.write_table(table, folder / "parquet" / name, row_group_size=GROUP_STUDIES, compression="none")


def measure(folder: Path, studies: int) -> dict[str, float]:
    """One epoch of the stream of this folder."""
    start = time.perf_counter()
    stream = StudyStream(folder, 0, BUFFER, 0, 1, BATCH)
    loader = iter(torch.utils.data.DataLoader(stream, batch_size=BATCH, collate_fn=len))
    seen, first = next(loader), time.perf_counter() - start
    for number in itertools.islice(loader, studies // BATCH - 1):
        seen += number
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"studies": seen, "first batch, s": round(first, 2), "studies a second": round(seen / spent), "peak, MiB": round(peak)}  # fmt: skip  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 200_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.folder, asked.one)))
        return
    for size in asked.sizes:
        folder = asked.folder / str(size)
        make(folder, size)
        command = [sys.executable, "-m", "tests.benchmarks.stream", str(folder), "--one", str(size)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
