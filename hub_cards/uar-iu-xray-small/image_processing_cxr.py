"""Chest films to tensors: `CXRImageProcessor` (numpy and Pillow only). Train-time changes: `augmentation_cxr.py`.

Shapes: B studies, V views of a study, C channels, H = W = `size`. One image is a study of one view; a list of images
is that many studies of one view; a list of lists is studies of several views. Fewer views are padded with zeros.

A film is grey: colour files are turned to grey (Pillow's luma), and the one channel is repeated where a backbone wants
3. Pixels are brought to the scale 0..255 first: 8 bit as it is, 16 bit by the film's own lowest and highest value.
Left and right are never swapped: "left effusion" must stay left.
"""

import io
import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from transformers import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ImagesKwargs
from transformers.utils import is_torch_tensor

from .dicom_film import MOST_PIXELS, check_pixels, is_dicom, read_dicom

BILINEAR, BICUBIC = int(Image.Resampling.BILINEAR), int(Image.Resampling.BICUBIC)

# Test-time geometry of three published systems. What they do in training beside it: `CXRAugmentation.from_preset`.
PRESETS: dict[str, dict[str, Any]] = {
    # cuhksz-nlp/R2Gen modules/dataloaders.py, `transforms` of val and test: Resize((224, 224)), aspect lost.
    "r2gen": {"size": 224, "fit": "squash", "resample": BILINEAR}
    | {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    # RyanWangZf/MedCLIP medclip/dataset.py (MedCLIPFeatureExtractor) and constants.py: pad, bicubic, one grey channel.
    # There a film under 224 pixels is padded up to 224; here it is enlarged.
    "medclip": {"size": 224, "fit": "pad", "resample": BICUBIC}
    | {"image_mean": [0.5862785803], "image_std": [0.2795008897]},
    # UAR (ICCV 2023), implementation details: test films resized straight to 112x112. Pixels stay in [0, 1], because
    # the DALL-E tokenizer maps them itself (openai/DALL-E, map_pixels).
    "uar": {"size": 112, "fit": "squash", "resample": BILINEAR, "image_mean": [0.0], "image_std": [1.0]},
}

_SETTINGS = ("size", "resize", "fit", "num_channels", "image_mean", "image_std", "resample")
_FITS = ("pad", "crop", "squash")
_SMALLEST_SIDE = 8  # pixels; below it no anatomy is left, and a 1x1 file is a broken export
# What Pillow tries: of others one runs a program (Ghostscript, for EPS), and films are sent by strangers.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "JPEG2000", "WEBP", "PPM")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, the weights of Pillow's convert("L")


class CXRImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]  # its base is unread
    """Keywords of one call beside those of Transformers (size, image_mean, ...), for its merging of keywords."""

    resize: int | None
    fit: str | None
    num_channels: int | None


