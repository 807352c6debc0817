"""Finds the image files of a source by what their names have in common across the public copies of IU X-ray.

Open-i calls a film "CXR2_IM-0652-1001.png", among its DICOM files "2_IM-0652-1001.dcm", Kaggle
"2_IM-0652-1001.dcm.png"; all are the film "2_IM-0652-1001". Open-i's first study alone has its number twice:
"CXR1_1_IM-0001-4001.png".
"""

import os
import re
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg")
DICOM_SUFFIX = ".dcm"


def film_name(name: str) -> str:
    """The name that one film has in every copy: without folder, suffixes and "CXR"."""
    stem = re.sub(r"(\.dcm)?(\.(png|jpe?g))?$", "", Path(name).name, flags=re.IGNORECASE)
    return re.sub(r"^CXR(\d+)_(?:\1_)?(?=IM-)", r"\1_", stem)


def index_images(src: Path) -> dict[str, Path]:
    """Every film of IU X-ray below `src` by its `film_name`; they all have "_IM-" in their names, other images do not.

    A DICOM file counts where its film is not there as a picture.

    Raises:
        ValueError: one film lies there twice, so that nobody can know which copy is meant.
    """
    return _index(src, (DICOM_SUFFIX,)) | _index(src, SUFFIXES)


def _index(src: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The films with these suffixes."""
    found: dict[str, Path] = {}
    for folder, _, files in os.walk(src):
        for file in files:
            if "_IM-" in file and file.lower().endswith(suffixes):
                path = Path(folder, file).absolute()
                other = found.setdefault(film_name(file), path)
                if other != path:
                    raise ValueError(
                        f"SRC must hold each film once. {other} and {path} are the same film; remove one."
                    )
    return found
