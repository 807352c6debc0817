"""IU X-ray as Open-i hands it out: a folder of report files `<n>.xml`, and the films as PNG somewhere beside them.

What the XML does not say stays unknown: the view of a film (its caption names both), so films keep the file's order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .image_index import film_name, index_images
from .source import BrokenStudy, SourceStudy, study_labels
from .studies import SECTIONS


def report_files(src: Path) -> list[Path]:
    """The XML files of `src`, or of one folder below it (`ecgen-radiology`), in the order of their numbers."""
    found = [*src.glob("*.xml"), *src.glob("*/*.xml")]
    return sorted(found, key=lambda path: (len(path.stem), path.stem))


def read_open_i(src: Path) -> Iterator[SourceStudy | BrokenStudy]:
    """One study an XML file; its split is for the caller to give."""
    images = index_images(src)
    for path in report_files(src):
        try:
            yield _read_report(path, images)
        except BrokenStudy as broken:
            yield broken


def _read_report(path: Path, images: dict[str, Path]) -> SourceStudy:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an encoding
        raise BrokenStudy("bad XML", f"{path} is not XML: {error}.") from error
    identity = root.find("uId")
    if identity is None or not identity.get("id"):
        raise BrokenStudy("bad XML", f"{path} has no `uId` with an `id`, so it is no Open-i report.")
    sections = {name: "" for name in SECTIONS}
    for text in root.iter("AbstractText"):
        name = (text.get("Label") or "").lower()
        if name in sections:
            sections[name] = "".join(text.itertext()).strip()
    names = [image.get("id") or "" for image in root.iter("parentImage")]
    record: dict[str, Any] = {"study_id": identity.get("id"), "views": [""] * len(names)} | sections
    record["labels"] = study_labels(code.text or "" for code in root.iter("major"))
    # A film that is not there keeps the name it should have: opening it says so.
    paths = [images.get(film_name(name), path.parent / f"{name}.png") for name in names]
    return SourceStudy(f"{path} (study {record['study_id']})", record, paths)