class CXRImageProcessor(BaseImageProcessor):
    r"""
    Turn chest films into `pixel_values` (B, V, C, size, size) float32 and `view_mask` (B, V) int64.

    `view_mask` is 1 for a film and 0 for padding; int64 like every `attention_mask` of Transformers, so that gathering
    and concatenating it across processes needs no special case.

    Args:
        size (`int`): side of the square output in pixels.
        resize (`int`, *optional*): side in pixels before the centre crop to `size`; `None` = `size`, nothing cropped.
        fit (`str`): "pad" to a square with zeros, then resize; "crop": resize the short side, then crop the centre;
            "squash": resize both sides, losing the aspect (only because R2Gen and UAR are tested so).
        num_channels (`int`): 1, or 3 = the grey channel repeated.
        image_mean, image_std (`list[float]`): of pixels in [0, 1]; one value, or one per channel.
        resample (`int`): Pillow's filter number (2 bilinear, 3 bicubic).

    The defaults are the preset "medclip", MCSAM's backbone. See `from_preset` for "r2gen" and "uar".
    """

    model_input_names = ["pixel_values", "view_mask"]
    valid_kwargs = CXRImageProcessorKwargs

    def __init__(
        self,
        size: int | dict[str, int] = 224,
        resize: int | None = None,
        fit: str = "pad",
        num_channels: int = 3,
        image_mean: float | Sequence[float] = (0.5862785803,),
        image_std: float | Sequence[float] = (0.2795008897,),
        resample: int = BICUBIC,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        values = (size, resize, fit, num_channels, image_mean, image_std, resample)
        for name, value in _check_settings(dict(zip(_SETTINGS, values, strict=True))).items():
            setattr(self, name, value)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "CXRImageProcessor":
        """The test-time geometry of a published system; `overrides` change single settings. See `PRESETS`."""
        return cls(**(find_preset(name, PRESETS) | overrides))

    def preprocess(self, images: Any, *, return_tensors: str | None = None, **overrides: Any) -> BatchFeature:
        """Films in any accepted nesting -> `pixel_values` (B, V, C, size, size) and `view_mask` (B, V).

        An image is a Pillow image, a path or the bytes of a file (PNG, JPEG, DICOM ...), an array or a tensor of
        (H, W), (H, W, C) or (C, H, W) with C in 1, 3, 4, of uint8 or any other number type (see `_scale_grey`).
        `overrides` are settings for this call.
        `return_tensors` is "pt", "np" or `None` (numpy too).

        Raises:
            FileNotFoundError: a path names nothing.
            ValueError: no image, a file that is no image or is cut off, a film under 8 pixels a side or over 80
                million, an unknown setting.
        """
        settings, studies = self._merge_settings(overrides), nest_images(images)
        size, channels = settings["size"], settings["num_channels"]
        views = max(map(len, studies))
        pixel_values = np.zeros((len(studies), views, channels, size, size), np.float32)  # (B, V, C, H, W)
        view_mask = np.zeros((len(studies), views), np.int64)  # (B, V)
        for b, study in enumerate(studies):
            for v, image in enumerate(study):
                grey = read_grey(image, None if isinstance(image, (str, Path)) else f"`images[{b}][{v}]`")
                _normalize(_fit_square(grey, settings), settings, out=pixel_values[b, v])
                view_mask[b, v] = 1
        return BatchFeature({"pixel_values": pixel_values, "view_mask": view_mask}, tensor_type=return_tensors)

    def fit_film(self, image: Any) -> Image.Image:
        """The geometry alone: one film -> a grey Pillow image (size, size), for those who hold films in memory.

        Without `resize` the processor leaves such a film as it is, so that `preprocess` gives the same pixels for it
        as for the film itself.
        """
        return _fit_square(read_grey(image), self._merge_settings({}))

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Where the model's square lies on an upright film of this size: left, top, right, bottom in film pixels.

        It reaches beyond the film with `fit` "pad", and leaves the ends of the long side out with "crop".
        """
        settings = self._merge_settings({})
        size, (target_width, target_height) = settings["size"], _target_size(width, height, settings)
        left, top = 0.0, 0.0
        if settings["fit"] == "pad":
            left, top = -((max(width, height) - width) // 2), -((max(width, height) - height) // 2)
            width = height = max(width, height)
        wide, high = width / target_width, height / target_height  # film pixels under one of the model's
        left += (target_width - size) // 2 * wide
        top += (target_height - size) // 2 * high
        return left, top, left + size * wide, top + size * high

    def _merge_settings(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Own settings with those of one call on top; `None` means "as configured", as everywhere in Transformers."""
        given = {name: value for name, value in overrides.items() if value is not None}
        own = {name: getattr(self, name) for name in _SETTINGS}
        if unknown := sorted(set(given) - set(own)):
            raise ValueError(f"Unknown image setting `{unknown[0]}`. `CXRImageProcessor` knows {', '.join(own)}.")
        return _check_settings(own | given) if given else own


def nest_images(images: Any) -> list[list[Any]]:
    """One image, a list of images or a list of lists -> B studies of 1..V images; a fourth array axis is a list."""
    if _is_image(images):
        return [[images]]
    if not _is_sequence(images):
        raise ValueError(f"`images` must be paths, Pillow images, arrays, or lists of them. Got {_describe(images)}.")
    studies = [[study] if _is_image(study) else study for study in images]
    if not studies:
        raise ValueError("`images` is an empty list: give at least one image.")
    for b, study in enumerate(studies):
        if not _is_sequence(study) or len(study) == 0 or not all(map(_is_image, study)):
            raise ValueError(f"`images[{b}]` must be an image or a study's list of images. Got {_describe(study)}.")
    return [list(study) for study in studies]


def read_grey(image: Any, where: str | None = None) -> Image.Image:
    """Any one accepted image -> Pillow "L" (8 bit) or "F" (finer), both on the scale 0..255, upright by its EXIF tag.

    `where` is how an error names this image; left out, a path names itself. Raises: see
    `CXRImageProcessor.preprocess`.
    """
    where = where or (f"`{image}`" if isinstance(image, (str, Path)) else "`image`")
    if isinstance(image, (str, Path, bytes)):
        grey = _open_grey(image if isinstance(image, bytes) else Path(image), where)
    elif isinstance(image, Image.Image):
        grey = _decode_grey(image, where)
    elif _is_image(image):
        grey = _array_to_grey(_to_numpy(image), where)
    else:
        kinds = "a Pillow image, a path, a file's bytes, an array or a tensor"
        raise ValueError(f"{where} must be {kinds}. Got {_describe(image)}.")
    if min(grey.size) < _SMALLEST_SIDE:
        raise ValueError(f"{where} is {grey.width}x{grey.height} pixels: a film has at least {_SMALLEST_SIDE} a side.")
    return grey


def open_picture(source: Path | bytes, where: str) -> Image.Image:
    """An image file, by its path or its bytes, as Pillow has it: not yet decoded, but for a DICOM film (8 bit grey).

    `where` is how an error names it.

    Raises:
        FileNotFoundError: the path names nothing.
        ImportError, ValueError: a folder, no image, more than 80 million pixels, or what `read_dicom` says.
    """
    if not isinstance(source, bytes):
        check_path(source, where)
        if os.path.isdir(source):
            raise ValueError(f"{where} is a folder. Give the image files in it.")
    if is_dicom(source):
        return Image.fromarray(read_dicom(source, where))
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
    except Image.DecompressionBombError as error:  # twice Pillow's own bound
        most = f"{MOST_PIXELS // 10**6} million pixels"
        raise ValueError(f"{where} is larger than a film, which has at most {most}. Shrink it.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{where} is no image that Pillow can read. Give a PNG, JPEG or DICOM file.") from error
    check_pixels(*image.size, where)
    return image


def is_picture(source: Path | bytes) -> bool:
    """Whether a file is one that Pillow opens, whatever its name; it is not decoded."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS):
            return True
    except Image.DecompressionBombError:  # refused when it is read
        return True
    except (OSError, ValueError, SyntaxError):
        return False


def check_path(path: Path, where: str) -> None:
    """Raise FileNotFoundError where a path names nothing."""
    if not os.path.exists(path):  # unlike Path.exists it takes any string, however long, for a path
        raise FileNotFoundError(f"No image at {where}: check the path.")


def _open_grey(source: Path | bytes, where: str) -> Image.Image:
    """Open and decode a file, or say in one line why not.

    A JPEG is decoded in full: Pillow's draft mode gained a fifth of the time on a 3000x2500 film, but rounds the
    padding of the smaller picture, so that a path and the same opened image would differ.
    """
    with open_picture(source, where) as image:
        return _decode_grey(image, where)


def _decode_grey(image: Image.Image, where: str) -> Image.Image:
    """Pillow image of any mode -> "L" or "F" on the scale 0..255. The first frame counts; transparency is dropped."""
    check_pixels(*image.size, where)
    try:
        image.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error ... for one fact
        reason = " ".join(str(error).split())
        raise ValueError(f"{where} is damaged or cut off ({reason}). Copy or export it again.") from error
    if image.getexif().get(0x0112, 1) != 1:  # EXIF tag "orientation"
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 and 32 bit grey: Pillow's own convert would clip at 255
        return _array_to_grey(np.asarray(image), where)
    direct = ("1", "LA", "P", "PA", "RGB", "RGBA")  # Pillow takes the others to grey by way of RGB only
    return image if image.mode == "L" else (image if image.mode in direct else image.convert("RGB")).convert("L")


def _array_to_grey(array: np.ndarray, where: str) -> Image.Image:
    """(H, W), (H, W, C) or (C, H, W) of any number type -> Pillow "L" (from uint8 grey) or "F", scale 0..255."""
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)) or array.size == 0:
        raise ValueError(f"{where} must hold numbers. Got {_describe(array)}.")
    if array.ndim == 3:
        array = _mix_channels(array, where)
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    return Image.fromarray(_scale_grey(array.astype(np.float32), np.issubdtype(array.dtype, np.integer), where))


def _mix_channels(array: np.ndarray, where: str) -> np.ndarray:
    """(H, W, C) or (C, H, W) with C in 1, 3, 4 -> (H, W) of the same type; a fourth channel (alpha) is dropped."""
    if array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.shape[2] not in (1, 3, 4):
        raise ValueError(f"{where} must be (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels. Got {array.shape}.")
    grey = array[..., :3] @ _LUMA if array.shape[2] > 1 else array[..., 0]
    return np.rint(grey).astype(array.dtype) if np.issubdtype(array.dtype, np.integer) else grey


def _scale_grey(array: np.ndarray, integer: bool, where: str) -> np.ndarray:
    """(H, W) float32 -> the scale 0..255.

    Floats in [0, 1] are taken as rescaled pixels and floats in [0, 255] as 8 bit ones; everything else (16 and 32 bit
    integers, signed or larger floats) is stretched from its own lowest to its own highest value, because 12 bit films
    in 16 bit files would come out nearly black otherwise.
    """
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # one NaN makes both of them NaN
        raise ValueError(f"{where} holds NaN or infinite values. Remove them first.")
    if not integer and low >= 0 and high <= 255:
        return array * np.float32(255) if high <= 1 else array
    return (array - np.float32(low)) * np.float32(255 / (high - low) if high > low else 0)


def _fit_square(grey: Image.Image, settings: dict[str, Any]) -> Image.Image:
    """Pad, crop or squash to `size` x `size`; rounding as torchvision's Resize and Pillow's paste have it."""
    size, (width, height) = settings["size"], grey.size
    if settings["fit"] == "pad" and width != height:
        square = Image.new(grey.mode, (max(grey.size),) * 2, 0)
        square.paste(grey, ((square.width - width) // 2, (square.width - height) // 2))
        grey = square
    target = _target_size(width, height, settings)
    if grey.size != target:
        grey = grey.resize(target, settings["resample"], reducing_gap=3.0)  # 3.0: Pillow calls it indistinguishable
    left, top = (grey.width - size) // 2, (grey.height - size) // 2
    return grey if grey.size == (size, size) else grey.crop((left, top, left + size, top + size))


def _target_size(width: int, height: int, settings: dict[str, Any]) -> tuple[int, int]:
    """Size of a film (of the square that it was padded to) after resizing, before the centre is cropped."""
    side = settings["resize"] or settings["size"]
    if settings["fit"] == "crop":
        return int(side * width / min(width, height)), int(side * height / min(width, height))
    return side, side


def _normalize(grey: Image.Image, settings: dict[str, Any], out: np.ndarray) -> None:
    """Write (pixel / 255 - mean) / std of each channel into `out` (C, H, W)."""
    mean, std = (np.resize(settings[name], (len(out), 1, 1)) for name in ("image_mean", "image_std"))  # one repeats
    pixels = np.asarray(grey).clip(0, 255)  # (H, W); in "F" bicubic overshoots, "L" cannot
    np.multiply(pixels, (1 / (255 * std)).astype(np.float32), out=out)
    out -= (mean / std).astype(np.float32)


def _check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON-clean values (int, str, lists of float), or one line on the first that cannot be."""
    size = _to_side(settings["size"], "size")
    resize = None if settings["resize"] is None else _to_side(settings["resize"], "resize")
    if resize is not None and resize < size:
        raise ValueError(f"`resize` (the side before cropping) must be at least `size`. Got {resize} < {size}.")
    if settings["fit"] not in _FITS:
        raise ValueError(f"`fit` must be one of {', '.join(_FITS)}. Got {settings['fit']!r}.")
    if settings["num_channels"] not in (1, 3):
        raise ValueError(f"`num_channels` must be 1 or 3. Got {settings['num_channels']!r}.")
    statistics = {name: [float(x) for x in np.atleast_1d(settings[name])] for name in ("image_mean", "image_std")}
    for name, values in statistics.items():
        if len(values) not in (1, settings["num_channels"]) or (name == "image_std" and min(values) <= 0):
            raise ValueError(f"`{name}` must hold one value, or one a channel (a std above 0). Got {values}.")
    return settings | {"size": size, "resize": resize, "resample": int(settings["resample"])} | statistics


def _to_side(value: Any, name: str) -> int:
    """An int, or {"height": n, "width": n} or [n, n], as Transformers likes to write it -> n."""
    sides = list(value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value])
    side = sides[0] if sides and sides.count(sides[0]) == len(sides) else 0
    if not isinstance(side, int) or side < _SMALLEST_SIDE:
        raise ValueError(f"`{name}` must be one side of a square, at least {_SMALLEST_SIDE} pixels. Got {value!r}.")
    return side


