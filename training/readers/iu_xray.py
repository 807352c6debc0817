"""`radscribe prepare iu-xray`: IU X-ray (Demner-Fushman et al., JAMIA 2016) from any of its public layouts.

Recognised by what lies in SRC: `studies.jsonl` (plain.py, also one's own studies), R2Gen's `annotation.json`
(r2gen.py), Kaggle's `indiana_reports.csv` (kaggle.py), Open-i's XML files (open_i.py). The last two have no split of
their own: `split_from` takes the published one out of R2Gen's annotation, else studies are split by a seed. IU X-ray
has no official split, so only figures on R2Gen's compare with published ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import kaggle, plain, r2gen
from .habits import IU_HABITS, OWN_HABITS
from .open_i import read_open_i, report_files
from .parts import open_whole
from .source import TARGETS, BrokenStudy, SourceStudy, finish_studies, usable_studies
from .studies import Tally, save_studies

Reader = Callable[[Path], Iterator[SourceStudy | BrokenStudy]]
WITH_SPLIT = ("plain", "R2Gen")  # layouts that state a split themselves
SHARES = {"train": 0.7, "val": 0.1}  # of the studies; test gets the rest


def find_layout(src: Path, with_split: bool = True) -> tuple[str, Reader]:
    """The name of the layout that `src` has and its reader; the first one where several lie there.

    Without `with_split` the layouts that state a split are passed over: the user names one to take.

    Raises:
        FileNotFoundError, NotADirectoryError: `src` is missing, a file, or none of the layouts.
    """
    if not src.exists():
        raise FileNotFoundError(f"SRC must be a folder. {src} does not exist.")
    if not src.is_dir():
        raise NotADirectoryError(f"SRC must be a folder. Got the file {src}; name its folder.")
    files: dict[str, tuple[str, Reader]] = {
        plain.FILE: ("plain", plain.read_plain),
        r2gen.FILE: ("R2Gen", r2gen.read_r2gen),
        kaggle.REPORTS: ("Kaggle", kaggle.read_kaggle),
    }
    found = [layout for file, layout in files.items() if (src / file).is_file()]
    if report_files(src):
        found.append(("Open-i", read_open_i))
    if not with_split:
        found = [layout for layout in found if layout[0] not in WITH_SPLIT] or found
    if len(found) > 1:
        print(f"{src} holds {', '.join(name for name, _ in found)}: read as {found[0][0]}", file=sys.stderr)
    if found:
        return found[0]
    raise FileNotFoundError(f"SRC must hold {', '.join(files)} or Open-i's XML files. {src} has none of them.")


def prepare_iu_xray(
    src: Path,
    out: Path,
    skip_broken: bool = False,
    target: str = "findings",
    split_from: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Turn the studies at `src` into a data set of study records at `out` (new, empty, or of a call that was killed).

    Shows progress and a closing table of kept and skipped studies on stderr. A broken study (bad line, bad XML, a
    missing or unreadable image, none at all, a repeated id) ends it with one line; `skip_broken` counts them instead.

    Args:
        target: what the model is to write, one of `TARGETS`; it stands under `findings` in the records.
        split_from: R2Gen's annotation.json, for a layout without a split; a study that is not in it becomes `extra`.
        seed: of the split by study, where there is none.

    Returns {"kept": {split: n}, "skipped": {reason: n}, "layout", "restored_images": n, "out": str}.
    """
    src, out = Path(src), Path(out).absolute()
    if target not in TARGETS:
        raise ValueError(f"`target` must be one of {', '.join(TARGETS)}. Got {target!r}.")
    layout, read = find_layout(src, with_split=split_from is None)
    tally = Tally()
    with open_whole(out) as whole:
        studies = list(usable_studies(read(src), tally, target, skip_broken))
        _give_splits(studies, layout, split_from, seed)
        records, restored = finish_studies(studies, whole / "images", out / "images", tally, skip_broken)
        if not records:
            skipped = tally.skipped_in_words() or "it is empty"
            raise ValueError(f"{src} holds no study that can be used ({skipped}).")
        # Our own layout carries anybody's studies; the public ones are IU X-ray's.
        save_studies(records, whole, OWN_HABITS if layout == "plain" else IU_HABITS)
        if not restored:
            (whole / "images").rmdir()
    for record in records:
        tally.keep(record["split"])
    tally.show(f"{src.name} ({layout}) -> {out}")
    return tally.as_dict() | {"layout": layout, "restored_images": restored, "out": str(out)}


def _give_splits(studies: list[SourceStudy], layout: str, split_from: Path | None, seed: int) -> None:
    """Put each study of a layout without splits into one, and say on stderr which split that is."""
    has_own = layout in WITH_SPLIT
    if has_own and split_from is not None:
        raise ValueError(f"`split_from` is for sources without a split; {layout} states its own. Leave it out.")
    if has_own:
        return
    names = [study.record["study_id"] for study in studies]
    splits = split_by_seed(names, seed) if split_from is None else r2gen.read_split(Path(split_from))
    for study in studies:
        study.record["split"] = splits.get(study.record["study_id"], "extra")
    if split_from is None:
        print(
            f"split: 70/10/20 by study, seed {seed}; no published figure is on it (--split-from annotation.json)",
            file=sys.stderr,
        )


def split_by_seed(names: list[str], seed: int) -> dict[str, str]:
    """70/10/20 of the studies, drawn by `seed`; the order of `names` does not matter."""
    shuffled = np.random.default_rng(seed).permutation(sorted(names))
    train, val = (round(len(names) * share) for share in (SHARES["train"], SHARES["train"] + SHARES["val"]))
    splits = ["train"] * train + ["val"] * (val - train) + ["test"] * (len(names) - val)
    return dict(zip(shuffled.tolist(), splits, strict=True))
