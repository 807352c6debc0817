"""Prepares the layouts of `iu_layouts` and says whether every reader gives the records of the plain format.

    python -m tests.tools.compare_layouts SRC OUT

A layout is compared in what it can carry: Open-i's XML names no view, R2Gen's file holds the findings alone. Films are
compared by the file that they are.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.studies import load_splits

from .iu_layouts import write_layouts

NOT_CARRIED = {
    "open_i": {"views"},
    "kaggle": set(),
    "r2gen": {"views", "impression", "indication", "comparison", "labels"},
}


def records(folder: Path, without: set[str]) -> dict[str, dict[str, Any]]:
    """Every record by its id, images as the files they really are."""
    rows = (row for split in load_splits(folder).values() for row in split)
    kept = ({key: value for key, value in row.items() if key not in without} for row in rows)
    return {row["study_id"]: row | {"images": [os.path.realpath(path) for path in row["images"]]} for row in kept}


def compare(src: Path, out: Path) -> dict[str, dict[str, int]]:
    """For each layout: studies, how many are equal, how many the plain format has and it lacks, and the reverse."""
    write_layouts(src, out / "layouts")
    plain = out / "plain"
    plain.mkdir()
    # Without `orig_size` no film is redrawn: the same files everywhere.
    studies = [json.loads(line) for line in (src / "studies.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({key: value for key, value in study.items() if key != "orig_size"}) for study in studies]
    (plain / "studies.jsonl").write_text("\n".join(lines) + "\n")
    (plain / "images").symlink_to((src / "images").absolute())
    prepare_iu_xray(plain, out / "data_plain")
    result = {}
    for layout, without in NOT_CARRIED.items():
        split_from = None if layout == "r2gen" else out / "layouts" / "r2gen" / "annotation.json"
        prepare_iu_xray(out / "layouts" / layout, out / f"data_{layout}", split_from=split_from)
        found, expected = records(out / f"data_{layout}", without), records(out / "data_plain", without)
        if layout == "r2gen":  # has the three published splits only
            expected = {name: row for name, row in expected.items() if row["split"] != "extra"}
        equal = sum(found[name] == row for name, row in expected.items() if name in found)
        result[layout] = {"studies": len(found), "equal": equal, "missing": len(expected.keys() - found.keys())}
    return result


if __name__ == "__main__":
    for name, counts in compare(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(name, counts)
