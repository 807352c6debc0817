"""Phantom studies as a data set: drawn chests with known findings, their reports, labels and boxes.

The embedded data set of demo, tests and CI: no download, no licence, and only a model that looks at the images can
write its reports. Study i of a seed depends on (seed, i) alone, so a data set is bit-identical for a seed whatever the
number of processes, and a larger one begins with the studies of a smaller one. Different seeds share no study.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .habits import PHANTOM_HABITS
from .parts import open_whole
from .phantom_drawing import Film, draw_study
from .phantom_grammar import BLANK, UNITS, Finding, all_findings, sort_findings, write_report
from .studies import save_studies

NORMAL_SHARE = 0.35
MOST_FINDINGS = 4
ID_PREFIX = "phantom-"  # a data set is a phantom set iff its study ids begin so
_VIEWS = ("frontal", "lateral")
_HUFFMAN_ONLY = 2  # zlib strategy: noise has no repetitions to search for; smaller and twice as fast as the default


def write_phantoms(out: Path, studies: int, seed: int, processes: int | None = None) -> dict[str, int]:
    """Draw `studies` phantoms into the folder `out` and return how many went into each split.

    val and test get max(1, studies // 20) each, train the rest. Images are 224x224 8 bit grey PNGs under `out`/images.
    processes: how many draw at once, by default one a core; the result does not depend on it.
    Raises ValueError for `studies` < 3, a negative seed or a folder in use, NotADirectoryError where `out` is a file.
    """
    out = Path(out).absolute()
    _check_arguments(studies, seed, processes)
    splits = name_splits(studies)
    with open_whole(out) as whole:
        records = _draw_all(whole / "images", out / "images", splits, seed, processes or os.cpu_count() or 1)
        return save_studies(records, whole, PHANTOM_HABITS)


def name_splits(studies: int) -> list[str]:
    """The split of each study by its index: train first, then val, then test."""
    held_out = max(1, studies // 20)
    return ["train"] * (studies - 2 * held_out) + ["val"] * held_out + ["test"] * held_out


def study_random(seed: int, index: int) -> np.random.Generator:
    """The source of all chance in one study."""
    return np.random.default_rng([seed, index])


def choose_findings(rng: np.random.Generator) -> list[Finding]:
    """What a phantom has: nothing in `NORMAL_SHARE` of them, else 1 to 4 units drawn uniformly.

    Sizes and places are drawn until the findings leave each other visible, as in `can_be_seen`.
    """
    if rng.uniform() < NORMAL_SHARE:
        return []
    count = int(rng.integers(1, MOST_FINDINGS + 1))
    units = [UNITS[i].split("/") for i in rng.choice(len(UNITS), count, replace=False)]
    while True:
        findings = [_choose_finding(kind, side, rng) for kind, side in units]
        if can_be_seen(findings):
            return sort_findings(findings)


def can_be_seen(findings: Sequence[Finding]) -> bool:
    """Whether no finding hides another, so that the films show all that the report states.

    Fluid covers what lies low, free air takes the room at the apex, a large heart reaches over the left lung, a nodule
    drowns in a consolidation.
    """
    heart = next((one.size for one in findings if one.kind == "cardiomegaly"), BLANK)
    right, left = ({one.kind: one for one in findings if one.side == side} for side in ("right", "left"))
    return _side_can_be_seen(right, BLANK) and _side_can_be_seen(left, heart)


def _side_can_be_seen(found: dict[str, Finding], heart: str) -> bool:
    """`can_be_seen` for the findings of one side by kind; heart: the size of an enlarged heart in front of it."""
    lung = [found[kind] for kind in ("consolidation", "nodule") if kind in found]
    places = {one.place for one in lung}
    fluid = found["effusion"].size if "effusion" in found else BLANK
    collapse = found["pneumothorax"].size if "pneumothorax" in found else BLANK
    covered = {"moderate": {"lower"}, "large": {"lower", "middle"}}.get(fluid, set())
    if heart == "marked":
        covered = covered | {"lower", "middle"}
    beside_heart = heart == "mild" and any(one.place == "lower" and one.size != "small" for one in lung)
    return not (
        len(places) < len(lung)
        or covered & places
        or (collapse != BLANK and "upper" in places)
        or (collapse == fluid == "large")
        or beside_heart
        or ("fracture" in found and found["fracture"].place in covered)
    )


def _choose_finding(kind: str, side: str, rng: np.random.Generator) -> Finding:
    """One of the findings of a unit, all equally likely."""
    choices = [finding for finding in all_findings(kind) if finding.side == side]
    return choices[int(rng.integers(len(choices)))]


def draw_record(folder: Path, home: Path, seed: int, study: tuple[int, str]) -> dict:
    """Draw one study (index, split) and return its record. Films are saved in `folder`, recorded as in `home`."""
    index, split = study
    rng = study_random(seed, index)
    findings = choose_findings(rng)
    report = write_report(findings, rng)
    films = draw_study(findings, rng)
    name = f"{ID_PREFIX}{seed}-{index:06d}"
    files = [f"{name}_{view}.png" for view in _VIEWS]
    for file, film in zip(files, films, strict=True):
        Image.fromarray(film.pixels).save(folder / file, compress_type=_HUFFMAN_ONLY)
    return {
        "study_id": name,
        "split": split,
        "images": [str(home / file) for file in files],
        "views": list(_VIEWS),
        "findings": report,
        "labels": label_rows(findings, films),
    }


def label_rows(findings: Sequence[Finding], films: Sequence[Film]) -> list[dict]:
    """One row for each finding and view that shows it: name, index of the image, box in its pixels."""
    return [
        {"name": finding.name, "image": image, "box": film.boxes[finding]}
        for finding in findings
        for image, film in enumerate(films)
        if finding in film.boxes
    ]


def _check_arguments(studies: int, seed: int, processes: int | None) -> None:
    if studies < 3:
        raise ValueError(f"`studies` must be at least 3, one for each of train, val and test. Got {studies}.")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or more. Got {seed}.")
    if processes is not None and processes < 1:
        raise ValueError(f"`processes` must be at least 1, or None for one a core. Got {processes}.")


def _draw_all(folder: Path, home: Path, splits: Sequence[str], seed: int, processes: int) -> list[dict]:
    """All study records in the order of their index, with a progress bar on stderr."""
    columns = (TextColumn("drawing phantoms"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        with _mapper(min(processes, len(splits))) as run:
            drawn = run(partial(draw_record, folder, home, seed), list(enumerate(splits)))
            return list(progress.track(drawn, total=len(splits)))


@contextmanager
def _mapper(processes: int) -> Iterator:
    """An ordered, lazy map: in this process, or over a pool of several."""
    if processes == 1:
        yield map
    else:
        with multiprocessing.Pool(processes) as pool:
            yield partial(pool.imap, chunksize=8)
