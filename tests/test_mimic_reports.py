"""Reports read at their place in a zip, without its directory in memory."""

import zipfile

import pytest

from radscribe.training.readers.mimic_reports import decode_report, list_zip, read_from_zip

TEXTS = {"1": b"Clear. " * 50, "22": b"", "333": b"Effusion."}


@pytest.fixture
def archive(tmp_path):
    """archive(method): a zip with `TEXTS` as reports, and a file beside them that is none."""

    def make(method=zipfile.ZIP_DEFLATED, more=0):
        with zipfile.ZipFile(tmp_path / "reports.zip", "w", method) as file:
            file.writestr("files/index.html", "no report")
            for study, text in TEXTS.items():
                file.writestr(f"files/p10/p10000001/s{study}.txt", text)
            for number in range(more):
                file.writestr(f"s{number + 1000}.txt", str(number))
            file.comment = b"made up"
        return tmp_path / "reports.zip"

    return make


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_every_report_is_found_and_read(archive, method):
    path = archive(method)
    with path.open("rb") as file:
        assert {study: read_from_zip(file, tuple(entry)) for study, *entry in list_zip(path)} == TEXTS


@pytest.mark.slow
def test_more_entries_than_the_old_format_counts_are_read(archive):
    assert len(list(list_zip(archive(zipfile.ZIP_STORED, more=70_000)))) == 70_000 + len(TEXTS)


def test_another_packing_is_named(archive):
    with pytest.raises(ValueError, match="reports.zip .*other than deflate"):
        list(list_zip(archive(zipfile.ZIP_BZIP2)))


@pytest.mark.parametrize("keep", [0, 10, -30, -200])
def test_a_zip_that_is_cut_short_is_named(archive, keep):
    path = archive()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="reports.zip is no zip or is cut short"):
        list(list_zip(path))


def test_a_zip_without_reports_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a.txt", "")
    with pytest.raises(ValueError, match="other.zip holds no report"):
        list(list_zip(tmp_path / "other.zip"))


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
