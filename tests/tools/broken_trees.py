"""What every reader answers to broken sources: made-up trees of all layouts, each with one hole, as a Markdown table.

    python -m tests.tools.broken_trees FOLDER

FOLDER must not exist. Paths are printed as seen from the source and dicom_ids cut short; the way out, with which each
line of a broken study ends ("Correct it, or leave broken studies out with --skip-broken."), is left out.
"""

import contextlib
import gzip
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from radscribe.training.errors import one_line
from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr

from .iu_layouts import write_layouts
from .make_mimic import make_mimic, write_annotation

STUDIES = 4  # of each tree of IU X-ray
MIMIC_STUDIES = 6
MIMIC = {"mimic": "first", "mimic_tree": "first", "annotation": "frontal"}  # layouts of MIMIC-CXR -> `views`


def replace(pattern: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """The first `old` in the first file of this pattern becomes `new`; gzip is opened and closed again."""

    def change(src: Path) -> None:
        path = min(src.glob(pattern))
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        assert old in text, (path, old)
        text = text.replace(old, new, 1)
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)

    return change


def cut(pattern: str, count: int) -> Callable[[Path], None]:
    """The first file of this pattern loses its last `count` bytes."""

    def change(src: Path) -> None:
        path = min(src.glob(pattern))
        path.write_bytes(path.read_bytes()[:-count])

    return change


def remove(pattern: str) -> Callable[[Path], None]:
    """The first file of this pattern goes."""
    return lambda src: min(src.glob(pattern)).unlink()


def put(pattern: str, content: bytes) -> Callable[[Path], None]:
    """The first file of this pattern, which may be a link, becomes one of this content."""

    def change(src: Path) -> None:
        path = min(src.glob(pattern))
        path.unlink()
        path.write_bytes(content)

    return change


def copy(pattern: str, name: str) -> Callable[[Path], None]:
    """The first file of this pattern stands there a second time."""

    def change(src: Path) -> None:
        path = min(src.glob(pattern))
        shutil.copy(path, path.with_name(name))

    return change


def remove_named(src: Path) -> None:
    """The first training film that an annotation.json names goes."""
    row = json.loads((src / "annotation.json").read_text())["train"][0]
    (src / "files" / row["image_path"][0]).unlink()


def repeat_row(pattern: str) -> Callable[[Path], None]:
    """The last row of a gzipped table stands there twice."""

    def change(src: Path) -> None:
        path = min(src.glob(pattern))
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        path.write_bytes(gzip.compress(b"".join([*lines, lines[-1]])))

    return change


# (tree, layout, what is done to it)
TREES: list[tuple[str, str, Callable[[Path], None]]] = [
    ("Open-i: cut XML", "open_i", cut("*/2.xml", 200)),
    ("Open-i: same report twice", "open_i", copy("*/2.xml", "9.xml")),
    ("Open-i: image missing", "open_i", remove("*/CXR3*")),
    ("Open-i: image empty", "open_i", put("*/CXR3*", b"")),
    ("Open-i: image is text", "open_i", put("*/CXR3*", b"no picture")),
    ("Open-i: findings empty", "open_i", replace("*/2.xml", b"Clear lungs.", b"")),
    ("Kaggle: misspelt column", "kaggle", replace("*reports.csv", b"findings", b"Findngs")),
    ("Kaggle: not UTF-8", "kaggle", replace("*reports.csv", b"Normal.", b"Normal\xe9.")),
    ("Kaggle: unknown projection", "kaggle", replace("*projections.csv", b"Lateral", b"Oblique")),
    ("R2Gen: cut JSON", "r2gen", cut("annotation.json", 9)),
    ("R2Gen: misspelt split", "r2gen", replace("annotation.json", b'"test"', b'"tset"')),
    ("R2Gen: row without id", "r2gen", replace("annotation.json", b'"id"', b'"name"')),
    ("own: not UTF-8", "plain", replace("studies.jsonl", b"Clear", b"Cl\xe9ar")),
    ("own: misspelt split", "plain", replace("studies.jsonl", b'"train"', b'"trian"')),
    ("MIMIC: cut gzip", "mimic", cut("*split.csv.gz", 12)),
    ("MIMIC: misspelt column", "mimic", replace("*metadata.csv.gz", b"ViewPosition", b"ViewPositon")),
    ("MIMIC: unknown split", "mimic", replace("*split.csv.gz", b",train", b",trian")),
    ("MIMIC: same image twice", "mimic", repeat_row("*metadata.csv.gz")),
    ("MIMIC: image missing", "mimic", remove("files/*/*/*/*.jpg")),
    ("MIMIC: image empty", "mimic", put("files/*/*/*/*.jpg", b"")),
    ("MIMIC: cut zip", "mimic", cut("*.zip", 300)),
    ("MIMIC: report missing", "mimic_tree", remove("files/*/*/*.txt")),
    ("MIMIC: report not UTF-8", "mimic_tree", replace("files/*/*/*.txt", b" EXAM", b"\xc4 EXAM")),
    ("MIMIC: header FINDNGS", "mimic_tree", replace("files/*/*/*.txt", b" FINDINGS:", b" FINDNGS:")),
    ("R2Gen's MIMIC: cut JSON", "annotation", cut("annotation.json", 9)),
    ("R2Gen's MIMIC: image missing", "annotation", remove_named),
    ("R2Gen's MIMIC: row without report", "annotation", replace("annotation.json", b'"report"', b'"text"')),
]


