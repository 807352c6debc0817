"""A made-up tree in the layout of MIMIC-CXR-JPG, of any size. No word of it is from MIMIC-CXR.

    python -m tests.tools.make_mimic FOLDER --studies 200000 [--tree]

Films are hard links to one tiny file (or to `film`), since the reader does not open them. Study i is the same at any
size. `write_annotation` states the same studies as R2Gen's annotation.json does.
"""

import argparse
import csv
import gzip
import json
import os
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "2.0.0"
LABELS = ("Atelectasis", "Cardiomegaly", "Edema", "No Finding", "Pleural Effusion", "Pneumothorax")
METADATA = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
)
_WORDS = "the lungs heart pleura small large left right clear normal effusion opacity stable upper lower no is".split()
TINY = b"\xff\xd8\xff\xd9"  # a JPEG without a picture
_LINKS = 50_000  # ext4 allows 65,000 links to a file


def write_csv(path: Path, columns: tuple[str, ...], rows: Iterator[tuple] | list[tuple]) -> None:
    """A csv, gzipped where its name ends so."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows(rows)


def write_report(findings: str, impression: str) -> str:
    """A report in the common form."""
    return (
        "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n"
        " INDICATION:  Made-up study\n \n COMPARISON:  None.\n \n"
        f" FINDINGS: \n \n {findings}\n \n IMPRESSION: \n \n {impression}\n"
    )


def _sentences(chance: random.Random, count: int) -> str:
    return "\n ".join(" ".join(chance.choices(_WORDS, k=9)).capitalize() + "." for _ in range(count))


class MadeUpStudy:
    """Study `index`: two studies a patient; 2 films, some 1 or 3; 1 in 50 each to validate and test."""

    def __init__(self, index: int) -> None:
        chance = random.Random(index)
        self.subject = str(10_000_000 + index // 2 * 7)
        self.study = str(50_000_000 + index * 3)
        self.split = {0: "validate", 1: "test"}.get(index // 2 % 50, "train")
        self.positions = chance.choice(
            (("PA", "LATERAL"), ("AP",), ("PA", "LATERAL", "AP"), ("AP", "LL"), ("", "LAO"))
        )
        self.dicoms = [f"{chance.getrandbits(160):040x}" for _ in self.positions]
        self.labels = [chance.choice(("1.0", "-1.0", "0.0", "", "")) for _ in LABELS]
        self.findings, self.impression = _sentences(chance, chance.randint(3, 7)), _sentences(chance, 2)
        self.report = write_report(self.findings, self.impression)

    @property
    def folder(self) -> str:
        """files/p10/p10000032/s50414267"""
        return f"files/p{self.subject[:2]}/p{self.subject}/s{self.study}"


def write_tables(src: Path, studies: int, ending: str = ".csv.gz") -> None:
    """The split, metadata and chexpert tables."""

    def images(*values: str) -> Iterator[tuple]:
        for study in map(MadeUpStudy, range(studies)):
            for dicom, position in zip(study.dicoms, study.positions, strict=True):
                known = {"dicom_id": dicom, "study_id": study.study, "subject_id": study.subject, "split": study.split}
                known |= {"ViewPosition": position, "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)"}
                yield tuple(known.get(name, 2544) for name in values)

    head = ("dicom_id", "study_id", "subject_id", "split")
    write_csv(src / f"mimic-cxr-{VERSION}-split{ending}", head, images(*head))
    write_csv(src / f"mimic-cxr-{VERSION}-metadata{ending}", METADATA, images(*METADATA))
    rows = ((study.subject, study.study, *study.labels) for study in map(MadeUpStudy, range(studies)))
    write_csv(src / f"mimic-cxr-{VERSION}-chexpert{ending}", ("subject_id", "study_id", *LABELS), rows)


def write_films(src: Path, studies: int, content: bytes = TINY) -> None:
    """Every film as a hard link to a file with this content."""
    links = 0
    for study in map(MadeUpStudy, range(studies)):
        os.makedirs(src / study.folder, exist_ok=True)
        for dicom in study.dicoms:
            film = src / f"film-{links // _LINKS}"
            if not film.exists():
                film.write_bytes(content)
            os.link(film, src / study.folder / f"{dicom}.jpg")
            links += 1


def write_reports(src: Path, studies: int, tree: bool = False) -> None:
    """The reports in mimic-cxr-reports.zip or, as a tree, each beside its study's folder of films."""
    found = map(MadeUpStudy, range(studies))
    if tree:
        for study in found:
            (src / f"{study.folder}.txt").write_text(study.report)
        return
    with zipfile.ZipFile(src / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for study in found:
            archive.writestr(f"{study.folder}.txt", study.report)


def write_annotation(src: Path, studies: int) -> None:
    """R2Gen's annotation.json, all in one line, for films at src/files; a row at a time, as long files need it."""

    def rows(split: str) -> Iterator[str]:
        for study in map(MadeUpStudy, range(studies)):
            if study.split == split:
                row = {"id": study.dicoms[0], "study_id": int(study.study), "subject_id": int(study.subject)}
                paths = [f"{study.folder.removeprefix('files/')}/{study.dicoms[0]}.jpg"]
                yield json.dumps(row | {"report": study.findings, "image_path": paths, "split": split})

    with (src / "annotation.json").open("w") as file:
        for begin, split in (('{"train": [', "train"), ('], "val": [', "validate"), ('], "test": [', "test")):
            file.write(begin)
            for number, row in enumerate(rows(split)):
                file.write((", " if number else "") + row)
        file.write("]}")


def make_mimic(src: Path, studies: int, tree: bool = False, film: bytes = TINY) -> Path:
    """The whole tree at `src`, a new folder."""
    src.mkdir(parents=True)
    write_tables(src, studies)
    write_films(src, studies, film)
    write_reports(src, studies, tree)
    return src


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--tree", action="store_true", help="reports as files, not in a zip")
    given = parser.parse_args()
    make_mimic(given.folder, given.studies, given.tree)
