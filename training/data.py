"""Studies as the models take them: films read from their files, augmented in training, collated by the processor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from transformers import ProcessorMixin

from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.image_processing_cxr import CXRImageProcessor, read_grey


class StudyFilms(torch.utils.data.Dataset):
    """One item a study: `{"images": films, "text": findings}`; films are Pillow images.

    Args:
        studies: study records.
        augmentation: change of each film, anew each time it is read.
        keep: hold each film in memory (of each worker) as this processor fits it, at the model's size and before
            augmentation; None reads the file each time.
    """

    def __init__(
        self,
        studies: datasets.Dataset,
        augmentation: CXRAugmentation | None = None,
        keep: CXRImageProcessor | None = None,
    ) -> None:
        # Plain lists: a row of an Arrow table costs more than the film's decoding.
        self.paths: list[list[str]] = list(studies["images"])
        self.findings: list[str] = list(studies["findings"])
        self.augmentation = augmentation
        self.keep = keep
        self.kept: dict[str, Image.Image] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        films = [self.read(path) for path in self.paths[index]]
        if self.augmentation is not None:
            # Torch seeds its generator anew for each worker and epoch, so films differ and runs repeat.
            rng = np.random.default_rng(int(torch.randint(2**31, ()).item()))
            films = [self.augmentation(film, rng) for film in films]
        return {"images": films, "text": self.findings[index]}

    def read(self, path: str) -> Image.Image:
        """One film, from memory where films are kept."""
        if self.keep is None:
            return read_grey(path)
        if path not in self.kept:
            self.kept[path] = self.keep.fit_film(path)
        return self.kept[path]


class StudyTokens(torch.utils.data.Dataset):
    """One item a study: `{"visual_ids": (V, L) token ids, "text": findings}`; its films were tokenised before.

    A frozen tokenizer gives the same ids for the same film, so nothing but ids is needed while training. Augmented
    films are kept in several versions, of which each visit takes one at random.

    Args:
        ids: of each study (copies, V, L), see `tokenize_films`.
        findings: of each study.
    """

    def __init__(self, ids: list[torch.Tensor], findings: list[str]) -> None:
        self.ids, self.findings = ids, findings

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        copies = self.ids[index]
        # Nothing is drawn of a single copy: a run that is resumed then ends like one that was not cut off.
        choice = int(torch.randint(len(copies), ())) if len(copies) > 1 else 0
        return {"visual_ids": copies[choice], "text": self.findings[index]}


def tokenize_films(
    films: StudyFilms, tokenize: Callable, collate: Callable, device: torch.device, copies: int = 1, workers: int = 0
) -> list[torch.Tensor]:
    """Token ids of each study's films, as often as `copies` says (augmented anew): int32 (copies, V, L) a study.

    Args:
        films: the studies.
        tokenize: (B, V, C, H, W), (B, V) -> ids (B, V, L).
        collate: the collator of films.
        device: where `tokenize` computes.
        workers: processes that read films meanwhile.
    """
    rounds = [index for _ in range(copies) for index in range(len(films))]  # in one pass: workers keep their films
    loader = torch.utils.data.DataLoader(films, 32, sampler=rounds, collate_fn=collate, num_workers=workers)
    ids: list[torch.Tensor] = []
    for batch in track(loader, "films to tokens", console=Console(stderr=True)):
        mask = batch["view_mask"]
        found = tokenize(batch["pixel_values"].to(device), mask.to(device)).to("cpu", torch.int32)
        ids += [row[valid.bool()] for row, valid in zip(found, mask, strict=True)]
    return [torch.stack(ids[index :: len(films)]) for index in range(len(films))]


def collate_with(processor: ProcessorMixin, max_views: int) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A collator: studies to `pixel_values` (B, V, C, H, W), `view_mask` (B, V) and `labels` (B, T).

    Studies of `StudyTokens` give `visual_ids` (B, V, L) in place of pixels.
    A study with more films than the model takes gives its first `max_views`, in the order of its record.
    """

    def collate(studies: list[dict[str, Any]]) -> dict[str, Any]:
        text = [study["text"] for study in studies]
        if "visual_ids" in studies[0]:
            return _stack_ids([study["visual_ids"] for study in studies]) | processor(text=text, return_tensors="pt")
        films = [study["images"][:max_views] for study in studies]
        return dict(processor(images=films, text=text, return_tensors="pt"))

    return collate


def _stack_ids(studies: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Ids of B studies (V, L), each with its V -> `visual_ids` (B, V, L), padded with 0, and `view_mask` (B, V)."""
    ids = torch.nn.utils.rnn.pad_sequence(studies, batch_first=True).long()
    views = torch.tensor([len(study) for study in studies])
    return {"visual_ids": ids, "view_mask": (torch.arange(ids.shape[1]) < views[:, None]).long()}


def shuffled_films(studies: datasets.Dataset, seed: int) -> datasets.Dataset:
    """The control of an exam: every study gets the films of another one, none its own.

    Raises:
        ValueError: fewer than two studies.
    """
    if len(studies) < 2:
        raise ValueError(f"`--shuffle-images` needs at least two studies to swap films. Got {len(studies)}.")
    order = np.random.default_rng(seed).permutation(len(studies))
    # One step along a random circle: a permutation without fixed points.
    source = np.empty(len(studies), dtype=int)
    source[order] = np.roll(order, 1)
    films, views = list(studies["images"]), list(studies["views"])
    shuffled = studies.remove_columns(["images", "views"])
    shuffled = shuffled.add_column("images", [films[i] for i in source])
    return shuffled.add_column("views", [views[i] for i in source])


def single_films(paths: list[Path]) -> datasets.Dataset:
    """Files named on the command line as one study of several views.

    Raises:
        FileNotFoundError, ValueError: what `read_grey` says of a file that is no film.
    """
    for path in paths:
        read_grey(path)
    record = {"study_id": [paths[0].stem], "images": [[str(path) for path in paths]], "findings": [""]}
    return datasets.Dataset.from_dict(record)
