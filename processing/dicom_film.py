"""DICOM files of a chest film to grey pixels (extra `dicom`: pydicom and a JPEG 2000 decoder).

Of a file only FILM_TAGS are read: names, dates and numbers of a patient never enter the process, so no message, log or
page can hold them. A tag on the list may hold anything too: what it says is compared, and never said again.

A source is a file's path or its bytes; `where` is how an error names it (left out: the path).
"""

import io
import logging
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# What pixels and their shades need, and the view. Nothing of the patient, the study or the hospital.
FILM_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData", "RescaleIntercept", "RescaleSlope",
    "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "ViewPosition",
]  # fmt: skip
# What these say is looked at before pydicom does, which would put a value that it does not like into its warning.
_COUNTS = ("SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_NUMBERS = ("NumberOfFrames", "RescaleIntercept", "RescaleSlope", "WindowCenter", "WindowWidth")
_CURVES = ("", "LINEAR", "LINEAR_EXACT", "SIGMOID")  # of VOILUTFunction
_COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
VIEWS = {"AP": "frontal", "PA": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
TAILS = (0.5, 99.5)  # percentiles that become black and white where a file names no window
# 14 x 17 inches scanned at 50 micrometres have 61 million pixels; from 89 on Pillow warns of a bomb.
MOST_PIXELS = 80_000_000
MOST_BYTES = 2**28  # of a file: 80 million pixels of 16 bit have 160 MB
_ONE = threading.Lock()
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the syntax of files that pydicom inflates whole, however large they become
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51\0...(.{8})", re.DOTALL)  # how JPEG 2000 begins: its width and height


def is_dicom(source: Path | bytes) -> bool:
    """Whether a file begins as DICOM files do, whatever its name."""
    if isinstance(source, bytes):
        return source[128:132] == b"DICM"
    with source.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(source: Path | bytes, where: str | None = None) -> np.ndarray:
    """A film as a radiologist's screen shows it first: (H, W) uint8, bone bright.

    Modality LUT or rescaling, the first VOI window or LUT (percentiles where there is none), and MONOCHROME1 turned
    over, once.

    Raises:
        ImportError: without the extra `dicom`.
        ValueError: colour, several frames, no pixels, too many, pixels that cannot be decoded.
    """
    where = where or f"`{source!s}`"
    data = _load(source, where)
    _check(data, where)
    try:
        _check_codestream(data)
        values, low, high = _shades(data.pixel_array, data)
    except Exception as error:  # decoders raise what they like
        raise ValueError(f"{where}: its pixels cannot be decoded ({' '.join(str(error).split())[:200]}).") from error
    grey = (np.asarray(values, np.float64) - low) / (high - low if high > low else 1)
    grey = np.rint(255 * grey.clip(0, 1)).astype(np.uint8)
    return 255 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey


def _shades(stored: np.ndarray, data: Any) -> tuple[np.ndarray, float, float]:
    """Stored values -> those that are shown, and which of them are black and white."""
    try:  # of imports outside of a `try` Transformers asks whoever loads this file from the Hub
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:
        raise
    values = apply_modality_lut(stored, data)
    if "VOILUTSequence" in data:
        shades = apply_voi_lut(values, data, index=0)
        return shades, shades.min(), shades.max()
    if "WindowCenter" in data:
        # What lies far outside of any window is the window's own black and white.
        ends = np.array([[values.min() - 1e6, values.max() + 1e6]])
        return apply_voi_lut(values, data, index=0), *apply_voi_lut(ends, data, index=0)[0]
    return values, *np.percentile(values, TAILS)


def read_view(source: Path | bytes, where: str | None = None) -> str | None:
    """What the file says: frontal, lateral, or "" where it does not; None for one that is no film (a report, say).

    Raises:
        ImportError, ValueError: as `read_dicom`, of a file that cannot be read at all.
    """
    data = _load(source, where or f"`{source!s}`", stop_before_pixels=True)
    return VIEWS.get(_text(data, "ViewPosition").upper(), "") if "Rows" in data else None


def _load(source: Path | bytes, where: str, **options: Any) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(f"{where} is a DICOM file, which needs pydicom: pip install radscribe[dicom].") from error
    if not isinstance(source, bytes):
        if source.stat().st_size > MOST_BYTES:
            raise ValueError(f"{where} is larger than {MOST_BYTES >> 20} MB. Give the file of a film.")
        source = source.read_bytes()
    if _DEFLATED in source:
        raise ValueError(f"{where} is a deflated DICOM file. Save it uncompressed, or as JPEG 2000.")
    try:
        with _unheard():
            return pydicom.dcmread(io.BytesIO(source), specific_tags=FILM_TAGS, **options)
    except Exception as error:  # its text, shown as the cause, may quote the file
        raise ValueError(f"{where} begins as DICOM but cannot be read ({type(error).__name__}).") from None


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what pydicom warns of and logs from everybody: of a damaged file it quotes whatever it took for a value.

    One thread at a time, because what it switches off is the process's.
    """
    logger = logging.getLogger("pydicom")
    with _ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = before


def _text(data: Any, tag: str) -> str:
    """What a tag says, as it stands in the file; "" where it is not there."""
    value = data.get_item(tag).value if tag in data else ""
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value or "")).strip(" \0")


def _check(data: Any, where: str) -> None:
    """Raise for what is no single grey film of a size that films have."""
    if "PixelData" not in data:
        raise ValueError(f"{where} holds no pixels. Give the file of a film.")
    if odd := _odd_tag(data):
        raise ValueError(f"{where}: its {odd} is not what a film has. Export it again.")
    kind = _text(data, "PhotometricInterpretation")
    if int(data.get("SamplesPerPixel") or 1) != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        got = kind if kind in _COLOURS else "another interpretation" if kind else "no interpretation"
        raise ValueError(f"{where} must be a grey film (MONOCHROME1 or 2). Got {got}.")
    if (frames := _text(data, "NumberOfFrames").lstrip("+0") or "1") != "1":
        raise ValueError(f"{where} must hold one film. Got {frames} frames: export them one by one.")
    check_pixels(int(data.get("Columns") or 0), int(data.get("Rows") or 0), where)


def _odd_tag(data: Any) -> str | None:
    """The first tag whose value is of another kind than that of a film."""
    odd = [tag for tag in _COUNTS if tag in data and not _is_count(data.get_item(tag))]
    odd += [tag for tag in _NUMBERS if not re.fullmatch(r"[-+.\deE\\ ]*", _text(data, tag))]
    odd += ["VOILUTFunction"] if _text(data, "VOILUTFunction") not in _CURVES else []
    return odd[0] if odd else None


def _is_count(element: Any) -> bool:
    """Whether an element, as it stands in the file, is one number of two bytes, or empty."""
    return element.VR in ("US", "UN", None) and (isinstance(element.value, int) or len(element.value or b"") in (0, 2))


def check_pixels(width: int, height: int, where: str) -> None:
    """Raise ValueError for more pixels than a film has, before they are decoded."""
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{where} is {width}x{height} pixels: a film has at most {MOST_PIXELS // 10**6} million. Shrink it."
        )


def _check_codestream(data: Any) -> None:
    """Raise ValueError for JPEG 2000 of more pixels than a film has: its decoder takes its own size, not the tags'."""
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        for found in _CODESTREAM.finditer(data.PixelData):
            width, height = struct.unpack(">II", found[1])
            check_pixels(width, height, "it")
