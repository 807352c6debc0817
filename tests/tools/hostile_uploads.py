"""What a stranger may send to the page of `radscribe app`, and what each gets: a table in Markdown.

python -m tests.tools.hostile_uploads [--model NAME_OR_FOLDER]

It starts a page of its own, posts each upload to `/report` as `gradio_client` does, and ends with what lies in the
folder of uploads and whether the server's log has a traceback.
"""

import argparse
import contextlib
import io
import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from radscribe.training.app import run_page
from radscribe.training.app_uploads import MOST_BYTES, MOST_FILES

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def picture(kind: str, image: Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(file, kind, **options)
    return file.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bomb(side: int) -> bytes:
    """A PNG of side x side pixels, all black: a few hundred kB that become `side` squared."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    return PNG_HEAD + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def packed(*members: tuple[str, bytes], encrypted: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    content = bytearray(file.getvalue())
    if encrypted:  # the flag that says so, in both places that have it
        for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            content[content.index(mark) + place] |= 1
    return bytes(content)


def linked_zip() -> bytes:
    """A zip whose one member is a symbolic link to a file of the server."""
    member = zipfile.ZipInfo("film.png")
    member.create_system, member.external_attr = 3, 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return file.getvalue()


def dicom(pixels: bytes | None = NOISE.tobytes(), rows: int = 64, columns: int = 64, frames: int = 1) -> bytes:
    """A DICOM film of 8 bit with a patient's name."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.Rows, data.Columns, data.NumberOfFrames = "SECRET^PATIENT", rows, columns, frames
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    if pixels is not None:
        data.PixelData = pixels * frames
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


PNG = picture("PNG")


def one_file_uploads() -> dict[str, bytes]:
    """What one file can be."""
    grey = Image.fromarray(NOISE)
    deep = Image.fromarray(np.full((64, 64), 65535, np.uint16))
    moving = {"save_all": True, "append_images": [grey] * 50}
    return {
        "empty file": b"",
        "text named .png": b"I am no film.\n",
        "PNG cut in half": PNG[: len(PNG) // 2],
        "JPEG cut in half": picture("JPEG")[:600],
        "PNG bomb, 30,000 x 30,000": png_bomb(30_000),
        "PNG bomb, 13,000 x 13,000": png_bomb(13_000),
        "PNG that says it is 60,000 x 60,000, no pixels": PNG_HEAD
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
        + png_chunk(b"IEND", b""),
        "GIF of 51 frames": picture("GIF", **moving),
        "WebP": picture("WEBP"),
        "TIFF of 51 pages": picture("TIFF", **moving),
        "SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "EPS, which would start Ghostscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n",
        "HTML named .jpg": b"<html><script>alert(1)</script></html>",
        "zip bomb, 1 GB of zeros": packed(("film.png", bytes(2**30))),
        "zip with ../../ names": packed(("../../../radscribe_evil.png", PNG)),
        "zip in a zip": packed(("inner.zip", packed(("film.png", PNG)))),
        "zip that is encrypted": packed(("film.png", PNG), encrypted=True),
        "zip with a link to /etc/passwd": linked_zip(),
        "PNG and zip in one": PNG + packed(("film.png", PNG)),
        "PNG with HTML behind it": PNG + b"<script>alert(1)</script>",
        "1 x 1 pixel": picture("PNG", Image.new("L", (1, 1))),
        "CMYK JPEG": picture("JPEG", Image.new("CMYK", (64, 64), (0, 99, 0, 0))),
        "16 bit PNG, all white": picture("PNG", deep),
        "TIFF of NaN": picture("TIFF", Image.fromarray(np.full((64, 64), np.nan, np.float32))),
        "animated PNG": picture("PNG", **moving),
        "PNG with 2 MB of text": picture("PNG", pnginfo=long_text()),
        "DICOM with a patient's name": dicom(),
        "DICOM without pixels": dicom(None),
        "DICOM of 9 frames": dicom(frames=9),
        "DICOM bomb, 60,000 x 60,000": dicom(rows=60_000, columns=60_000),
        "DICOM cut off": dicom()[:600],
        "DICOM head and nothing else": bytes(128) + b"DICM",
    }


def long_text():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", "a" * 2**21, zip=True)
    return info


def told(work: Callable[[], object]) -> str:
    """What a caller reads: the report's beginning, or the answer in its place."""
    try:
        answer = work()
    except Exception as error:
        return " ".join(str(error).split())[:160]
    report = answer[0] if isinstance(answer, (tuple, list)) else answer
    return f"a report: “{str(report)[:40]}…”"


def post(url: str, name: str, content: bytes) -> str:
    """Upload one file under any name, as a browser would; returns the server's path. Raises with the answer's text."""
    answer = httpx.post(f"{url}gradio_api/upload", files=[("files", (name, content))], timeout=60)
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code} {answer.text}")
    return answer.json()[0]


def ask(url: str, model: str, *paths: str) -> str:
    """What `/report` answers when it is told that files lie at these paths of the server."""
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    begun = httpx.post(f"{url}gradio_api/call/report", json={"data": [files, model]})
    answer = httpx.get(f"{url}gradio_api/call/report/{begun.json()['event_id']}", timeout=300).text
    data = json.loads(answer.rpartition("data: ")[2])
    if "event: error" in answer:
        raise RuntimeError(data["error"])
    return data[0]


def try_files(url: str, model: str, folder: Path) -> Iterator[tuple[str, str]]:
    """What one file was, and what came."""
    client = Client(url, verbose=False)
    for number, (what, content) in enumerate(one_file_uploads().items()):
        file = folder / f"upload_{number}.png"
        file.write_bytes(content)
        yield what, told(lambda: client.predict([handle_file(file)], model, api_name="/report"))  # noqa: B023
        file.unlink()
    for name in (
        "../../../../evil.png",
        "<script>alert(1)</script>.png",
        "DOE^JOHN ä 😀.png",
        "a" * 5000,
        "\0.png",
    ):
        yield f"file named {name[:30]!r}", told(lambda: ask(url, model, post(url, name, PNG)))  # noqa: B023
    link = folder / "link.png"
    link.symlink_to("/etc/passwd")
    yield "link to /etc/passwd", told(lambda: client.predict([handle_file(link)], model, api_name="/report"))


def try_calls(url: str, model: str) -> Iterator[tuple[str, str]]:
    """What was asked for in another way, and what came."""
    uploads = os.environ["GRADIO_TEMP_DIR"]
    yield "3 films of one study", told(lambda: ask(url, model, *(post(url, "a.png", PNG) for _ in range(3))))
    many = httpx.post(f"{url}gradio_api/upload", files=[("files", (f"{n}.png", PNG)) for n in range(MOST_FILES + 1)])
    huge = bytes(MOST_BYTES + 2**20)
    yield f"file of {len(huge) >> 20} MB", told(lambda: ask(url, model, post(url, "a.png", huge)))
    yield f"{MOST_FILES + 1} files at once", f"{many.status_code} {many.text}"
    for path in ("/etc/passwd", uploads, f"{uploads}/../passwd", "pyproject.toml", "http://127.0.0.1:22/"):
        yield f"upload said to lie at `{path}`".replace(uploads, "UPLOADS"), told(lambda: ask(url, model, path))  # noqa: B023
    yield "no files", told(lambda: ask(url, model))
    yield "model `../../etc`", told(lambda: ask(url, "../../etc", post(url, "a.png", PNG)))
    for path in ("/etc/passwd", f"{uploads}/../../etc/passwd", "pyproject.toml", "http://127.0.0.1:22/"):
        answer = httpx.get(f"{url}gradio_api/file={path}")
        yield f"GET file={path}".replace(uploads, "UPLOADS"), f"{answer.status_code}, {len(answer.content)} bytes"


def attack(model: str) -> tuple[list[tuple[str, str]], list[Path], str]:
    """What was sent and what came, the files that are left, and the server's log."""
    log = io.StringIO()
    with contextlib.redirect_stderr(log), run_page([model], "127.0.0.1") as page:
        with tempfile.TemporaryDirectory() as folder:
            rows = [*try_files(page.local_url, Path(model).name, Path(folder))]
        rows += try_calls(page.local_url, Path(model).name)
        left = [path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file()]
    return rows, left, log.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="uar-iu-xray-small")
    rows, left, log = attack(parser.parse_args().model)
    print("| sent | answer |\n|---|---|")
    for what, answer in rows:
        print(f"| {what} | {answer} |".replace("\n", " "))
    print(f"\nFiles left: {len(left)}. Traceback in the log: {'Traceback' in log}. Patient's name: {'SECRET' in log}.")
    print("\n".join(line for line in log.splitlines() if "Loading weights" not in line))


if __name__ == "__main__":
    main()
