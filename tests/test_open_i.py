"""Open-i's XML files: what becomes of each part, and one line for each kind of broken file."""

import pytest

from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.open_i import read_open_i, report_files
from radscribe.training.readers.source import BrokenStudy

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR7"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION"/>
<AbstractText Label="FINDINGS"> Clear &amp; dry. </AbstractText><AbstractText Label="IMPRESSION">Normal.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>Opacity/lung</major><automatic>opacity</automatic></MeSH>
<parentImage id="CXR7_7_IM-0001-4001"/></eCitation>"""


@pytest.fixture
def read(tmp_path, draw_film):
    """read(xml): what the reader makes of a source with this one report and its film."""

    def make(text=REPORT, name="7.xml"):
        draw_film("src/films/CXR7_7_IM-0001-4001.png")
        path = tmp_path / "src" / "ecgen-radiology" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return list(read_open_i(tmp_path / "src"))

    return make


def test_sections_are_read_and_stripped(read):
    record = read()[0].record
    sections = [record[name] for name in ("findings", "impression", "indication", "comparison")]
    assert sections == ["Clear & dry.", "Normal.", "", "None."]


def test_the_human_codes_become_labels_and_the_automatic_ones_do_not(read):
    assert read()[0].record["labels"] == [{"name": "Opacity/lung", "image": -1, "box": []}]


def test_films_are_found_by_their_name(read, tmp_path):
    assert read()[0].paths == [tmp_path / "src" / "films" / "CXR7_7_IM-0001-4001.png"]


def test_views_that_the_file_does_not_name_are_unknown(read):
    assert read()[0].record["views"] == [""]


def test_reports_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.xml", "9.xml", "1.xml"):
        (tmp_path / name).write_text("")
    assert [path.name for path in report_files(tmp_path)] == ["1.xml", "9.xml", "10.xml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (REPORT[:-30], "7.xml is not XML: "),
        ("", "7.xml is not XML: no element found"),
        (REPORT.encode("utf-16"), "7.xml is not XML: "),
        (REPORT.replace("Clear", "Cl\u00e9ar").encode("latin-1"), "7.xml is not XML: "),
        (REPORT.replace("utf-8", "shift_jis"), "7.xml is not XML: multi-byte encodings are not supported"),
        (REPORT.replace("utf-8", "utf-99"), "7.xml is not XML: unknown encoding"),
        ("<a/>", "has no `uId` with an `id`"),
    ],
)
def test_a_broken_file_is_named(read, text, message):
    (found,) = read(text)
    assert isinstance(found, BrokenStudy) and found.reason == "bad XML" and message in str(found)


def test_a_film_that_is_missing_is_named(read, tmp_path):
    read(REPORT.replace("4001", "5001"))
    with pytest.raises(ValueError, match=r"7.xml \(study CXR7\) names an image that does not exist: .*5001.png"):
        prepare_iu_xray(tmp_path / "src", tmp_path / "out")


def test_a_study_that_occurs_twice_is_named(read, tmp_path):
    read(REPORT)
    read(REPORT, "8.xml")
    with pytest.raises(ValueError, match=r"8.xml \(study CXR7\): the id 'CXR7' occurred before"):
        prepare_iu_xray(tmp_path / "src", tmp_path / "out")
