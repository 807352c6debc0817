"""DICOM files of made-up patients, for the tests of what reads them."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SYNTAXES = {"plain": "1.2.840.10008.1.2.1", "rle": "1.2.840.10008.1.2.5", "jpeg2000": "1.2.840.10008.1.2.4.90"}
PATIENT = ["Doe^Jane", "PID-4711", "19700101"]  # name, number, birth date: none may reach what a user reads


def make_dicom(
    path: Path,
    pixels: np.ndarray,
    bits: int | None = None,
    syntax: str = "plain",
    signed: bool = False,
    raw: dict[str, bytes] | None = None,
    **tags: Any,
) -> Path:
    """Write a film of these stored values (H, W) or, as frames, (F, H, W); `raw` tags are written as they are."""
    import pydicom

    bits = bits or pixels.dtype.itemsize * 8
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = SYNTAXES["plain"]
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.PatientName, data.PatientID, data.PatientBirthDate = PATIENT
    data.Modality, data.SpecificCharacterSet = "DX", "ISO_IR 100"
    data.Rows, data.Columns, data.SamplesPerPixel = pixels.shape[-2], pixels.shape[-1], 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", int(signed)
    data.BitsAllocated, data.BitsStored, data.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    data.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        setattr(data, tag, value)
    if syntax != "plain":
        data.compress(SYNTAXES[syntax])
    for tag, content in (raw or {}).items():
        number = pydicom.tag.Tag(tag)
        content += b" " * (len(content) % 2)
        data[number] = pydicom.dataelem.RawDataElement(
            number, pydicom.datadict.dictionary_VR(number), len(content), content, 0, False, True
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def told(work: Callable[..., Any], *given: Any) -> str:
    """What a call answers, or all that the traceback of its error shows."""
    try:
        return repr(work(*given))
    except (ValueError, OSError, ImportError) as error:
        return "".join(traceback.format_exception(error))
