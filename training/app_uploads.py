"""What strangers send to the page (app.py): how it reaches the disk, what is refused, and the films that come of it.

Gradio keeps an upload under its sender's file name, in a folder named after its content: two people who send one film
share a file, and a name may be a patient's. So uploads are taken here, before Gradio sees them: each becomes a file
without a name in a folder of this server's own, is read once and removed.
"""

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ..processing.image_processing_cxr import read_grey
from ..processing.study_files import StudyFilm, open_study
from .errors import one_line

MOST_FILES = 8  # of one upload; a study has fewer, and each model says how many it takes
MOST_BYTES = 64 * 2**20  # of one file: a film of 4,280 x 3,520 pixels in 16 bit has 30 MB
MOST_BODY = 2 * MOST_BYTES  # of one upload
MOST_HELD = 25_000_000  # pixels of a film: one of 43 x 43 cm at 100 micrometres has 19 million
MOST_WAITING = 2**30  # bytes of all uploads that nobody has asked a report for yet


class PrivateUploads:
    """ASGI: answers `POST .../upload` in Gradio's place, with the paths of files that only this server names.

    Args:
        app: Gradio's own application, which gets all other requests.
        folder: where uploads wait; nobody else may read it.
        kept: set that paths are added to, whose files Gradio removes when they are old and at its end.
    """

    def __init__(self, app: Any, folder: Path, kept: set[str]) -> None:
        self.app, self.folder, self.kept = app, folder, kept

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path.endswith("/upload") and scope["method"] == "POST":
            answer = await self._answer(Request(scope, _bounded(receive)))
        elif path.endswith("/upload_progress"):  # which Gradio does not know of uploads that it has not taken
            answer = Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        else:
            answer = self.app
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if sum(map(_size, self.folder.iterdir())) > MOST_WAITING:
            return PlainTextResponse("Too many uploads are waiting. Try again in ten minutes.", 503)
        try:
            async with request.form(max_files=MOST_FILES, max_fields=0) as form:
                files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
                if any((file.size or 0) > MOST_BYTES for file in files):
                    raise _TooLarge
                return JSONResponse([await self._keep(file) for file in files])
        except _TooLarge:
            most = f"A file may have at most {MOST_BYTES >> 20} MB, all at once {MOST_BODY >> 20} MB."
            return PlainTextResponse(most, 413)
        except (HTTPException, MultiPartException, ClientDisconnect):  # its text may quote the request
            return PlainTextResponse(f"Send 1 to {MOST_FILES} files as multipart/form-data.", 400)

    async def _keep(self, file: UploadFile) -> str:
        """Write an upload to a new file that its owner alone reads; returns the path."""
        path = self.folder / secrets.token_hex(16)
        self.kept.add(str(path))
        path.touch(mode=0o600)
        with path.open("wb") as kept:
            while part := await file.read(2**20):
                kept.write(part)
        return str(path)


def _size(path: Path) -> int:
    """Bytes of a file that another request may be removing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def is_upload(path: str, folder: str) -> bool:
    """Whether a path is of the kind that `PrivateUploads` makes; the disk is not asked, so no one learns of it."""
    return os.path.dirname(path) == folder and re.fullmatch("[0-9a-f]{32}", os.path.basename(path)) is not None


class _TooLarge(Exception):  # noqa: N818 - an answer, not an error
    pass


def _bounded(receive: Any) -> Any:
    """An ASGI request's `receive` that raises _TooLarge where a body goes on too long, whatever its header says."""
    left = MOST_BODY

    async def bounded() -> Any:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _TooLarge
        return message

    return bounded


def _read(film: StudyFilm) -> Image.Image:
    """A film that sessions can hold: many of them at once, in up to four bytes a pixel."""
    grey = read_grey(film.film, film.where)
    if grey.width * grey.height > MOST_HELD:
        raise ValueError(f"{film.where} has more than {MOST_HELD // 10**6} million pixels: too many for this page.")
    return grey


def take_films(paths: Sequence[Path], most: int) -> list[Image.Image]:
    """The films in these uploads (images, DICOM, zips), grey and upright; the uploads are removed, whatever comes.

    Raises:
        ValueError: one line on the first that is no film, or on more than `most`; an upload is called by its number,
            never by a name.
    """
    try:
        if not all(map(Path.is_file, paths)):
            raise ValueError("An upload has waited for too long. Send it again.")
        films = open_study(paths)
        if len(films) > most:
            raise ValueError(f"A study has at most {most} films here. Got {len(films)}.")
        return [_read(film) for film in films]
    except (ValueError, OSError, ImportError) as error:
        line = one_line(error)
        for number, path in enumerate(paths, start=1):
            line = line.replace(f"`{path}`", f"upload {number}")
        raise ValueError(line[:1].upper() + line[1:]) from None
    finally:
        for path in filter(Path.is_file, paths):
            path.unlink(missing_ok=True)
