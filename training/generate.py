"""`radscribe generate`: reports for image files, or for a split of a prepared data set."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from .build import load_checkpoint
from .data import StudyFilms, collate_with, shuffled_films, single_films
from .readers.studies import load_studies


def generate(
    images: list[Path],
    dataset: Path | None,
    split: str,
    shuffle_images: int | None,
    model: str,
    out: Path | None,
    batch_size: int = 32,
    workers: int = 1,
) -> list[dict[str, str]]:
    """Write reports and return them as `{"id", "report"}`; with `out` also as JSON lines, written as they come.

    Args:
        images: files, the views of one study.
        dataset, split: studies of a prepared data set, instead of `images`.
        shuffle_images: seed; every study gets the films of another one (the exam's control).
        model: a run's folder or a Hub name.

    Raises:
        ValueError: neither or both of images and a data set, or what the loaders say.
    """
    if bool(images) == (dataset is not None):
        raise ValueError("Give either image files (the views of one study) or `--dataset DIR`.")
    if dataset is None and shuffle_images is not None:
        raise ValueError("`--shuffle-images` swaps films between the studies of a `--dataset`. Got image files.")
    if out is not None and out.is_dir():
        raise IsADirectoryError(f"`--out` must be a file to write. Got the folder `{out}`.")
    studies = load_studies(dataset, split) if dataset is not None else single_films(images)
    if shuffle_images is not None:
        studies = shuffled_films(studies, shuffle_images)
    network, processor = load_checkpoint(model)
    if len(images) > network.config.max_views:
        raise ValueError(
            f"Give at most {network.config.max_views} images: so many views this model takes. Got {len(images)}."
        )
    loader = torch.utils.data.DataLoader(
        StudyFilms(studies),
        batch_size=batch_size,
        collate_fn=collate_with(processor, network.config.max_views),
        num_workers=workers if len(studies) > batch_size else 0,
    )
    results: list[dict[str, str]] = []
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") if out is not None else nullcontext() as file:
        for name, report in zip(studies["study_id"], _write_reports(network, processor, loader), strict=True):
            results.append({"id": name, "report": report})
            if file is not None:
                file.write(json.dumps(results[-1]) + "\n")
    return results


@torch.inference_mode()
def _write_reports(network: Any, processor: Any, loader: Any) -> Iterator[str]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device).eval()
    batches = track(loader, "writing reports", console=Console(stderr=True), disable=len(loader) < 2)
    for batch in batches:
        ids = network.generate(pixel_values=batch["pixel_values"].to(device), view_mask=batch["view_mask"].to(device))
        yield from processor.batch_decode(ids)
