"""`radscribe generate`: reports for image files, or for a split of a prepared data set, by any number of processes."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import track

from .build import load_checkpoint
from .data import load_films, shuffled_films, single_films
from .facts import TrainingFacts
from .film_domain import films_heard, strange_line
from .neighbours import embed_films, nearest_rows
from .processes import this_process
from .readers.studies import load_studies
from .report_parts import ReportParts, files_of


def generate(
    images: list[Path],
    dataset: Path | None,
    split: str,
    shuffle_images: int | None,
    model: str,
    out: Path | None,
    nearest_neighbour: bool = False,
    bf16: bool = False,
    batch_size: int = 32,
    workers: int = 1,
) -> list[dict[str, str]]:
    """Write reports and return them as `{"id", "report"}`; with `out` also as JSON lines.

    Launched as several processes (torchrun, `accelerate launch`), each writes its share of the studies; all return
    all reports. A split's reports are kept as they come, and a call that was killed is gone on with (report_parts.py).

    Args:
        images: image or DICOM files, folders or zips of them: the views of one study (study_files.py).
        dataset, split: studies of a prepared data set, instead of `images`.
        shuffle_images: seed; every study gets the films of another one (the exam's control).
        model: a run's folder or a Hub name.
        bf16: compute in half precision: faster where the machine has it, and now and then another word.
        nearest_neighbour: give the report of the nearest training study in place of a written one (neighbours.py).

    Raises:
        ValueError: neither or both of images and a data set, or what the loaders say.
    """
    _check_arguments(images, dataset, shuffle_images, out, nearest_neighbour)
    asked: dict[str, Any] = {"model": model, "its files": files_of(model), "dataset": str(dataset), "split": split}
    asked |= {"its studies": files_of(dataset / split) if dataset is not None else []}
    asked |= {"shuffle_images": shuffle_images, "nearest_neighbour": nearest_neighbour, "bf16": bf16}
    studies = load_studies(dataset, split) if dataset is not None else single_films(images)
    if shuffle_images is not None:
        studies = shuffled_films(studies, shuffle_images)
    training = _load_training(dataset, split) if dataset is not None and nearest_neighbour else None
    network, processor = load_checkpoint(model)
    if dataset is None:
        _check_views(len(studies[0]["images"]), network.config.max_views)
    network = network.to(this_process().device).eval()
    load = partial(load_films, network, processor, batch_size, workers)

    def answer(asked_for: datasets.Dataset) -> Iterator[str]:
        if training is not None:
            return _find_reports(network, load(training), load(asked_for), training)
        return _write_reports(network, processor, load(asked_for))

    facts = TrainingFacts.load(model) if training is None else None
    names = studies[0]["where"] if dataset is None else []
    with torch.autocast(network.device.type, torch.bfloat16, enabled=bf16), _warning(network, facts, names):
        if out is not None and dataset is not None:
            return _share(studies, answer, out, asked)
        reports = zip(studies["study_id"], answer(studies), strict=True)
        rows = [{"id": name, "report": report} for name, report in reports]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


@contextmanager
def _warning(network: Any, facts: TrainingFacts | None, names: list[str]) -> Iterator[None]:
    """Say at the end, on stderr, which of the films that were read look unlike the training films.

    Args:
        names: of the one study's films; none for a data set.
    """
    if facts is None or facts.films is None:
        yield
        return
    domain, found = facts.films, list[float]()
    with films_heard(network, lambda features: found.extend(domain.strangeness(features).tolist())):
        yield
    found = gather_object(found)
    line = strange_line(found, names)
    if line and this_process().is_main_process:
        print(line, file=sys.stderr)


def _check_arguments(
    images: list[Path], dataset: Path | None, shuffle_images: int | None, out: Path | None, nearest_neighbour: bool
) -> None:
    """Raise for arguments that contradict each other, before anything is loaded."""
    if bool(images) == (dataset is not None):
        raise ValueError("Give either image files (the views of one study) or `--dataset DIR`.")
    if dataset is None and shuffle_images is not None:
        raise ValueError("`--shuffle-images` swaps films between the studies of a `--dataset`. Got image files.")
    if dataset is None and nearest_neighbour:
        raise ValueError("`--nearest-neighbour` looks among the training studies of a `--dataset`. Got image files.")
    if shuffle_images is not None and nearest_neighbour:
        raise ValueError("`--shuffle-images` and `--nearest-neighbour` are two answers: make a file of each.")
    if this_process().num_processes > 1 and (out is None or dataset is None):
        raise ValueError("Several processes write the studies of a `--dataset` to one file: name it by `--out`.")
    if out is not None and out.is_dir():
        raise IsADirectoryError(f"`--out` must be a file to write. Got the folder `{out}`.")


def _check_views(given: int, most: int) -> None:
    """Raise for more films of one study than the model takes: which to leave out is not ours to choose."""
    if given > most:
        raise ValueError(f"Give at most {most} images: so many views this model takes. Got {given}.")


def _load_training(dataset: Path, split: str) -> datasets.Dataset:
    """The training studies that have a report to give."""
    if split == "train":
        raise ValueError("`--nearest-neighbour` would find each training study itself: name another split.")
    training = load_studies(dataset, "train")
    kept = [row for row, text in enumerate(training["findings"]) if text.strip()]
    if not kept:
        raise ValueError(f"No training study of {dataset} has findings to give.")
    return training.select(kept)


def _find_reports(network: Any, known: Any, asked: Any, training: datasets.Dataset) -> Iterator[str]:
    """The report of the nearest training study, a study."""
    rows = nearest_rows(embed_films(network, asked), embed_films(network, known))
    findings = list(training["findings"])
    yield from (findings[row] for row in rows.tolist())


@torch.inference_mode()
def _write_reports(network: Any, processor: Any, loader: Any) -> Iterator[str]:
    batches = track(loader, "writing reports", console=Console(stderr=True), disable=len(loader) < 2)
    for batch in batches:
        films = {name: batch[name].to(network.device) for name in ("pixel_values", "view_mask")}
        yield from processor.batch_decode(network.generate(**films))


def _share(
    studies: datasets.Dataset, answer: Callable[[datasets.Dataset], Iterator[str]], out: Path, asked: dict[str, Any]
) -> list[dict[str, str]]:
    """This process's share of what no call has written yet; then, on the main process, the merged file."""
    state, names = this_process(), list(studies["study_id"])
    parts = ReportParts(out, asked, state.process_index)
    if parts.done:
        print(f"Going on: {len(parts.done):,} of {len(names):,} reports were written before.", file=sys.stderr)
    state.wait_for_everyone()  # all have seen the same parts before one adds to them
    left = [row for row, name in enumerate(names) if name not in parts.done][
        state.process_index :: state.num_processes
    ]
    if left:
        mine = studies.select(left)
        parts.add(mine["study_id"], answer(mine))
    state.wait_for_everyone()
    if state.is_main_process:
        parts.merge(names)
    state.wait_for_everyone()
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
