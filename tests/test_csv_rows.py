"""Rows of a csv or csv.gz, and one line for each way in which it can be broken."""

import gzip

import pytest

from radscribe.training.readers.csv_rows import read_rows

TABLE = "id,text\n1,one\n2,two\n"


@pytest.fixture
def write(tmp_path):
    """write("a.csv.gz", content): a file of text or bytes, gzipped where its name ends so."""

    def make(name, content):
        path, content = tmp_path / name, content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return make


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_rows_come_with_the_number_of_their_line(write, name):
    assert list(read_rows(write(name, TABLE), ["id"])) == [
        (2, {"id": "1", "text": "one"}),
        (3, {"id": "2", "text": "two"}),
    ]


def test_a_short_row_is_filled_where_asked(write):
    assert list(read_rows(write("a.csv", "id,text\n1\n"), ["text"], blank="")) == [(2, {"id": "1", "text": ""})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.replace("text", "Text"), "a.csv has no column text. It has: id, Text"),
        ("", "has no column id, text. It has: none"),
        (TABLE + "3\n", "a.csv line 4 is cut short"),
        (TABLE.encode() + b"3,\xff", "a.csv is not UTF-8 .*save it as UTF-8"),
        (TABLE + f"3,{'x' * 200_000}\n", "a.csv is no csv .field larger"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(write, content, message):
    with pytest.raises(ValueError, match=message):
        list(read_rows(write("a.csv", content), ["id", "text"]))


def test_a_truncated_gzip_is_named(write):
    path = write("a.csv.gz", TABLE * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="a.csv.gz is damaged or cut short"):
        list(read_rows(path, ["id"]))


def test_a_gzip_that_is_none_is_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_text(TABLE)
    with pytest.raises(ValueError, match="a.csv.gz is damaged or cut short"):
        list(read_rows(path, ["id"]))
