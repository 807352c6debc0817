"""Speed and memory of both models at bench size, as ratios to a stock model of the same parts in the same run.

    python -m tests.benchmarks.bench --out FILE.json [--models mcsam uar] [--sets iu mimic] [--what encode decode ...]
        [--dtypes fp32 bf16] [--batches 16 1] [--words N] [--repeats 5] [--threads N] [--device cpu|cuda]

IU is two films and 60 words of 761, MIMIC-CXR one film and 100 words of 4,335; D 512, 3 + 3 layers, 8 heads. MCSAM
reads 224-px films by ResNet-101, UAR 112-px films by the DALL-E dVAE; weights are random. What is measured:

- encode: films to what the decoder reads; decode: `generate()` from there, beam 3, every report of full length;
  generate: both; train: forward, backward and a step of AdamW. Reference and ours take turns, reference first, after
  one round that is thrown away; the figure is the median.
- memory: peak MiB of a process that does one training step, in place of seconds (`unit` says which). On the CPU it
  is all that the process ever held at once (Linux, VmHWM), libraries included; on a card what PyTorch held there.
- first_call: `generate()` for the first time in a process. These two have a process of their own for each figure, so
  that nothing is there before them, and are measured once.

`ratio` is ours to the stock model's in fp32, whatever our dtype; bf16 is `torch.autocast`. The file is written anew
after each row, so that a run that is cut short leaves what it has measured.
"""

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tests.benchmarks.bench_models import END, MAKERS, PAD, SETS, START, Size, make_batch

MODELS = ("mcsam", "uar")
DTYPES = {"fp32": None, "bf16": torch.bfloat16}
TURNS = ("encode", "decode", "generate", "train")  # train comes last: it changes the weights
ALONE = ("memory", "first_call")
FIELDS = ("model", "set", "what", "dtype", "batch", "ratio", "seconds", "reference_seconds", "unit")
Act = Callable[[], Any]


def autocast(dtype: str, device: str) -> AbstractContextManager:
    """What a call in this dtype runs under; nothing changes for fp32."""
    return torch.autocast(device, dtype=DTYPES[dtype], enabled=dtype != "fp32")


def write(model: Any, words: int, beams: int = 3, **inputs: Any) -> Tensor:
    """Reports of exactly this many words, (B, 1 + words): the end mark is suppressed until there."""
    special = {"decoder_start_token_id": START, "pad_token_id": PAD, "eos_token_id": END}
    lengths = {"min_new_tokens": words, "max_new_tokens": words}
    return model.generate(**inputs, **lengths, **special, num_beams=beams, do_sample=False)


def prepare(what: str, model: Any, inputs: dict[str, Tensor], dtype: str) -> Act:
    """The call that is timed; what it needs beforehand is done here."""
    films, device = inputs["pixel_values"], inputs["pixel_values"].device.type
    words = inputs["labels"].shape[1]
    model.train(what == "train")
    if what == "train":
        return prepare_training(model, inputs, dtype)
    with torch.no_grad(), autocast(dtype, device):
        encoded = model.get_encoder()(pixel_values=films) if what == "decode" else None

    def run() -> Any:
        with torch.no_grad(), autocast(dtype, device):
            if what == "encode":
                return model.get_encoder()(pixel_values=films)
            if what == "decode":  # a copy: generate() repeats a study's tensors for its beams in place
                return write(model, words, encoder_outputs=copy.copy(encoded))
            return write(model, words, pixel_values=films)

    return run


def prepare_training(model: Any, inputs: dict[str, Tensor], dtype: str) -> Act:
    """A training step on these films and reports."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def run() -> None:
        with autocast(dtype, inputs["labels"].device.type):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def clock(act: Act, device: str) -> float:
    """Seconds of one call, the card's work included."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    act()
    wait()
    return time.perf_counter() - begun


