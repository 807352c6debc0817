"""A folder or zip of a study's files is one study; what is no film is passed over, no name of a patient is said."""

import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from radscribe.processing import study_files
from radscribe.processing.image_processing_cxr import CXRImageProcessor, read_grey
from radscribe.processing.study_files import StudyFilm, open_study, study_name
from tests.tools.make_dicom import PATIENT, make_dicom, told

FILM = np.arange(20 * 16, dtype=np.uint16).reshape(20, 16) % 250


def picture(grey=100):
    file = io.BytesIO()
    Image.new("L", (16, 20), grey).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def dicom(tmp_path):
    """dicom(ViewPosition="PA"): the bytes of a DICOM film."""
    pytest.importorskip("pydicom")
    return lambda pixels=FILM, **tags: make_dicom(tmp_path / "made" / "film.dcm", pixels, **tags).read_bytes()


@pytest.fixture
def pack(tmp_path):
    """pack({"a.png": bytes}): a zip of these files."""

    def make(files, method=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "study.zip", "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return tmp_path / "study.zip"

    return make


@pytest.fixture
def lay(tmp_path):
    """lay({"a.png": bytes}): a folder of these files."""

    def make(files):
        for name, content in files.items():
            path = tmp_path / "study" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "study"

    return make


@pytest.fixture(params=["folder", "zip"])
def store(request, lay, pack):
    """store({"a.png": bytes}): a folder of these files, or a zip."""
    return {"folder": lay, "zip": pack}[request.param]


def greys(films):
    return [int(np.asarray(read_grey(film.film)).mean()) for film in films]


def test_named_files_keep_their_order(draw_film):
    paths = [draw_film("b.png"), draw_film("a.png")]
    assert open_study(paths) == [StudyFilm(path, "", f"`{path}`") for path in paths]


def test_films_of_a_folder_or_zip_come_in_the_order_of_their_names(store):
    assert greys(open_study([store({"b.png": picture(20), "in/it/c.png": picture(30), "a": picture(10)})])) == [
        10,
        20,
        30,
    ]


def test_frontal_films_come_before_lateral_ones(store, dicom):
    films = open_study([store({"a": dicom(ViewPosition="LL"), "b": picture(), "c": dicom(ViewPosition="PA")})])
    assert [film.view for film in films] == ["frontal", "", "lateral"]


def test_several_sources_are_one_study(lay, pack, dicom, draw_film):
    sources = [draw_film("x.png"), pack({"a": dicom(ViewPosition="LL")}), lay({"b": dicom(ViewPosition="AP")})]
    assert [film.view for film in open_study(sources)] == ["frontal", "", "lateral"]


OTHERS = {
    "hidden": (".film.png", picture()),
    "in a hidden folder": (".git/film.png", picture()),
    "of a Mac": ("__MACOSX/film.png", picture()),
    "a disc's list": ("DICOMDIR", bytes(128) + b"DICM"),
    "text": ("report.txt", b"No effusion."),
    "named as a picture": ("film.png", b"{}"),
    "empty": ("empty.dcm", b""),
    "a letter": ("report.docx", b"PK\3\4" + bytes(26) + b"[Content_Types].xml"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_film_is_passed_over(store, kind):
    name, content = OTHERS[kind]
    assert len(open_study([store({"a.bin": picture(), name: content})])) == 1


def test_a_dicom_file_without_pixels_is_passed_over(store, dicom, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(io.BytesIO(dicom()))
    del data.PixelData, data.Rows
    report = io.BytesIO()
    data.save_as(report)
    assert len(open_study([store({"a": dicom(), "b": report.getvalue()})])) == 1


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"none"}, {".film.png": picture()}])
def test_nothing_left_is_one_line(store, files, tmp_path):
    (tmp_path / "study").mkdir()
    with pytest.raises(
        ValueError, match=r"^`[^\n]*study(\.zip)?` holds no film. Give a (folder|zip) of DICOM, PNG or"
    ):
        open_study([store(files)])


def test_a_processor_takes_the_films_of_a_zip_as_those_of_their_files(lay, pack, dicom):
    files = {"a.dcm": dicom(ViewPosition="PA"), "b.png": picture()}
    processor = CXRImageProcessor(size=16)
    studies = [[film.film for film in open_study([source])] for source in (lay(files), pack(files))]
    pixels = np.asarray(processor(studies)["pixel_values"])
    assert pixels.shape == (2, 2, 3, 16, 16) and (pixels[0] == pixels[1]).all()


def test_a_study_is_called_after_its_first_source(lay, pack):
    folder = lay({"a.png": picture()})
    assert [study_name(path) for path in (folder, pack({}), folder / "a.png")] == ["study", "study", "a"]


def test_a_path_that_names_nothing_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="^No image at `[^\n]*gone.zip`: check the path.$"):
        open_study([tmp_path / "gone.zip"])


def test_too_many_files_are_refused(store):
    with pytest.raises(ValueError, match="holds more than 64 files. Give those of one study.$"):
        open_study([store({f"{i}.txt": b"" for i in range(65)})])


