"""The films of one study from files, folders and zips, as hospitals and viewers export them.

A file named itself is a film. Of a folder or zip only films are taken: what begins as DICOM and has pixels, or is a
picture, whatever its name; hidden files, DICOMDIR, reports and notes are passed over, folders within are read.

Nothing of a zip is written to disk. Names within a folder or zip may be a patient's, so an error says "file 3 of",
counted in the order of names, hidden files left out.
"""

import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO

from .dicom_film import MOST_BYTES, is_dicom, read_view
from .image_processing_cxr import check_path, is_picture

MOST_FILES = 64  # of a folder or zip: a study has a handful of films, an archive of studies is given by mistake
_MOST_TABLE = 2**20  # bytes: a zip's list of 64 names needs some 10 thousand, a longer one is a bomb
_ORDER = ("frontal", "", "lateral")  # a film that does not say is likelier frontal


class _Refused(ValueError):
    """Our own line about a zip, among what `zipfile` raises."""


@dataclass(frozen=True)
class StudyFilm:
    """One film, not yet decoded."""

    film: Path | bytes = field(repr=False)  # as `CXRImageProcessor` takes it
    view: str  # "frontal", "lateral" or "" where the file does not say
    where: str  # how an error names it


def open_study(sources: Sequence[str | Path]) -> list[StudyFilm]:
    """The films of ONE study, frontal before lateral where their files say the view, else in the order given.

    Args:
        sources: image or DICOM files, folders and zips of them; within those the order is that of names.

    Raises:
        FileNotFoundError: a path that names nothing.
        ImportError: a DICOM file without the extra `dicom`.
        ValueError: a folder or zip without films or of more than 64 files; a zip that is damaged, encrypted, holds
            zips, or more than 256 MB when unpacked; a DICOM file that cannot be read.
    """
    films = [film for source in sources for film in _open_source(Path(source))]
    return sorted(films, key=lambda film: _ORDER.index(film.view))


def study_name(source: str | Path) -> str:
    """What a study is called after its first source: a file's or zip's name without its ending, or a folder's."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else path.stem


def _open_source(path: Path) -> list[StudyFilm]:
    """The films of one source."""
    where = f"`{path}`"
    check_path(path, where)
    is_folder = path.is_dir()
    if not is_folder and not _is_zip(path):
        view = read_view(path, where) if is_dicom(path) else ""
        return [StudyFilm(path, view or "", where)]
    found: Iterable[Path | bytes] = _list_folder(path, where) if is_folder else _read_zip(path, where)
    films = [film for number, file in enumerate(found, start=1) if (film := _pick(file, f"file {number} of {where}"))]
    if not films:
        raise ValueError(
            f"{where} holds no film. Give a {'folder' if is_folder else 'zip'} of DICOM, PNG or JPEG files."
        )
    return films


def _pick(file: Path | bytes, where: str) -> StudyFilm | None:
    """A file of a folder or zip as a film; None for anything else."""
    try:
        view = read_view(file, where) if is_dicom(file) else "" if is_picture(file) else None
        if view is None and _is_zip(file):
            raise ValueError(f"{where} is a zip itself. Unpack it first.")
    except OSError as error:  # its text holds the file's name
        raise OSError(f"{where} cannot be read ({error.strerror}).") from None
    return None if view is None else StudyFilm(file, view, where)


def _is_zip(file: Path | bytes) -> bool:
    """Whether a file begins as zips do, whole or cut; those of a text processor, which are zips too, do not count."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            file = opened.read(64)
    office = file[30:].startswith((b"[Content_Types]", b"_rels/", b"mimetype"))
    return file.startswith((b"PK\3\4", b"PK\5\6")) and not office


def _is_passed_over(name: str) -> bool:
    """Whether a file or folder is a hidden one, or the list of a disc's files that stands beside DICOM films."""
    return name.startswith((".", "__MACOSX")) or name.upper() == "DICOMDIR"


def _count_files(count: int, where: str) -> None:
    if count > MOST_FILES:
        raise _Refused(f"{where} holds more than {MOST_FILES} files. Give those of one study.")


def _list_folder(path: Path, where: str) -> list[Path]:
    """The files of a folder and of those within, in the order of their names."""
    found: list[Path] = []
    for folder, within, names in os.walk(path):
        within[:] = [name for name in within if not _is_passed_over(name)]  # the others are not walked into
        files = [Path(folder, name) for name in names if not _is_passed_over(name)]
        found += [file for file in files if file.is_file()]
        _count_files(len(found), where)
    return sorted(found)


class _SmallReads(io.FileIO):
    """A zip of which little is read at once: `zipfile` reads its list of members whole, as long as the zip claims."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MOST_TABLE:
            _count_files(MOST_FILES + 1, f"`{self.name}`")
        return super().read(size)


def _read_zip(path: Path, where: str) -> Iterator[bytes]:
    """The contents of a zip's files, one after the other in the order of their names."""
    left = MOST_BYTES
    try:
        with _SmallReads(path) as file, zipfile.ZipFile(file) as archive:
            for member in _list_zip(archive, where):
                with archive.open(member) as opened:
                    data = _inflate(opened, left, where)
                left -= len(data)
                yield data
    except _Refused:
        raise
    except Exception:  # of a damaged zip: BadZipFile, OSError, zlib.error, struct.error, ...; its text holds names
        raise ValueError(f"{where} is a damaged zip. Copy or export it again.") from None


def _list_zip(archive: zipfile.ZipFile, where: str) -> list[zipfile.ZipInfo]:
    """The members that may be films, by name; what must not be unpacked is refused by what the zip says of itself."""
    listed = [member for member in archive.infolist() if not member.is_dir()]
    members = [member for member in listed if not any(map(_is_passed_over, PurePath(member.filename).parts))]
    _count_files(len(members), where)
    if any(member.flag_bits & 1 for member in members):
        raise _Refused(f"{where} is encrypted. Unpack it and give the folder.")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise _Refused(f"{where} is packed by another method than deflate. Unpack it and give the folder.")
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise _too_large(where)
    return sorted(members, key=lambda member: member.filename)


def _inflate(opened: IO[bytes], most: int, where: str) -> bytes:
    """All of a member, unless it is more than it says and more than `most` bytes."""
    parts: list[bytes] = []
    while part := opened.read(_MOST_TABLE):
        parts.append(part)
        most -= len(part)
        if most < 0:
            raise _too_large(where)
    return b"".join(parts)


def _too_large(where: str) -> _Refused:
    return _Refused(f"{where} holds more than {MOST_BYTES >> 20} MB when unpacked. Give the films of one study.")