def find_preset(name: str, presets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings of a published system, or one line that lists those there are."""
    if name not in presets:
        raise ValueError(f"Unknown preset {name!r}. Choose one of {', '.join(presets)}.")
    return presets[name]


def _is_image(value: Any) -> bool:
    """One image, not a batch: a path, a file's bytes, a Pillow image, an array or tensor of two or three axes."""
    return isinstance(value, (str, Path, bytes, Image.Image)) or (_is_array(value) and value.ndim in (2, 3))


def _is_sequence(value: Any) -> bool:
    """Several images: a list, or an array or tensor of more than three axes."""
    return isinstance(value, (list, tuple)) or (_is_array(value) and value.ndim > 3)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_torch_tensor(value)


def _to_numpy(value: Any) -> np.ndarray:
    """Array or tensor -> array; bfloat16, unknown to numpy, goes through float32."""
    if not is_torch_tensor(value):
        return value
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() else value).numpy()


def _describe(value: Any) -> str:
    """Type, and for arrays shape and number type, in one line for an error."""
    if _is_array(value):
        return f"an array of shape {tuple(value.shape)} and type {value.dtype}"
    if isinstance(value, (list, tuple)):
        kinds = sorted({type(item).__name__ for item in value})
        return f"a list of {', '.join(kinds)}" if kinds else "an empty list; leave that study out"
    return type(value).__name__
