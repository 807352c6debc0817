"""The reports of MIMIC-CXR, one text a study, in their zip or unpacked: `files/p10/p10000032/s50414267.txt`."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path


def report_path(folder: Path, subject: str, study: str) -> Path:
    """Where a report stands below the unpacked folder (ids are digits)."""
    return folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"


def decode_report(text: bytes) -> tuple[str, bool]:
    """The report and whether it was UTF-8; what is not is read as cp1252, its five unused bytes as Latin-1."""
    try:
        return text.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        pass
    try:
        return text.decode("cp1252"), False
    except UnicodeDecodeError:
        return text.decode("latin-1"), False


def read_zip(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Stream (study, its report) of every `s<digits>.txt` in a zip; None where that one entry is damaged.

    `zipfile` holds a directory of 227,835 entries in memory, some 130 MB: it is read once, by one process, and the
    texts go to SQLite (mimic_tables.py), where each worker finds its own.
    Raises ValueError (one line) for a file that is no zip, is cut short, is locked or holds no report.
    """
    found = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if match := re.search(r"(?:^|/)s(\d+)\.txt$", entry.filename):
                    found += 1
                    yield match[1], _read_entry(archive, entry)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:  # RuntimeError: a password
        raise ValueError(f"{path} is no zip, cut short or locked ({error}); download it again.") from error
    if not found:
        raise ValueError(f"{path} holds no report; expected files/p10/p10000032/s50414267.txt and the like in it.")


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    try:
        return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error):  # of this entry alone: the directory was read
        return None
