"""Reports out of a zip, one after the other, and their encoding."""

import zipfile

import pytest

from radscribe.training.readers.mimic_reports import decode_report, read_zip

TEXTS = {"1": b"Clear. " * 50, "22": b"", "333": b"Effusion."}


@pytest.fixture
def archive(tmp_path):
    """archive(method): a zip with `TEXTS` as reports, and a file beside them that is none."""

    def make(method=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "reports.zip", "w", method) as file:
            file.writestr("files/index.html", "no report")
            for study, text in TEXTS.items():
                file.writestr(f"files/p10/p10000001/s{study}.txt", text)
            file.comment = b"made up"
        return tmp_path / "reports.zip"

    return make


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2])
def test_every_report_is_found_and_read(archive, method):
    assert dict(read_zip(archive(method))) == TEXTS


def test_a_damaged_report_is_none_and_the_others_are_read(archive):
    path = archive(zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"Effusion.", b"Confusion"))
    assert dict(read_zip(path)) == TEXTS | {"333": None}


@pytest.mark.parametrize("keep", [0, 10, -30, -200])
def test_a_zip_that_is_cut_short_is_named(archive, keep):
    path = archive()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="reports.zip is no zip, cut short or locked"):
        list(read_zip(path))


def test_a_zip_without_reports_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a.txt", "")
    with pytest.raises(ValueError, match="other.zip holds no report"):
        list(read_zip(tmp_path / "other.zip"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("é".encode(), ("é", True)),
        ("é".encode("latin-1"), ("é", False)),
        (b"\x93\x81", ("\x93\x81", False)),  # 0x81 is no letter in cp1252
    ],
)
def test_decode_report(data, expected):
    assert decode_report(data) == expected
