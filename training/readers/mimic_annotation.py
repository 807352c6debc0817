"""MIMIC-CXR by R2Gen's `annotation.json`: its reports, its split and the paths below SRC/files or SRC/images.

A row is one report with one image or more; R2Gen trains on the first, a model here on as many as it has views. Rows of
one study (its images apart) stay rows, by the `id` that R2Gen gives them, so that its 3,858 test rows are 3,858 here.
The file is read whole: some hundred MB of JSON, as R2Gen reads it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .r2gen import FILE, read_r2gen
from .source import BrokenStudy, SourceStudy, count_or_raise, usable_studies
from .studies import Tally, refuse_used_folder, save_studies


def has_annotation(src: Path) -> bool:
    """Whether SRC holds R2Gen's file."""
    return (src / FILE).is_file()


def prepare_annotation(src: Path, out: Path, skip_broken: bool) -> dict[str, Any]:
    """Turn SRC/annotation.json into a data set at `out`. Images are not opened; that each file is there is checked.

    Raises:
        ValueError: a broken row or a missing image, unless `skip_broken`; no row that can be used.
    """
    refuse_used_folder(out)
    tally = Tally()
    folder = src / ("files" if (src / "files").is_dir() else "images")
    studies = usable_studies(read_r2gen(src, folder), tally, "findings", skip_broken)
    records = list(_records(studies, tally, skip_broken))
    if not records:
        skipped = tally.skipped_in_words() or "it is empty"
        raise ValueError(f"{src / FILE} holds no row that can be used ({skipped}).")
    save_studies(records, out)
    tally.show(f"{src.name} (R2Gen) -> {out}")
    return tally.as_dict() | {"layout": "R2Gen", "out": str(out)}


def _records(studies: Iterable[SourceStudy], tally: Tally, skip_broken: bool) -> Iterator[dict[str, Any]]:
    for study in studies:
        missing = next((path for path in study.paths if not path.is_file()), None)
        if missing is not None:
            broken = BrokenStudy("missing image", f"{study.where} names an image that does not exist: {missing}.")
            count_or_raise(broken, tally, skip_broken)
            continue
        tally.keep(study.record["split"])
        yield study.record | {"images": [str(path) for path in study.paths]}
