"""The plain format: its fields and defaults, and one line for each kind of bad line."""

import pytest

from radscribe.training.readers.iu_xray import prepare_iu_xray
from radscribe.training.readers.studies import load_studies


def row(name="one", **changes):
    return {"id": name, "images": ["images/a.png"], "findings": "Clear lungs."} | changes


def test_three_fields_make_a_study(plain_source):
    src, out = plain_source([row()])
    prepare_iu_xray(src, out)
    study = load_studies(out, "train")[0]
    assert (study["study_id"], study["findings"], study["views"]) == ("one", "Clear lungs.", [""])


def test_paths_become_absolute(plain_source):
    src, out = plain_source([row()])
    prepare_iu_xray(src, out)
    assert load_studies(out, "train")[0]["images"] == [str(src / "images" / "a.png")]


def test_codes_become_labels_of_the_whole_study(plain_source):
    src, out = plain_source([row(mesh=["Opacity/lung/left"])])
    prepare_iu_xray(src, out)
    assert load_studies(out, "train")[0]["labels"] == [{"name": "Opacity/lung/left", "image": -1, "box": []}]


def test_null_views_and_sections_are_empty(plain_source):
    src, out = plain_source([row(views=[None], impression=None)])
    prepare_iu_xray(src, out)
    study = load_studies(out, "train")[0]
    assert study["views"] == [""] and study["impression"] == ""


def test_studies_without_findings_are_counted(plain_source):
    src, out = plain_source([row("one"), row("two", findings=" ")])
    assert prepare_iu_xray(src, out)["skipped"] == {"no findings": 1}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"id": "two", "images": ["images/a.png"]}, "misses the field `findings`"),
        (row(7), "`id` must be a non-empty string. Got 7"),
        (row("two", images="images/a.png"), "`images` must be a list of strings"),
        (row("two", split="validate"), "`split` must be one of"),
        (row("two", views=["frontal", "lateral"]), "`views` must be one of"),
        (row("two", orig_size=[[0, 5]]), "`orig_size` must be one"),
        (row("two", findings=["Clear."]), "`findings` must be a string"),
        ("[]", "must be a JSON object"),
    ],
)
def test_a_bad_line_says_what_was_expected(plain_source, broken, message):
    src, out = plain_source([row(), broken])
    with pytest.raises(ValueError, match=f"line 2.*{message}"):
        prepare_iu_xray(src, out)


def test_a_file_that_is_not_utf8_is_named(plain_source):
    src, out = plain_source([row()])
    (src / "studies.jsonl").write_bytes('{"id": "one", "images": [], "findings": "caf\u00e9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="studies.jsonl is not UTF-8 .*; save it as UTF-8"):
        prepare_iu_xray(src, out)


def test_blanks_around_a_code_are_cut(plain_source):
    src, out = plain_source([row(mesh=["normal ", " "])])
    prepare_iu_xray(src, out)
    assert [label["name"] for label in load_studies(out, "train")[0]["labels"]] == ["normal"]