def write_plain(src: Path) -> None:
    """Studies in the plain format: two films of noise each."""
    (src / "images").mkdir(parents=True)
    rows = []
    for number in range(1, STUDIES + 1):
        images = [f"images/{number}_IM-000{number}-{view}001.png" for view in (4, 3)]
        for image in images:
            Image.effect_noise((64, 64), 50).save(src / image)
        row = {"id": f"CXR{number}", "images": images, "views": ["frontal", "lateral"], "mesh": ["normal"]}
        rows.append(row | {"findings": "Clear lungs.", "impression": "Normal.", "split": "train"})
    (src / "studies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_tree(folder: Path, layout: str) -> Path:
    """A whole tree of a layout below the new `folder`."""
    src = folder / layout
    if layout == "plain":
        write_plain(src)
    elif layout in MIMIC:
        make_mimic(src, MIMIC_STUDIES, tree=layout == "mimic_tree")
        if layout == "annotation":
            for table in src.glob("*.csv.gz"):
                table.unlink()
            write_annotation(src, MIMIC_STUDIES)
    else:
        write_plain(folder / "origin")
        write_layouts(folder / "origin", folder)
    return src


def ask(src: Path, out: Path, skip_broken: bool) -> str:
    """What the reader answers, in a line."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            if src.name in MIMIC:
                answer = prepare_mimic_cxr(src, out, processes=1, views=MIMIC[src.name], skip_broken=skip_broken)
            else:
                answer = prepare_iu_xray(src, out, skip_broken=skip_broken)
    except (ValueError, OSError) as error:
        line = one_line(error).replace(f"{src.parent}/", "").replace(f"{src.name}/", "")
        line = line.removesuffix(" Correct it, or leave broken studies out with --skip-broken.")
        return re.sub(r"([0-9a-f]{6})[0-9a-f]{34}", r"\1...", line)
    holes = [f"{count} {reason}" for reason, count in answer["skipped"].items()]
    notes = [f"{answer['not_utf8']} read as cp1252"] if answer.get("not_utf8") else []
    return ", ".join([f"{sum(answer['kept'].values())} kept", *holes, *notes])


def main(folder: Path) -> None:
    print("| tree | answer | with `--skip-broken` |\n|---|---|---|")
    for number, (name, layout, change) in enumerate(TREES):
        src = make_tree(folder / str(number), layout)
        change(src)
        plain, skipping = (ask(src, folder / "out", skip_broken) for skip_broken in (False, True))
        print(f"| {name} | {plain} | {'the same' if skipping == plain else skipping} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
