"""DICOM files of a chest film to grey pixels (extra `dicom`: pydicom and a JPEG 2000 decoder).

Of a file only FILM_TAGS are read: names, dates and numbers of a patient never enter the process, so no message, log or
page can hold them.
"""

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
VIEWS = {"AP": "frontal", "PA": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
TAILS = (0.5, 99.5)  # percentiles that become black and white where a file names no window


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, whatever its name."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path) -> np.ndarray:
    """A film as a radiologist's screen shows it first: (H, W) uint8, bone bright.

    Modality LUT or rescaling, the first VOI window or LUT (percentiles where there is none), and MONOCHROME1 turned
    over, once.

    Raises:
        ImportError: without the extra `dicom`.
        ValueError: colour, several frames, no pixels, pixels that cannot be decoded.
    """
    data = _load(path)
    _check(data, path)
    try:
        stored = data.pixel_array
    except Exception as error:  # decoders raise what they like
        raise ValueError(f"`{path}`: its pixels cannot be decoded ({' '.join(str(error).split())[:200]}).") from error
    values, low, high = _shades(stored, data)
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


def read_view(path: Path) -> str:
    """What the file says: frontal, lateral, or "" where it does not."""
    return VIEWS.get(str(_load(path, stop_before_pixels=True).get("ViewPosition") or "").strip().upper(), "")


def _load(path: Path, **options: Any) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(f"`{path}` is a DICOM file, which needs pydicom: pip install radscribe[dicom].") from error
    try:
        return pydicom.dcmread(path, specific_tags=FILM_TAGS, **options)
    except Exception as error:
        raise ValueError(f"`{path}` begins as DICOM but cannot be read ({type(error).__name__}).") from error


def _check(data: Any, path: Path) -> None:
    """Raise for what is no single grey film."""
    if "PixelData" not in data:
        raise ValueError(f"`{path}` holds no pixels. Give the file of a film.")
    kind = str(data.get("PhotometricInterpretation", ""))
    if int(data.get("SamplesPerPixel") or 1) != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"`{path}` must be a grey film (MONOCHROME1 or 2). Got {kind or 'no interpretation'}.")
    if int(data.get("NumberOfFrames") or 1) != 1:
        raise ValueError(f"`{path}` must hold one film. Got {data.NumberOfFrames} frames: export them one by one.")