def test_a_zip_within_is_refused(store, pack):
    with pytest.raises(ValueError, match=r"^file 2 of `[^\n]*` is a zip itself. Unpack it first.$"):
        open_study([store({"a.png": picture(), "b.zip": pack({"a.png": picture()}).read_bytes()})])


# zips ---------------------------------------------------------------------------------------------------------------


def change(path, offset, content, signature=b"PK\1\2"):
    """Overwrite a field of the first entry of a zip's list."""
    data = bytearray(path.read_bytes())
    at = data.index(signature) + offset
    data[at : at + len(content)] = content
    path.write_bytes(bytes(data))
    return path


def test_nothing_of_a_zip_is_written_to_disk(pack, tmp_path):
    path = pack({"../../a.png": picture(), "b.png": picture()})
    before = sorted(tmp_path.rglob("*"))
    assert len(open_study([path])) == 1  # a name that leads out of it is passed over
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_bomb_is_refused_before_it_is_unpacked(pack, monkeypatch):
    path = change(pack({"a": b"small"}), 24, struct.pack("<I", 2**28 + 1))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match="holds more than 256 MB when unpacked. Give the films of one study.$"):
        open_study([path])


def test_no_more_is_unpacked_than_was_said(pack):
    path = pack({"a": bytes(10**6)})
    with pytest.raises(ValueError, match="is a damaged zip. Copy or export it again.$"):
        open_study([change(path, 24, struct.pack("<I", 1000))])


def test_members_are_bounded_together_while_they_are_read(pack, monkeypatch):
    path = pack({"a": bytes(1000), "b": bytes(1000)})
    monkeypatch.setattr(study_files, "_list_zip", lambda archive, where: archive.infolist())
    monkeypatch.setattr(study_files, "MOST_BYTES", 1999)
    with pytest.raises(ValueError, match="when unpacked"):
        open_study([path])


@pytest.mark.parametrize(("most", "said"), [(1000, "StudyFilm"), (40, "holds more than 64 files")])
def test_a_long_list_of_members_is_not_read(pack, monkeypatch, most, said):
    monkeypatch.setattr(study_files, "_MOST_TABLE", most)
    assert said in told(open_study, [pack({"a.png": picture()})])


def test_an_encrypted_zip_is_one_line(pack):
    with pytest.raises(ValueError, match=r"^`[^\n]*study.zip` is encrypted. Unpack it and give the folder.$"):
        open_study([change(pack({"a.png": picture()}), 8, b"\1")])


def test_another_packing_is_one_line(pack):
    with pytest.raises(ValueError, match="packed by another method than deflate. Unpack it and give the folder.$"):
        open_study([pack({"a.png": picture()}, zipfile.ZIP_BZIP2)])


@pytest.mark.parametrize("kept", [10, 60, -30, -1])
def test_a_zip_that_is_cut_short_is_one_line(pack, kept):
    path = pack({"a.png": picture()})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"^`[^\n]*study.zip` is a damaged zip. Copy or export it again.$"):
        open_study([path])


def test_a_zip_is_known_by_its_content(pack, tmp_path):
    path = pack({"a.png": picture()}).rename(tmp_path / "study.dcm")
    assert len(open_study([path])) == 1


# nothing of a patient -----------------------------------------------------------------------------------------------


@pytest.fixture
def bad_contents(dicom):
    """Files that cannot be used, or not all of them, by what is wrong."""
    film = dicom(ViewPosition="PA")
    return {
        "nothing": film,
        "cut header": film[:300],
        "cut pixels": film[:-100],
        "frames": dicom(np.stack([FILM, FILM]), NumberOfFrames=2),
        "zip": b"PK\3\4" + bytes(30),
        "no film": b"notes",
    }


@pytest.mark.parametrize("wrong", ["nothing", "cut header", "cut pixels", "frames", "zip", "no film"])
def test_no_tag_and_no_name_of_a_member_is_said(store, bad_contents, wrong, recwarn, caplog):
    path = store({f"{'/'.join(PATIENT)}.dcm": bad_contents[wrong]})
    recwarn.clear()
    caplog.clear()
    said = told(lambda: [(film, read_grey(film.film, film.where)) for film in open_study([path])])
    texts = [said, caplog.text, *(str(warning.message) for warning in recwarn)]
    shown = [text.replace(repr(path), "") for text in texts]
    assert not any(word in text for word in PATIENT for text in shown)


def test_a_damaged_member_is_not_named(pack):
    path = pack({f"{PATIENT[0]}.png": picture()}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(picture()[30:40], bytes(10)))
    said = told(open_study, [path])
    assert "is a damaged zip" in said and PATIENT[0] not in said


def test_a_film_that_cannot_be_decoded_is_called_by_its_number(pack):
    (good, bad) = open_study([pack({"a.png": picture(), f"{PATIENT[0]}.png": picture()[:50]})])[::-1]
    with pytest.raises(ValueError, match=r"^file 1 of `[^\n]*study.zip` is damaged or cut off"):
        read_grey(bad.film, bad.where)
