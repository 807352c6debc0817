"""The csv tables of MIMIC-CXR: what is read from them, and one line for each way they can be wrong."""

import pytest

from radscribe.training.readers.mimic_tables import (
    find_table,
    load_tables,
    position_of,
    read_studies,
)
from radscribe.training.readers.staged import count_studies

IDS = "dicom_id,study_id,subject_id"
SPLIT = f"{IDS},split\na,50000001,10000001,train\nb,50000001,10000001,train\nc,50000002,10000000,validate\n"
METADATA = f"{IDS},ViewPosition\na,50000001,10000001,PA\nb,50000001,10000001,LATERAL\nc,50000002,10000000,AP\n"


@pytest.fixture
def load(tmp_path):
    """load(split=text, chexpert=text, ...): the tables with these texts, those above where left out -> the file."""

    def make(**texts):
        texts = {"split": SPLIT, "metadata": METADATA} | texts
        tables = {name: tmp_path / f"{name}.csv" for name in texts}
        for name, text in texts.items():
            tables[name].write_bytes(text if isinstance(text, bytes) else text.encode())
        load_tables(tmp_path / "tables.sqlite", tables)
        return tmp_path / "tables.sqlite"

    return make


def test_studies_are_numbered_by_patient_then_study(load):
    assert [rows.study for rows in read_studies(load(), 0, 2)] == ["50000002", "50000001"]


def test_a_range_of_numbers_gives_those_studies(load):
    assert [rows.study for rows in read_studies(load(), 1, 5)] == ["50000001"]


def test_studies_are_counted(load):
    assert count_studies(load()) == 2


def test_a_study_has_the_rows_of_its_images(load):
    rows = read_studies(load(), 1, 2)[0]
    assert (rows.splits, rows.positions) == ({"a": "train", "b": "train"}, {"a": "PA", "b": "LATERAL"})


def test_validate_becomes_val(load):
    assert read_studies(load(), 0, 1)[0].splits == {"c": "val"}


def test_a_study_that_one_table_lacks_is_still_there(load):
    assert count_studies(load(split=SPLIT + "d,50000003,10000000,test\n")) == 3


def test_ids_with_and_without_their_letter_are_the_same(load):
    assert count_studies(load(metadata=METADATA.replace(",500", ",s500").replace(",100", ",p100"))) == 2


def test_labels_are_named_by_their_columns(load):
    file = load(chexpert="subject_id,study_id,Edema,Pleural Effusion,Fracture\n10000001,50000001,1.0,-1.0,0.0\n")
    assert read_studies(file, 1, 2)[0].labels == ["Edema", "Pleural Effusion/uncertain"]


def test_a_study_without_labels_has_none(load):
    assert read_studies(load(), 1, 2)[0].labels == []


def test_sections_over_several_lines_are_folded(load):
    file = load(sectioned='study,impression,findings\ns50000001,Fine.,"Lungs\nare clear."\n')
    assert read_studies(file, 1, 2)[0].sections["findings"] == "Lungs are clear."


def test_sections_without_a_column_are_empty(load):
    file = load(sectioned="study,impression,findings\ns50000001,Fine.,Clear.\n")
    assert read_studies(file, 1, 2)[0].sections["indication"] == ""


def test_a_byte_order_mark_is_no_part_of_the_first_column(load):
    assert count_studies(load(split=b"\xef\xbb\xbf" + SPLIT.encode())) == 2


def test_a_failed_load_leaves_no_file_of_its_name(load, tmp_path):
    with pytest.raises(ValueError, match="split"):
        load(split=SPLIT.replace("validate", "dev"))
    assert not (tmp_path / "tables.sqlite").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "split",
            SPLIT.replace("study_id", "study"),
            "split.csv has no column study_id. It has: dicom_id, study, subj",
        ),
        ("split", "", "has no column .* It has: none"),
        ("split", SPLIT.replace("validate", "dev"), "line 4: `split` must be train, validate, test. Got 'dev'"),
        ("split", SPLIT + "d,50000003\n", "line 5 is cut short"),
        ("split", SPLIT + "a,50000001,10000001,train\n", "the dicom_id 'a' occurs twice, on lines 2 and 5"),
        ("split", SPLIT + "d,../x,10000001,train\n", "line 5: an id must be digits, as in s50414267. Got '../x'"),
        ("split", SPLIT + "../d,50000003,10000001,train\n", "line 5: `dicom_id` must be letters, digits"),
        ("metadata", METADATA.replace("ViewPosition", "View"), "metadata.csv has no column ViewPosition"),
        ("metadata", METADATA.encode() + b"\xff\xfe", "metadata.csv is not UTF-8"),
        (
            "chexpert",
            "study_id,Edema\n50000001,maybe\n",
            "line 2: `Edema` must be 1.0, 0.0, -1.0 or blank. Got 'maybe'",
        ),
        ("chexpert", "study_id,Edema\n50000001,1.0\n50000001,1.0\n", "chexpert.csv holds a study twice"),
        ("sectioned", "study,findings\ns50000001,Clear.\n", "has no column impression"),
    ],
)
def test_a_wrong_table_is_named_with_what_is_wrong(load, name, text, message):
    with pytest.raises(ValueError, match=message):
        load(**{name: text})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["2.0.0-split.csv.gz"], "2.0.0-split.csv.gz"),
        (["2.0.0-split.csv.gz", "2.1.0-split.csv.gz"], "2.1.0-split.csv.gz"),
        (["2.0.0-split.csv.gz", "2.0.0-split.csv"], "2.0.0-split.csv"),
        (["2.1.0-split.csv.gz", "2.0.0-split.csv"], "2.1.0-split.csv.gz"),
    ],
)
def test_the_newest_version_is_taken_and_plain_before_gzipped(tmp_path, names, expected):
    for name in names:
        (tmp_path / f"mimic-cxr-{name}").touch()
    assert find_table(tmp_path, "split").name == f"mimic-cxr-{expected}"


def test_a_table_that_is_not_there_is_none(tmp_path):
    (tmp_path / "mimic-cxr-2.0.0-split.csv").touch()
    assert find_table(tmp_path, "metadata") is None


@pytest.mark.parametrize(
    ("view", "description", "expected"),
    [
        ("PA", "", "PA"),
        ("AP", "CHEST, PA", "AP"),
        ("LATERAL", "", "LATERAL"),
        ("LL", "", "LATERAL"),
        ("LAO", "CHEST, PA", ""),
        ("", "CHEST, PA", "PA"),
        ("", "CHEST (PORTABLE AP)", "AP"),
        ("", "CHEST, LATERAL", "LATERAL"),
        ("", "CHEST (PA AND LAT)", ""),
        ("", "CHEST (PRE-OP AP AND PA)", ""),
        ("", "", ""),
    ],
)
def test_position_of(view, description, expected):
    assert position_of(view, description) == expected
