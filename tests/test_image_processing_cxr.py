"""Films of every accepted kind to tensors, bad ones refused in one line, and augmentation that never flips."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from radscribe.processing.image_processing_cxr import PRESETS, CXRImageProcessor, nest_images


@pytest.fixture
def processor():
    """No normalisation: output is the grey level in [0, 1]."""
    return CXRImageProcessor(size=32, num_channels=1, image_mean=[0.0], image_std=[1.0])


@pytest.fixture
def film():
    """A smooth 40 x 48 (H, W) grey film, darker to the left."""
    return np.linspace(10, 240, 40 * 48).reshape(48, 40).T.astype(np.uint8).copy()


def pixels(processor, image, **settings):
    return processor(image, **settings)["pixel_values"][0, 0, 0]  # (H, W)


# what comes in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        lambda film: Image.fromarray(film).convert("RGB"),
        lambda film: Image.fromarray(film).convert("RGBA"),
        lambda film: Image.fromarray(film).convert("LA"),
        lambda film: Image.fromarray(film).convert("P"),
        lambda film: film[..., None],
        lambda film: film[None],
        lambda film: np.repeat(film[..., None], 3, -1),
        lambda film: np.repeat(film[None], 3, 0),
        lambda film: film.astype(np.float32),
        lambda film: film / 255,
        lambda film: torch.from_numpy(film),
        lambda film: torch.from_numpy(film)[None].expand(3, -1, -1),
        lambda film: torch.from_numpy(film)[None] / 255,
        lambda film: (torch.from_numpy(film)[None] / 255).bfloat16(),
    ],
)
def test_every_kind_of_image_gives_the_same_pixels(processor, film, convert):
    np.testing.assert_allclose(pixels(processor, convert(film)), pixels(processor, film), atol=1.5 / 255)


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_png_path_equals_the_opened_image(processor, film, tmp_path, as_path):
    Image.fromarray(film).save(tmp_path / "film.png")
    np.testing.assert_array_equal(pixels(processor, as_path(tmp_path / "film.png")), pixels(processor, film))


def test_jpeg_path_equals_the_opened_image(processor, film, tmp_path):
    Image.fromarray(film).resize((800, 600)).save(tmp_path / "film.jpg")
    np.testing.assert_array_equal(
        pixels(processor, tmp_path / "film.jpg"), pixels(processor, Image.open(tmp_path / "film.jpg"))
    )


@pytest.mark.parametrize("kind", ["array", "pillow", "png", "int32"])
def test_16_bit_is_stretched_by_its_own_range(processor, film, kind, tmp_path):
    deep = film.astype(np.uint16) * 16 + 100  # a 12 bit film in a 16 bit file
    image = {"array": deep, "pillow": Image.fromarray(deep), "int32": deep.astype(np.int32)}.get(kind)
    if kind == "png":
        Image.fromarray(deep).save(image := tmp_path / "deep.png")
    wanted = (film.astype(np.float32) - film.min()) / (film.max() - film.min())
    np.testing.assert_allclose(pixels(processor, image), pixels(processor, wanted), atol=1e-4)


def test_film_of_one_grey_level_gives_finite_pixels(processor):
    assert np.isfinite(pixels(processor, np.full((20, 20), 7, np.uint16))).all()


def test_sideways_jpeg_is_set_upright_by_its_exif_tag(processor, film, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(film).rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(processor, tmp_path / "turned.png"), pixels(processor, film))


# what comes out -----------------------------------------------------------------------------------------------------


def test_one_image_is_one_study_of_one_view(processor, film):
    assert processor(film)["pixel_values"].shape == (1, 1, 1, 32, 32)


def test_list_is_that_many_studies(processor, film):
    assert processor([film, film, film])["view_mask"].tolist() == [[1], [1], [1]]


def test_array_of_four_axes_is_a_list(processor, film):
    assert processor(np.stack([film[None]] * 2))["pixel_values"].shape == (2, 1, 1, 32, 32)


def test_studies_of_fewer_views_are_padded_with_zeros(processor, film):
    batch = processor([[film, film], [film]])
    assert batch["view_mask"].tolist() == [[1, 1], [1, 0]]
    assert not batch["pixel_values"][1, 1].any()


def test_tensors_are_float32_and_int64(processor, film):
    batch = processor([film], return_tensors="pt")
    assert (batch["pixel_values"].dtype, batch["view_mask"].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("return_tensors", [None, "np"])
def test_without_torch_arrays_come_back(processor, film, return_tensors):
    assert isinstance(processor(film, return_tensors=return_tensors)["pixel_values"], np.ndarray)


def test_three_channels_repeat_the_grey_one(film):
    channels = CXRImageProcessor(size=32)(film)["pixel_values"][0, 0]
    assert (channels == channels[0]).all() and len(channels) == 3


def test_each_channel_has_its_own_mean_and_std(film):
    preset = CXRImageProcessor.from_preset("r2gen", size=32)
    grey = CXRImageProcessor(size=32, fit="squash", num_channels=1, image_mean=[0], image_std=[1], resample=2)
    mean, std = (np.array(PRESETS["r2gen"][name]).reshape(3, 1, 1) for name in ("image_mean", "image_std"))
    wanted = (grey(film)["pixel_values"][0, 0] - mean) / std
    np.testing.assert_allclose(preset(film)["pixel_values"][0, 0], wanted, atol=1e-5)


# geometry -----------------------------------------------------------------------------------------------------------


def test_pad_keeps_the_aspect_and_fills_with_black(processor):
    tall = np.full((64, 32), 200, np.uint8)
    out = pixels(processor, tall)
    assert out[:, 10:22].min() > 0.7 and out[:, :6].max() == 0 and out[:, -6:].max() == 0


def test_crop_keeps_the_aspect_and_the_centre(processor):
    wide = np.zeros((32, 96), np.uint8)
    wide[:, 32:64] = 200
    assert pixels(processor, wide, fit="crop").min() > 0.7


def test_squash_keeps_every_pixel(processor):
    wide = np.zeros((32, 96), np.uint8)
    wide[:, 48:] = 200
    assert pixels(processor, wide, fit="squash").mean() == pytest.approx(100 / 255, abs=0.02)


def test_resize_above_size_crops_the_border_away(processor):
    framed = np.zeros((64, 64), np.uint8)
    framed[8:56, 8:56] = 200
    assert pixels(processor, framed, resize=48).min() > 0.7


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(8, 8), (9, 300), (300, 9), (31, 33), (257, 100)])
def test_every_shape_comes_out_square(processor, fit, shape):
    assert pixels(processor, np.zeros(shape, np.uint8), fit=fit, resize=40).shape == (32, 32)


def test_left_stays_left(processor, film):
    out = pixels(processor, film)
    assert out[:, :16].mean() < out[:, 16:].mean()


@pytest.mark.parametrize(("name", "size"), [("r2gen", 224), ("medclip", 224), ("uar", 112)])
def test_presets_have_their_published_size(name, size, film):
    assert CXRImageProcessor.from_preset(name)(film)["pixel_values"].shape == (1, 1, 3, size, size)


def test_defaults_are_the_medclip_preset():
    assert CXRImageProcessor().to_dict() == CXRImageProcessor.from_preset("medclip").to_dict()


def test_uar_pixels_stay_between_0_and_1(film):
    out = CXRImageProcessor.from_preset("uar")(film)["pixel_values"]
    assert 0 <= out.min() and out.max() <= 1


# saving -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_saved_processor_is_the_same_after_loading(name, tmp_path, film):
    saved = CXRImageProcessor.from_preset(name, resize=240)
    saved.save_pretrained(tmp_path)
    loaded = CXRImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == saved.to_dict()
    np.testing.assert_array_equal(loaded(film)["pixel_values"], saved(film)["pixel_values"])


def test_settings_are_json_clean():
    settings = CXRImageProcessor(image_mean=np.float32(0.5), size={"height": 64, "width": 64}).to_dict()
    assert json.loads(json.dumps(settings)) == settings and settings["size"] == 64


def test_loading_takes_overrides(tmp_path):
    CXRImageProcessor().save_pretrained(tmp_path)
    assert CXRImageProcessor.from_pretrained(tmp_path, size=64).size == 64


# bad input ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_files(tmp_path):
    """Files and folders that are no film, by name."""
    (tmp_path / "text.jpg").write_text("not an image")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    Image.new("L", (64, 64)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("text.jpg", ValueError, "is no image that Pillow can read"),
        ("cut.jpg", ValueError, "is damaged or cut off"),
        ("cut.png", ValueError, "is damaged or cut off"),
        ("dot.png", ValueError, "is 1x1 pixels"),
        ("folder", ValueError, "is a folder"),
        ("missing.png", FileNotFoundError, "No image at"),
        ("x" * 5000, FileNotFoundError, "No image at"),
    ],
)
def test_bad_file_is_refused_in_one_line_that_names_it(processor, bad_files, name, kind, message):
    with pytest.raises(kind, match=message) as error:
        processor(bad_files / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_bytes_are_read_as_their_file(processor, bad_files):
    path = bad_files / "good.png"
    np.testing.assert_array_equal(processor(path.read_bytes())["pixel_values"], processor(path)["pixel_values"])


@pytest.mark.parametrize(
    "content", [b"", b"notes", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n"]
)
def test_bytes_that_are_no_film_are_refused_in_one_line(processor, content):
    with pytest.raises(ValueError, match=r"^`images\[0\]\[1\]` is no image that Pillow can read."):
        processor([[np.zeros((20, 20)), content]])


def tower(width, height):
    """A PNG that says it is so large, and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("size", [(9000, 8900), (9000, 9500), (40000, 40000)])  # Pillow: nothing, a warning, an error
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_film_of_too_many_pixels_is_refused_in_one_line(processor, size, monkeypatch):
    monkeypatch.setattr(Image.core, "zip_decoder", lambda *_: pytest.fail("decoded"))
    with pytest.raises(
        ValueError, match=r"^`images\[0\]\[0\]` is [^\n]* film[^\n]*at most 80 million[^\n]*Shrink it.$"
    ):
        processor(tower(*size))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "is an empty list"),
        ([[]], r"`images\[0\]` must be an image or a study's list of images. Got an empty list"),
        (None, "Got NoneType"),
        ([3], r"`images\[0\]` .* Got int"),
        ([[np.zeros((20, 20)), "a", None]], "Got a list of NoneType, ndarray, str"),
        ([[[np.zeros((20, 20))]]], "Got a list of list"),
        (np.zeros((5, 20, 20)), r"`images\[0\]\[0\]` must be \(H, W\)"),
        (np.zeros((20, 20), "U1"), "must hold numbers"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.zeros((7, 300), np.uint8), "is 300x7 pixels"),
    ],
)
def test_bad_images_are_refused_in_one_line(processor, images, message):
    with pytest.raises(ValueError, match=message) as error:
        processor(images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "stretch"}, "`fit` must be one of pad, crop, squash"),
        ({"size": 0}, "`size` must be one side"),
        ({"size": {"height": 64, "width": 32}}, "`size` must be one side"),
        ({"size": 64, "resize": 32}, "`resize` .* at least `size`"),
        ({"num_channels": 2}, "`num_channels` must be 1 or 3"),
        ({"image_mean": [0.1, 0.2]}, "`image_mean` must hold one value"),
        ({"image_std": [0.0]}, "`image_std` must hold"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CXRImageProcessor(**settings)


def test_unknown_setting_of_a_call_is_refused(processor, film):
    with pytest.raises(ValueError, match="Unknown image setting `flip`"):
        processor(film, flip=True)


def test_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="Unknown preset 'clip'. Choose one of r2gen, medclip, uar"):
        CXRImageProcessor.from_preset("clip")


