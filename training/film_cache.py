"""What a frozen film reader (a visual backbone or an image tokenizer) says of each training film, kept on disk.

A frozen reader gives the same answer for the same pixels, so a film is read once and not at every step; augmented
films are kept in several versions, of which each visit takes one at random. The folder's name is a digest of all that
an answer depends on: the reader's weights, the preprocessing, the augmentation, the films' files. Answers lie in parts
that are written whole or not at all, so a call that was cut off goes on, and another run of the same films finds them.

Shapes: F films, R versions, V views of a study; an answer is (L,) token ids, or features (C, h, w) or (N, C).
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from .data import StudyFilms
from .readers.parts import write_whole

PART = 512  # films a file
BATCH = 32  # films the reader gets at once


class ReadFilms(torch.utils.data.Dataset):
    """One item a study: `{name: (V, ...) answers of its films, "text": findings}`.

    Args:
        answers: of all versions of all films, in parts of one length: row r * F + f is version r of film f.
        studies: the studies' films, in the order of the rows.
        max_views: films of a study that were read, at most.
        copies: R.
        name: "visual_ids" or "visual_features", as the model's encoder takes them.
    """

    def __init__(self, answers: list[np.ndarray], studies: StudyFilms, max_views: int, copies: int, name: str) -> None:
        self.answers, self.copies, self.name = answers, copies, name
        self.part = len(answers[0])
        self.findings = studies.findings
        views = [min(len(paths), max_views) for paths in studies.paths]
        self.starts = np.cumsum([0, *views])

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # Nothing is drawn of a single copy: a run that is resumed then ends like one that was not cut off.
        version = int(torch.randint(self.copies, ())) if self.copies > 1 else 0
        first = version * int(self.starts[-1])
        rows = range(first + self.starts[index], first + self.starts[index + 1])
        films = np.stack([self.answers[row // self.part][row % self.part] for row in rows])
        return {self.name: torch.from_numpy(films), "text": self.findings[index]}


def read_films(
    studies: StudyFilms,
    read: Callable[[Tensor], Tensor],
    prepare: Callable[[list], Tensor],
    folder: Path,
    max_views: int,
    copies: int,
    workers: int,
) -> list[np.ndarray]:
    """Answers of all versions of all films, parts of up to PART rows, memory-mapped; missing ones are made first.

    Args:
        read: films (n, C, H, W) -> answers (n, ...).
        prepare: images -> (n, C, H, W).
        folder: of these answers, see `cache_key`.
        workers: processes that read and prepare films meanwhile.
    """
    films = _Films(studies, max_views)
    total = copies * len(films)
    files = [folder / f"part-{number:05d}.npy" for number in range(-(-total // PART))]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row for number in missing for row in range(number * PART, min((number + 1) * PART, total))]
        loader = torch.utils.data.DataLoader(
            films, BATCH, sampler=[row % len(films) for row in rows], collate_fn=prepare, num_workers=workers
        )
        answers = _answer(loader, read)
        for number in missing:
            part = np.stack([next(answers) for _ in range(min(PART, total - number * PART))])
            write_whole(files[number], lambda path, part=part: _save(path, part))  # type: ignore[misc]
        size = sum(file.stat().st_size for file in files) / 2**20
        print(f"films read once: {folder} ({size:.0f} MB; remove it when you like)", file=sys.stderr)
    return [np.load(file, mmap_mode="r") for file in files]


def _save(path: Path, part: np.ndarray) -> None:
    with path.open("wb") as file:  # given a name, numpy would change its ending
        np.save(file, part)


@torch.inference_mode()
def _answer(loader: Any, read: Callable[[Tensor], Tensor]) -> Iterator[np.ndarray]:
    """One answer a film: ids as int32, features as fp16."""
    for films in track(loader, "reading films once", console=Console(stderr=True)):
        answers = read(films)
        yield from answers.to(torch.float16 if answers.is_floating_point() else torch.int32).cpu().numpy()


class _Films(torch.utils.data.Dataset):
    """The studies' films one by one, augmented anew each time where the studies are."""

    def __init__(self, studies: StudyFilms, max_views: int) -> None:
        self.studies = studies
        self.places = [(i, v) for i, paths in enumerate(studies.paths) for v in range(min(len(paths), max_views))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        return self.studies.read_film(*self.places[index])


def cache_key(reader: torch.nn.Module, studies: StudyFilms, settings: dict[str, Any]) -> str:
    """A digest of the reader's weights, of `settings` (JSON) and of the films' paths, sizes and times of change."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in reader.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    for path in dict.fromkeys(path for paths in studies.paths for path in paths):
        found = Path(path).stat()
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
