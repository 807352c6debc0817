"""Train-time changes of a film, `CXRAugmentation`: apart from the processor, which is what a checkpoint needs to run.

Left and right are never swapped: "left effusion" must stay left.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .image_processing_cxr import find_preset, read_grey

# Train-time changes of the same systems. R2Gen and MedCLIP also flip left and right: never done here, because it makes
# "left effusion" wrong for half of the films.
_CROP_ONLY = {"degrees": 0.0, "zoom": 0.0, "shift": 0.0, "exposure": 0.0, "contrast": 0.0}
AUGMENTATION_PRESETS: dict[str, dict[str, Any]] = {
    # R2Gen modules/dataloaders.py, `transforms` of train: Resize(256) of the short side, RandomCrop(224).
    "r2gen": _CROP_ONLY | {"resize": 256, "crop": 224},
    # MedCLIP examples/run_medclip_pretrain.py: RandomAffine(10, scale 0.8-1.1, translate 1/16), ColorJitter(0.2, 0.2).
    # Our zoom is symmetric; its crop from 256 to 224 is left out, since after padding it cuts the ends of a long film.
    "medclip": {"degrees": 10.0, "zoom": 0.15, "shift": 0.0625, "exposure": 0.2, "contrast": 0.2},
    # UAR, implementation details: resize to 128x128, random crop of 112x112.
    "uar": _CROP_ONLY | {"resize": 128, "crop": 112, "squash": True},
}


@dataclass(frozen=True)
class CXRAugmentation:
    """Change one film as another technician might have taken it: turn, zoom, shift, exposure, contrast, random crop.

    `augmentation(image, rng)` takes one image as the processor does and returns a Pillow grey one ("L", or "F" on the
    scale 0..255 for finer input); an array comes back as a float32 array (H, W). Call it before the processor, in
    training only. There is no left-right flip and no way to ask for one: the report names the side.
    The defaults are our choice, gentle enough to keep nearly everything in view.
    """

    degrees: float = 5.0  # turn within +- this angle
    zoom: float = 0.05  # relative change of scale, within +- this
    shift: float = 0.03  # of each side, within +- this
    exposure: float = 0.1  # factor within 1 +- this
    contrast: float = 0.1  # factor within 1 +- this, about the film's own mean
    resize: int | None = None  # short side in pixels before a random crop ...
    crop: int | None = None  # ... of this side
    squash: bool = False  # resize both sides to `resize`

    def __post_init__(self) -> None:
        if (self.resize is None) != (self.crop is None) or (self.crop or 0) > (self.resize or 0):
            raise ValueError(f"`resize` and `crop` go together, `crop` <= `resize`. Got {self.resize}, {self.crop}.")
        for name in ("degrees", "zoom", "shift", "exposure", "contrast"):
            if not 0 <= getattr(self, name) < (45 if name == "degrees" else 1):
                raise ValueError(f"`{name}` must lie in [0, 1), or [0, 45) for degrees. Got {getattr(self, name)}.")

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "CXRAugmentation":
        """The training changes of a published system, without its flip. See `AUGMENTATION_PRESETS`."""
        return cls(**(find_preset(name, AUGMENTATION_PRESETS) | overrides))

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        """One film -> one film; the same generator state gives the same result."""
        grey = self._crop(self._move(self._jitter(read_grey(image), rng), rng), rng)  # light first: outside stays 0
        return grey if isinstance(image, (str, Path, Image.Image)) else np.asarray(grey, np.float32)

    def _move(self, grey: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Turn, zoom and shift in one resampling; what comes from outside is 0, like the processor's padding."""
        if not (self.degrees or self.zoom or self.shift):
            return grey
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        scale = 1 / rng.uniform(1 - self.zoom, 1 + self.zoom)
        width, height = grey.size
        x, y = np.array(grey.size) * (0.5 + rng.uniform(-self.shift, self.shift, 2))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)  # determinant scale^2 > 0: never mirrored
        matrix = (cos, sin, width / 2 - cos * x - sin * y, -sin, cos, height / 2 + sin * x - cos * y)
        return grey.transform(grey.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    def _crop(self, grey: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.resize is None or self.crop is None:
            return grey
        short = min(grey.size)
        width, height = (self.resize if self.squash else int(self.resize * side / short) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        left, top = (int(rng.integers(0, side - self.crop + 1)) for side in grey.size)
        return grey.crop((left, top, left + self.crop, top + self.crop))

    def _jitter(self, grey: Image.Image, rng: np.random.Generator) -> Image.Image:
        """pixel -> exposure * (mean + contrast * (pixel - mean)), clipped to 0..255; by a table for 8 bit."""
        if not (self.exposure or self.contrast):
            return grey
        exposure = rng.uniform(1 - self.exposure, 1 + self.exposure)
        contrast = rng.uniform(1 - self.contrast, 1 + self.contrast)
        pixels = np.asarray(grey)
        offset = exposure * (1 - contrast) * float(pixels.mean())
        if grey.mode == "L":
            table = np.clip(np.rint(exposure * contrast * np.arange(256) + offset), 0, 255)
            return grey.point(table.astype(int).tolist())
        return Image.fromarray(np.clip(exposure * contrast * pixels + offset, 0, 255).astype(np.float32))