def take_turns(acts: dict[str, Act], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each act; they take turns, so that what else the machine does hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(repeats + 1):
        for name, act in acts.items():
            seconds[name].append(clock(act, device))
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def peak_memory(device: str) -> float:
    """MiB that this process, or PyTorch on the card, has held at most."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not `ru_maxrss`: a process inherits that of the one which started it.
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def measure_alone(
    side: str, name: str, size: Size, what: str, batch: int, dtype: str, threads: int, device: str
) -> float:
    """MiB of a training step, or seconds of the first `generate()`, of "ours" or the "reference"."""
    torch.set_num_threads(threads)
    model = MAKERS[side](name, size).to(device)
    act = prepare("train" if what == "memory" else "generate", model, make_batch(name, size, batch, device), dtype)
    seconds = clock(act, device)
    return peak_memory(device) if what == "memory" else seconds


def in_own_process(*case: Any) -> float:
    """`measure_alone`, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_alone, *case).result()


def measure_rows(given: argparse.Namespace, name: str, set_name: str, size: Size) -> Iterator[dict[str, Any]]:
    """The rows of one model and one set."""

    def rows(what: str, batch: int, found: dict[str, float]) -> Iterator[dict[str, Any]]:
        reference = found.pop("reference")
        for dtype, seconds in found.items():
            values = (name, set_name, what, dtype, batch, seconds / reference, seconds, reference)
            yield dict(zip(FIELDS, (*values, "MiB" if what == "memory" else "s"), strict=True))

    for what in (what for what in ALONE if what in given.what):  # before this process holds two models itself
        for batch in given.batches:
            case = (name, size, what, batch)
            found = {"reference": in_own_process("reference", *case, "fp32", given.threads, given.device)}
            for dtype in given.dtypes:
                found[dtype] = in_own_process("ours", *case, dtype, given.threads, given.device)
            yield from rows(what, batch, found)
    turns = [what for what in TURNS if what in given.what]
    # One of ours for each dtype: a model that changed it at every turn would fold its tables anew each time.
    sides = {"reference": "reference"} | dict.fromkeys(given.dtypes, "ours")
    models = {arm: MAKERS[side](name, size).to(given.device) for arm, side in sides.items()} if turns else {}
    for what in turns:
        for batch in given.batches:
            inputs = make_batch(name, size, batch, given.device)
            acts = {"reference": prepare(what, models["reference"], inputs, "fp32")}
            acts |= {dtype: prepare(what, models[dtype], inputs, dtype) for dtype in given.dtypes}
            yield from rows(what, batch, take_turns(acts, given.repeats, given.device))


def describe_machine(device: str) -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """All rows on stdout."""
    table = Table("model", "set", "what", "dtype", "batch", "ratio", "ours", "stock fp32", "unit")
    for row in rows:
        figures = [f"{row[name]:.3f}" for name in ("ratio", "seconds", "reference_seconds")]
        table.add_row(*(str(row[name]) for name in FIELDS[:5]), *figures, row["unit"])
    Console().print(table)


def bench(given: argparse.Namespace, sets: dict[str, Size] = SETS) -> dict[str, Any]:
    """Measure what is asked for and write it to `given.out`: `{"machine": facts, "settings": ..., "rows": [...]}`."""
    torch.set_num_threads(given.threads)
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    answer: dict[str, Any] = {"machine": describe_machine(given.device), "settings": settings, "rows": []}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for name in given.models:
        for set_name in given.sets:
            size = replace(sets[set_name], words=given.words or sets[set_name].words)
            for row in measure_rows(given, name, set_name, size):
                answer["rows"].append(row)
                given.out.write_text(json.dumps(answer, indent=1) + "\n")
                print("{model} {set} {what} {dtype} batch {batch}: {ratio:.3f}".format(**row), file=sys.stderr)
    return answer


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = [*TURNS, *ALONE]
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=list(SETS))
    parser.add_argument("--what", nargs="+", choices=what, default=what)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES), help="of ours")
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 1])
    parser.add_argument("--words", type=int, default=None, help="of a report, in place of the set's; cuts time")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


if __name__ == "__main__":
    print_table(bench(make_parser().parse_args())["rows"])