def test_nesting_keeps_the_order_of_studies_and_views():
    assert nest_images([["a", "b"], "c"]) == [["a", "b"], ["c"]]


# augmentation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_a_fitted_film_gives_the_same_pixels_as_the_film(fit, film):
    processor = CXRImageProcessor(size=32, fit=fit)
    fitted = processor.fit_film(film)
    assert fitted.size == (32, 32)
    np.testing.assert_array_equal(pixels(processor, fitted), pixels(processor, film))


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("resize", [None, 60])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (131, 80), (64, 110)])
def test_the_box_of_what_is_seen_leads_back_to_the_film(fit, resize, height, width):
    """A bright square's centre of mass in the model's pixels, taken back to the film's."""
    processor = CXRImageProcessor(size=48, resize=resize, fit=fit, num_channels=1, image_mean=[0.0], image_std=[1.0])
    film = np.zeros((height, width), np.uint8)
    top, left = height // 2 - 10, width // 2 + 2
    film[top : top + 16, left : left + 12] = 255
    pixels = processor([film])["pixel_values"][0, 0, 0]
    rows, columns = np.indices(pixels.shape) + 0.5
    y, x = (rows * pixels).sum() / pixels.sum() / 48, (columns * pixels).sum() / pixels.sum() / 48
    box = processor.seen_box(width, height)
    assert box[0] + x * (box[2] - box[0]) == pytest.approx(left + 6, abs=1.2)
    assert box[1] + y * (box[3] - box[1]) == pytest.approx(top + 8, abs=1.2)


def test_the_box_of_a_padded_film_reaches_beyond_it():
    assert CXRImageProcessor(size=32, fit="pad").seen_box(100, 200) == (-50, 0, 150, 200)
