"""Reports out of a zip, one after the other, and their encoding."""

import zipfile

import pytest

from radscribe.training.readers.mimic_cxr import prepare_mimic_cxr
from radscribe.training.readers.mimic_reports import decode_report, read_zip
from radscribe.training.readers.studies import load_splits
from tests.tools.make_mimic import MadeUpStudy, make_mimic, write_csv

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


def test_our_parser_and_the_sectioned_csv_give_the_same_targets(tmp_path):
    src, table = make_mimic(tmp_path / "src", 60), tmp_path / "mimic_cxr_sectioned.csv"
    rows = [(f"s{study.study}", study.findings, study.impression) for study in map(MadeUpStudy, range(60))]
    write_csv(table, ("study", "findings", "impression"), rows)
    texts = []
    for name, reports in (("parsed", None), ("sectioned", table)):
        prepare_mimic_cxr(src, tmp_path / name, reports=reports, target="findings+impression", processes=1)
        texts.append(
            {row["study_id"]: row["findings"] for split in load_splits(tmp_path / name).values() for row in split}
        )
    assert texts[0] == texts[1] and len(texts[0]) > 40
