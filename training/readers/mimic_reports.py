"""The reports of MIMIC-CXR, one text a study, in their zip or unpacked: `files/p10/p10000032/s50414267.txt`.

The zip has 227,835 entries. `zipfile` would hold them all in memory, in every process; here its directory is streamed
once (`list_zip`), kept in SQLite by mimic_tables.py, and a report is read at its place (`read_from_zip`).
Format: PKWARE APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12, 4.3.14-16. Archives below 4 GiB, stored or deflated, unlocked.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCATOR = struct.Struct("<4sLQL")  # where the zip64 end stands: more than 65,535 entries
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED, _LOCKED = 0, 8, 1


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


def _find_directory(archive: BinaryIO) -> tuple[int, int]:
    """(start of the central directory, number of entries)."""
    size = archive.seek(0, 2)
    tail_start = archive.seek(max(0, size - _END.size - _LOCATOR.size - 65535))
    tail = archive.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < _END.size:
        raise ValueError("no end of its directory")
    fields = _END.unpack_from(tail, end)
    count, start = fields[4], fields[6]
    if count == 0xFFFF or start == 0xFFFFFFFF:
        _, _, end_64, _ = _LOCATOR.unpack_from(tail, end - _LOCATOR.size)
        archive.seek(end_64)
        fields = _END_64.unpack(archive.read(_END_64.size))
        count, start = fields[7], fields[9]
    if start > tail_start + end:
        raise ValueError("its directory is not where it should be")
    return start, count


def list_zip(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Stream (study, start of its entry, packed size, method) of every `s<digits>.txt` in a zip.

    Raises ValueError (one line) for a file that is no zip, is cut short or holds no report.
    """
    found = 0
    try:
        with path.open("rb") as archive:
            start, count = _find_directory(archive)
            archive.seek(start)
            for _ in range(count):
                fields = _ENTRY.unpack(archive.read(_ENTRY.size))
                if fields[0] != b"PK\x01\x02":
                    raise ValueError("an entry of its directory is damaged")
                name = archive.read(fields[10]).decode("utf-8", "replace")
                archive.seek(fields[11] + fields[12], 1)
                if match := re.search(r"(?:^|/)s(\d+)\.txt$", name):
                    found += 1
                    if fields[3] & _LOCKED or fields[4] not in (_STORED, _DEFLATED):
                        raise ValueError(f"{name} is locked or packed in a way other than deflate")
                    yield match[1], fields[16], fields[8], fields[4]
    except (ValueError, struct.error) as error:
        raise ValueError(f"{path} is no zip or is cut short ({error}); download it again.") from error
    if not found:
        raise ValueError(f"{path} holds no report; expected files/p10/p10000032/s50414267.txt and the like in it.")


def read_from_zip(archive: BinaryIO, entry: tuple[int, int, int]) -> bytes:
    """One report's bytes by its (start, packed size, method). Raises ValueError where the data is damaged."""
    start, packed, method = entry
    archive.seek(start)
    try:
        fields = _LOCAL.unpack(archive.read(_LOCAL.size))
        if fields[0] != b"PK\x03\x04":
            raise ValueError("no entry at its place")
        archive.seek(fields[9] + fields[10], 1)
        data = archive.read(packed)
        return zlib.decompress(data, -zlib.MAX_WBITS) if method == _DEFLATED else data
    except (struct.error, zlib.error) as error:
        raise ValueError(str(error)) from error
