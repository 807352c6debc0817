"""Rewrites studies in the plain format into the three public layouts of IU X-ray, so that the readers can be compared.

    python -m tests.tools.iu_layouts SRC OUT

Writes OUT/open_i (XML files and films), OUT/kaggle (two tables and films) and OUT/r2gen (annotation.json and films).
Films are linked, not copied. R2Gen's file gets the studies of train, val and test that have findings, as there.
"""

import csv
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

SECTIONS = ("comparison", "indication", "findings", "impression")


def link(source: Path, target: Path) -> None:
    """`target` becomes the file `source`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source.absolute(), target)


def open_i_name(film: str) -> str:
    """The film "10_IM-0002-1001" as Open-i calls it; its first study has the number twice."""
    return f"CXR1_{film}" if film.startswith("1_") else f"CXR{film}"


def write_open_i(studies: list[dict], src: Path, out: Path) -> None:
    """ecgen-radiology/<n>.xml and NLMCXR_png/CXR<film>."""
    (out / "ecgen-radiology").mkdir(parents=True)
    for study in studies:
        number = study["id"].removeprefix("CXR")
        root = ElementTree.Element("eCitation")
        ElementTree.SubElement(root, "uId", id=study["id"])
        abstract = ElementTree.SubElement(ElementTree.SubElement(root, "MedlineCitation"), "Abstract")
        for name in SECTIONS:
            ElementTree.SubElement(abstract, "AbstractText", Label=name.upper()).text = study.get(name) or None
        codes = ElementTree.SubElement(root, "MeSH")
        for code in study.get("mesh") or []:
            ElementTree.SubElement(codes, "major").text = code
        for image in study["images"]:
            path = Path(image)
            ElementTree.SubElement(root, "parentImage", id=open_i_name(path.stem))
            link(src / image, out / "NLMCXR_png" / open_i_name(path.name))
        ElementTree.ElementTree(root).write(out / "ecgen-radiology" / f"{number}.xml", encoding="utf-8")


def write_kaggle(studies: list[dict], src: Path, out: Path) -> None:
    """indiana_reports.csv, indiana_projections.csv and images/<film>.dcm.<suffix>."""
    out.mkdir(parents=True)
    with (out / "indiana_reports.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"])
        for study in studies:
            sections = [study.get(name) or "" for name in ("indication", "comparison", "findings", "impression")]
            table.writerow([study["id"].removeprefix("CXR"), ";".join(study.get("mesh") or []), "", "", *sections])
    with (out / "indiana_projections.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["uid", "filename", "projection"])
        for study in studies:
            for image, view in zip(study["images"], study["views"], strict=True):
                path = Path(image)
                name = f"{path.stem}.dcm{path.suffix}"
                table.writerow([study["id"].removeprefix("CXR"), name, view.capitalize()])
                link(src / image, out / "images" / name)


def write_r2gen(studies: list[dict], src: Path, out: Path) -> None:
    """annotation.json and images/CXR<n>_IM-<m>/0.<suffix>."""
    rows: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for study in studies:
        if study.get("split") not in rows or not study["findings"]:
            continue
        name = open_i_name(Path(study["images"][0]).stem).rsplit("-", 1)[0]
        paths = [f"{name}/{position}{Path(image).suffix}" for position, image in enumerate(study["images"])]
        for image, path in zip(study["images"], paths, strict=True):
            link(src / image, out / "images" / path)
        row = {"id": name, "report": study["findings"], "image_path": paths, "split": study["split"]}
        rows[study["split"]].append(row)
    out.mkdir(parents=True, exist_ok=True)
    (out / "annotation.json").write_text(json.dumps(rows))


def write_layouts(src: Path, out: Path) -> None:
    """All three below `out`."""
    studies = [json.loads(line) for line in (src / "studies.jsonl").read_text(encoding="utf-8").splitlines()]
    write_open_i(studies, src, out / "open_i")
    write_kaggle(studies, src, out / "kaggle")
    write_r2gen(studies, src, out / "r2gen")


if __name__ == "__main__":
    write_layouts(Path(sys.argv[1]), Path(sys.argv[2]))
