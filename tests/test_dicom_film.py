"""DICOM films come out as their PNGs do, whatever the file's shades are; what is no single grey film is refused."""

import numpy as np
import pytest
from PIL import Image

from radscribe.processing import dicom_film
from radscribe.processing.dicom_film import FILM_TAGS, is_dicom, read_dicom, read_view
from radscribe.processing.image_processing_cxr import CXRImageProcessor, read_grey
from tests.tools.make_dicom import PATIENT, make_dicom, told

pydicom = pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def film():
    """A smooth film of 8 bit that uses all shades, 48 x 40."""
    rows, columns = np.mgrid[0:48, 0:40]
    grey = 127.5 + 127.5 * np.sin(rows / 9) * np.cos(columns / 7)
    return np.rint((grey - grey.min()) / (grey.max() - grey.min()) * 255).astype(np.uint8)


@pytest.fixture
def write(tmp_path):
    """write(pixels, **tags): a DICOM file of these stored values."""

    return lambda pixels, name="film.dcm", **given: make_dicom(tmp_path / name, pixels, **given)


def close(a, b):
    """Equal within rounding."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


def as_stored(film, bits):
    """Film values on the scale of so many bits."""
    return np.rint(film / 255 * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_window_over_all_values_gives_the_film(film, write, bits):
    full = 2**bits
    path = write(as_stored(film, bits), bits=bits, WindowCenter=full / 2, WindowWidth=full)
    assert close(read_dicom(path), film)


@pytest.mark.parametrize("syntax", ["rle", "jpeg2000"])
def test_compressed_pixels_are_decoded(film, write, syntax):
    path = write(as_stored(film, 12), bits=12, syntax=syntax, WindowCenter=2048, WindowWidth=4096)
    assert close(read_dicom(path), film)


def test_the_first_of_several_windows_counts(film, write):
    path = write(film, WindowCenter=[128, 40], WindowWidth=[256, 10])
    assert close(read_dicom(path), film)


def test_a_narrow_window_makes_black_and_white(film, write):
    grey = read_dicom(write(film, WindowCenter=128, WindowWidth=2))
    assert (grey[film < 120] == 0).all() and (grey[film > 136] == 255).all()


def test_monochrome1_is_turned_over_once(film, write):
    path = write(255 - film, WindowCenter=128, WindowWidth=256, PhotometricInterpretation="MONOCHROME1")
    assert close(read_dicom(path), film)


def test_monochrome1_with_a_presentation_lut_is_turned_over_once_too(film, write):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    assert close(read_dicom(write(255 - film, WindowCenter=128, WindowWidth=256, **tags)), film)


def test_rescaling_comes_before_the_window(film, write):
    path = write(film, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=155, WindowWidth=512)
    assert close(read_dicom(path), film)


def test_without_a_window_percentiles_make_black_and_white(film, write):
    stored = as_stored(film, 12)
    stored[0, 0] = 4095
    grey = read_dicom(write(stored // 3, bits=12))
    assert grey.min() == 0 and grey.max() == 255
    low, high = np.percentile(stored // 3, (0.5, 99.5))
    assert close(grey, np.rint(255 * ((stored // 3 - low) / (high - low)).clip(0, 1)))


def test_signed_values_are_read_as_such(film, write):
    path = write(film.astype(np.int16) - 128, signed=True, WindowCenter=0, WindowWidth=256)
    assert close(read_dicom(path), film)


def test_a_voi_lut_is_looked_up(film, write):
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [256, 0, 16], np.arange(255, -1, -1, dtype=np.uint16).tobytes()
    path = write(film, VOILUTSequence=pydicom.Sequence([lut]))
    assert close(read_dicom(path), 255 - film)


def test_the_processor_takes_a_dicom_as_its_png(film, write, tmp_path):
    Image.fromarray(film).save(tmp_path / "film.png")
    path = write(as_stored(film, 12), bits=12, WindowCenter=2048, WindowWidth=4096)
    processor = CXRImageProcessor(size=32, num_channels=1, image_mean=[0.0], image_std=[1.0])
    pixels = [processor([str(name)]).pixel_values for name in (path, tmp_path / "film.png")]
    assert np.abs(np.asarray(pixels[0]) - np.asarray(pixels[1])).max() <= 1.01 / 255


def test_a_dicom_is_known_by_its_content(film, write):
    path = write(film, name="film.png")
    assert is_dicom(path) and read_grey(str(path)).size == (40, 48)


@pytest.mark.parametrize(
    ("position", "view"), [("PA", "frontal"), ("AP", "frontal"), ("LL", "lateral"), ("LATERAL", "lateral"), ("", "")]
)
def test_the_view_is_what_the_file_says(film, write, position, view):
    assert read_view(write(film, ViewPosition=position)) == view


def test_colour_is_refused(film, write):
    colour = np.repeat(film[..., None], 3, -1)
    path = write(colour[..., 0], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    with pytest.raises(ValueError, match=r"must be a grey film \(MONOCHROME1 or 2\). Got RGB.$"):
        read_dicom(path)


def test_several_frames_are_refused(film, write):
    path = write(np.stack([film, film]), NumberOfFrames=2)
    with pytest.raises(ValueError, match="must hold one film. Got 2 frames: export them one by one.$"):
        read_dicom(path)


@pytest.mark.parametrize("frames", [b"1", b"01", b"0", b""])
@pytest.mark.filterwarnings("ignore:A value of .* for .0028,0008. 'Number of Frames' is invalid:UserWarning")
def test_one_frame_is_a_film_however_it_is_written(film, write, frames):
    path = write(film, WindowCenter=128, WindowWidth=256, raw={"NumberOfFrames": frames})
    assert close(read_dicom(path), film)


def test_a_file_without_pixels_is_refused(film, write):
    path = write(film)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(ValueError, match="holds no pixels. Give the file of a film.$"):
        read_dicom(path)


def test_pixels_that_are_cut_short_are_one_line(film, write):
    path = write(as_stored(film, 12), bits=12, syntax="jpeg2000")
    data = pydicom.dcmread(path)
    data.PixelData = data.PixelData[:200] + b"\x00" * 20
    data.save_as(path)
    with pytest.raises(ValueError, match=r"^`[^\n]*`: its pixels cannot be decoded \([^\n]*\).$"):
        read_dicom(path)


def test_no_tag_of_a_patient_is_on_the_list_or_in_memory(film, write):
    assert not [tag for tag in FILM_TAGS if tag.startswith(("Patient", "Study", "Institution", "Referring"))]
    assert not any(word in str(dicom_film._load(write(film), "it")) for word in PATIENT)


@pytest.mark.parametrize(
    "tag", ["ViewPosition", "PhotometricInterpretation", "WindowCenter", "NumberOfFrames", "VOILUTFunction", "Rows"]
)
def test_a_name_in_a_tag_of_the_list_is_not_said_again(film, write, tag, recwarn, caplog):
    path = write(film, WindowCenter=128, WindowWidth=256, raw={tag: PATIENT[0].encode()})
    recwarn.clear()
    caplog.clear()
    said = [told(read, path) for read in (read_dicom, read_view)]
    assert not any(word in text for word in PATIENT for text in [*said, *told_by(recwarn, caplog)])


@pytest.mark.parametrize("length", [b"UI\x14\0", b"CS\x0a\0"])  # of the transfer syntax, of the character set
def test_a_damaged_length_says_nothing_of_the_patient(film, write, length, recwarn, caplog):
    path = write(film, PatientName=PATIENT[0])
    data = path.read_bytes()
    assert data.count(length) >= 1
    path.write_bytes(data.replace(length, length[:2] + b"\0\2"))
    recwarn.clear()
    caplog.clear()
    said = [told(read, path) for read in (read_dicom, read_view)]
    assert not any(word in text for word in PATIENT for text in [*said, *told_by(recwarn, caplog)])


def told_by(recwarn, caplog):
    """What was warned and logged."""
    return [str(warning.message) for warning in recwarn] + [caplog.text]


def test_bytes_are_read_as_their_file(film, write):
    path = write(film, ViewPosition="LL")
    data = path.read_bytes()
    assert is_dicom(data) and read_view(data) == "lateral" and (read_dicom(data) == read_dicom(path)).all()


def test_bytes_are_called_what_the_caller_says(film, write):
    with pytest.raises(ValueError, match="^film 3 must hold one film. Got 2 frames"):
        read_dicom(write(np.stack([film, film]), NumberOfFrames=2).read_bytes(), "film 3")


def test_a_file_that_is_no_film_has_no_view(film, write):
    path = write(film)
    data = pydicom.dcmread(path)
    del data.PixelData, data.Rows
    data.save_as(path)
    assert read_view(path) is None


def test_too_many_pixels_are_refused_before_they_are_decoded(film, write, monkeypatch):
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(lambda _: pytest.fail("decoded")))
    with pytest.raises(ValueError, match="is 60000x60000 pixels: a film has at most 80 million. Shrink it.$"):
        read_dicom(write(film, Rows=60000, Columns=60000))


def test_too_many_pixels_that_the_tags_do_not_tell_are_refused(film, write, monkeypatch):
    path = write(film, syntax="jpeg2000")
    monkeypatch.setattr(dicom_film, "MOST_PIXELS", 40 * 48 - 1)
    monkeypatch.setattr(dicom_film, "_check", lambda *_: None)
    with pytest.raises(ValueError, match=r"cannot be decoded \(it is 40x48 pixels: a film has at most"):
        read_dicom(path)


def test_a_deflated_file_is_not_inflated(film, write):
    path = write(film)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"))
    with pytest.raises(ValueError, match="is a deflated DICOM file. Save it uncompressed, or as JPEG 2000.$"):
        read_dicom(path)


def test_a_file_that_is_too_large_is_not_read(film, write, monkeypatch):
    monkeypatch.setattr(dicom_film, "MOST_BYTES", 2**10)
    with pytest.raises(ValueError, match="film.dcm` is larger than 0 MB. Give the file of a film.$"):
        read_view(write(film))


def test_without_pydicom_the_way_out_is_named(film, write, monkeypatch):
    path = write(film)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"needs pydicom: pip install radscribe\[dicom\].$"):
        read_dicom(path)
