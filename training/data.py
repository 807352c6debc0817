"""Studies as the models take them: films read from their files, augmented in training, collated by the processor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from transformers import ProcessorMixin

from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.image_processing_cxr import CXRImageProcessor, read_grey
from ..processing.study_files import open_study, study_name


class StudyFilms(torch.utils.data.Dataset):
    """One item a study: `{"images": films, "text": findings}`; films are Pillow images.

    Args:
        studies: study records.
        augmentation: change of each film, anew each time it is read.
        keep: hold each film in memory (of each worker) as this processor fits it, at the model's size and before
            augmentation; None reads the file each time.
        shrink: longest side in pixels of a film that is augmented; a larger one is shrunk to it first. Turning the
            eight million pixels of a hospital's film takes five times as long as reading them.
    """

    def __init__(
        self,
        studies: datasets.Dataset,
        augmentation: CXRAugmentation | None = None,
        keep: CXRImageProcessor | None = None,
        shrink: int | None = None,
    ) -> None:
        # Plain lists: a row of an Arrow table costs more than the film's decoding.
        self.paths: list[list[Any]] = list(studies["images"])  # str, or bytes of files (`single_films`)
        self.findings: list[str] = list(studies["findings"])
        self.augmentation = augmentation
        self.keep = keep
        self.shrink = shrink
        self.kept: dict[str | bytes, Image.Image] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        films = [self.read_film(index, view) for view in range(len(self.paths[index]))]
        return {"images": films, "text": self.findings[index]}

    def read_film(self, index: int, view: int) -> Image.Image:
        """One view of a study, augmented anew each time."""
        film = self.read(self.paths[index][view])
        if self.augmentation is None:
            return film
        # Torch seeds its generator anew for each worker and epoch, so films differ and runs repeat.
        random = np.random.default_rng(int(torch.randint(2**31, ()).item()))
        return vary_film(film, self.augmentation, self.shrink, random)

    def read(self, path: str | bytes) -> Image.Image:
        """One film, from memory where films are kept."""
        if self.keep is None:
            return read_grey(path)
        if path not in self.kept:
            self.kept[path] = self.keep.fit_film(path)
        return self.kept[path]


def vary_film(
    film: Image.Image, augmentation: CXRAugmentation, shrink: int | None, random: np.random.Generator
) -> Image.Image:
    """An augmented film, shrunk before where it is larger than need be; the film given may be changed."""
    if shrink is not None and max(film.size) > shrink:
        film.thumbnail((shrink, shrink), Image.Resampling.BILINEAR)
    return augmentation(film, random)


def collate_with(processor: ProcessorMixin, max_views: int) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A collator: studies to `pixel_values` (B, V, C, H, W), `view_mask` (B, V) and `labels` (B, T).

    Studies whose films were read before (film_cache.py) give `visual_ids` or `visual_features` (B, V, ...) in place of
    pixels.
    A study with more films than the model takes gives its first `max_views`, in the order of its record. Known
    `observations` (B, L) go along.
    """

    def collate(studies: list[dict[str, Any]]) -> dict[str, Any]:
        if "observations" in studies[0]:
            return read(studies) | {"observations": torch.stack([study["observations"] for study in studies])}
        return read(studies)

    def read(studies: list[dict[str, Any]]) -> dict[str, Any]:
        text = [study["text"] for study in studies]
        for name in ("visual_ids", "visual_features"):
            if name in studies[0]:
                words = processor(text=text, return_tensors="pt")
                return _stack_views(name, [study[name] for study in studies]) | dict(words)
        films = [study["images"][:max_views] for study in studies]
        return dict(processor(images=films, text=text, return_tensors="pt"))

    return collate


def _stack_views(name: str, studies: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Answers of B studies (V, ...), each with its V -> `name` (B, V, ...), padded with 0, and `view_mask` (B, V)."""
    stacked = torch.nn.utils.rnn.pad_sequence(studies, batch_first=True)
    views = torch.tensor([len(study) for study in studies])
    mask = (torch.arange(stacked.shape[1]) < views[:, None]).long()
    return {name: stacked if stacked.is_floating_point() else stacked.long(), "view_mask": mask}


def load_films(
    network: Any, processor: ProcessorMixin, batch_size: int, workers: int, studies: datasets.Dataset
) -> Any:
    """Batches of the studies' films as this model takes them; a few are read without another process."""
    return torch.utils.data.DataLoader(
        StudyFilms(studies),
        batch_size=batch_size,
        collate_fn=collate_with(processor, network.config.max_views),
        num_workers=workers if len(studies) > batch_size else 0,
    )


def encode_films(network: Any, batch: dict[str, Any]) -> Any:
    """What the model's encoder makes of a batch of films."""
    films, view_mask = (batch[name].to(network.device) for name in ("pixel_values", "view_mask"))
    return network.get_encoder()(films, view_mask=view_mask)


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
    """What was named on the command line (files, folders, zips) as one study of several views.

    Its `images` are paths, or the bytes of all files where some lie in a zip, which is never unpacked to disk; `where`
    is how a message names each.

    Raises:
        FileNotFoundError, ImportError, ValueError: what `open_study` says, and `read_grey` of a film.
    """
    films = open_study(paths)
    for film in films:
        read_grey(film.film, film.where)
    images: list[str | bytes] = [film.film if isinstance(film.film, bytes) else str(film.film) for film in films]
    if any(isinstance(image, bytes) for image in images):  # a table's column has one type
        images = [image if isinstance(image, bytes) else Path(image).read_bytes() for image in images]
    record = {"study_id": [study_name(paths[0])], "images": [images], "views": [[film.view for film in films]]}
    return datasets.Dataset.from_dict(record | {"findings": [""], "where": [[film.where for film in films]]})
