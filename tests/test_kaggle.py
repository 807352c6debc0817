"""Kaggle's two tables: what becomes of each row, and one line for each kind of broken table or row."""

import pytest

from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.kaggle import read_kaggle
from radscribe.training.readers.source import BrokenStudy

REPORTS = "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
ROW = '7,Opacity/lung;normal,x,y,Cough,,"Clear, dry.",Normal.\n'
PROJECTIONS = "uid,filename,projection\n"
FILMS = "7,7_IM-0001-3001.dcm.png,Lateral\n7,7_IM-0001-4001.dcm.png,Frontal\n"


@pytest.fixture
def source(tmp_path, draw_film):
    """source(reports=..., projections=...): a folder with both tables, of text or bytes, and the films of study 7."""

    def make(reports=REPORTS + ROW, projections=PROJECTIONS + FILMS):
        for name in ("3001", "4001"):
            draw_film(f"src/images/7_IM-0001-{name}.dcm.png")
        for name, table in (("reports", reports), ("projections", projections)):
            (tmp_path / "src" / f"indiana_{name}.csv").write_bytes(
                table if isinstance(table, bytes) else table.encode()
            )
        return tmp_path / "src"

    return make


def test_sections_codes_and_id_are_read(source):
    record = next(read_kaggle(source())).record
    assert record["study_id"] == "CXR7" and record["findings"] == "Clear, dry." and record["comparison"] == ""
    assert [label["name"] for label in record["labels"]] == ["Opacity/lung", "normal"]


def test_frontal_films_come_first(source):
    study = next(read_kaggle(source()))
    assert study.record["views"] == ["frontal", "lateral"]
    assert [path.name[-12:] for path in study.paths] == ["4001.dcm.png", "3001.dcm.png"]


def test_a_byte_order_mark_does_no_harm(source):
    assert next(read_kaggle(source("\ufeff" + REPORTS + ROW))).record["study_id"] == "CXR7"


def test_a_row_that_is_too_short_has_empty_sections(source):
    assert next(read_kaggle(source(REPORTS + "7,normal\n"))).record["findings"] == ""


@pytest.mark.parametrize(
    ("reports", "projections", "message"),
    [
        ("uid;MeSH\n7;normal\n", None, "has no column uid, MeSH, findings, .* It has: uid;MeSH"),
        (REPORTS.replace("findings", "Findings") + ROW, None, "has no column findings. It has: .*Findings"),
        ("", None, "indiana_reports.csv has no column .* It has: none"),
        (None, "uid,file,projection\n", "indiana_projections.csv has no column filename"),
        ((REPORTS + "7,caf\u00e9\n").encode("latin-1"), None, "indiana_reports.csv is not UTF-8 .*; save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(source, reports, projections, message):
    src = source(reports or (reports if reports == "" else REPORTS + ROW), projections or PROJECTIONS + FILMS)
    with pytest.raises(ValueError, match=message):
        list(read_kaggle(src))


def test_a_missing_table_is_named(source):
    src = source()
    (src / "indiana_projections.csv").unlink()
    with pytest.raises(
        ValueError, match=r"must hold indiana_reports.csv and indiana_projections.csv. .* does not exist"
    ):
        list(read_kaggle(src))


@pytest.mark.parametrize(
    ("rows", "films", "reason", "message"),
    [
        (ROW, "7,a.png,Oblique\n", "bad line", "`projection` must be Frontal or Lateral. Got 'oblique'"),
        (ROW.replace("7,", ",", 1), "", "bad line", "`uid` is empty"),
        ("", "7,a.png,Frontal\n", "no report", "indiana_reports.csv has no row for the uid 7"),
    ],
)
def test_a_broken_row_is_named(source, rows, films, reason, message):
    (found,) = read_kaggle(source(REPORTS + rows, PROJECTIONS + films))
    assert isinstance(found, BrokenStudy) and found.reason == reason and message in str(found)


def test_every_hole_is_counted_where_asked(source, tmp_path):
    rows = ROW + ROW + ROW.replace("7,", "8,", 1) + ROW.replace("7,", "9,", 1) + '7x,,,,,,"",\n'
    films = FILMS + "8,8_IM-0002-1001.dcm.png,Frontal\n7x,7_IM-0001-4001.dcm.png,Frontal\n"
    src = source(REPORTS + rows, PROJECTIONS + films)
    counts = prepare_iu_xray(src, tmp_path / "out", skip_broken=True)
    assert sum(counts["kept"].values()) == 1
    assert counts["skipped"] == {"duplicate id": 1, "no image": 1, "no findings": 1, "missing image": 1}
