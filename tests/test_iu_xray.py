"""The plain format: defaults, restored aspects, and one line for each kind of broken study."""

import numpy as np
import pytest
from PIL import Image

from radscribe.training.readers.iu_xray import prepare_iu_xray, restored_size
from radscribe.training.readers.studies import load_studies


@pytest.fixture
def source(tmp_path, draw_film, write_lines):
    """source([row, ...]): a folder in the plain format with one film, and an OUT that does not exist yet."""

    def make(rows):
        draw_film("src/images/a.png")
        write_lines("src/studies.jsonl", rows)
        return tmp_path / "src", tmp_path / "out"

    return make


def row(name="one", **changes):
    return {"id": name, "images": ["images/a.png"], "findings": "Clear lungs."} | changes


def test_three_fields_make_a_study(source):
    src, out = source([row()])
    prepare_iu_xray(src, out)
    study = load_studies(out, "train")[0]
    assert (study["study_id"], study["findings"], study["views"]) == ("one", "Clear lungs.", [""])


def test_paths_become_absolute(source):
    src, out = source([row()])
    prepare_iu_xray(src, out)
    assert load_studies(out, "train")[0]["images"] == [str(src / "images" / "a.png")]


def test_codes_become_labels_of_the_whole_study(source):
    src, out = source([row(mesh=["Opacity/lung/left"])])
    prepare_iu_xray(src, out)
    assert load_studies(out, "train")[0]["labels"] == [{"name": "Opacity/lung/left", "image": -1, "box": []}]


def test_null_views_and_sections_are_empty(source):
    src, out = source([row(views=[None], impression=None)])
    prepare_iu_xray(src, out)
    study = load_studies(out, "train")[0]
    assert study["views"] == [""] and study["impression"] == ""


def test_studies_without_findings_are_counted(source):
    src, out = source([row("one"), row("two", findings=" ")])
    assert prepare_iu_xray(src, out)["skipped"] == {"no findings": 1}


def test_a_squashed_film_gets_its_aspect_back(source):
    src, out = source([row(orig_size=[[1000, 2000]])])
    prepare_iu_xray(src, out)
    with Image.open(load_studies(out, "train")[0]["images"][0]) as film:
        assert film.size == (64, 32)


def test_a_film_of_the_right_aspect_stays_where_it_is(source):
    src, out = source([row(orig_size=[[2991, 2992]])])
    assert prepare_iu_xray(src, out)["restored_images"] == 0
    assert load_studies(out, "train")[0]["images"] == [str(src / "images" / "a.png")]


def test_sixteen_bits_survive_the_restoring(source):
    src, out = source([row(images=["images/deep.png"], orig_size=[[1000, 2000]])])
    Image.fromarray(np.full((64, 64), 40000, dtype=np.uint16)).save(src / "images" / "deep.png")
    prepare_iu_xray(src, out)
    with Image.open(load_studies(out, "train")[0]["images"][0]) as film:
        assert np.asarray(film).max() == 40000


@pytest.mark.parametrize(
    ("size", "film", "restored"),
    [
        ((256, 256), (2320, 2828), (256, 210)),
        ((256, 256), (2828, 2320), (210, 256)),
        ((300, 247), (2320, 2828), (300, 247)),  # was never squashed: the film's aspect within a pixel
        ((200, 256), (1000, 1000), (200, 200)),  # never above what the file holds
    ],
)
def test_restored_size(size, film, restored):
    assert restored_size(size, film) == restored


BROKEN = {
    "bad line": ("{not json", "line 2 is not JSON"),
    "missing image": (row("two", images=["images/gone.png"]), r"study two\) names an image that does not exist"),
    "no image": (row("two", images=[]), r"study two\) has no image"),
    "duplicate id": (row("one"), "line 2: the id 'one' occurred before"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_study_ends_the_reading_with_its_line(source, reason):
    broken, message = BROKEN[reason]
    src, out = source([row(), broken])
    with pytest.raises(ValueError, match=message):
        prepare_iu_xray(src, out)


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_study_is_counted_where_asked(source, reason):
    src, out = source([row(), BROKEN[reason][0]])
    counts = prepare_iu_xray(src, out, skip_broken=True)
    assert counts["kept"] == {"train": 1} and counts["skipped"] == {reason: 1}


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
def test_a_bad_line_says_what_was_expected(source, broken, message):
    src, out = source([row(), broken])
    with pytest.raises(ValueError, match=f"line 2.*{message}"):
        prepare_iu_xray(src, out)


@pytest.mark.parametrize("content", ["text", "cut", "dot"])
def test_an_image_that_is_none_is_named(source, content):
    src, out = source([row(images=["images/bad.jpg"])])
    bad = src / "images" / "bad.jpg"
    Image.effect_noise((64, 64) if content == "cut" else (1, 1), 50).save(bad)
    if content == "text":
        bad.write_text("not a picture")
    if content == "cut":
        bad.write_bytes(bad.read_bytes()[:900])
    with pytest.raises(ValueError, match="bad.jpg"):
        prepare_iu_xray(src, out)


def test_nothing_is_left_behind_by_a_failure(source):
    src, out = source([row("one", orig_size=[[1000, 2000]]), row("two", images=["gone.png"])])
    with pytest.raises(ValueError, match="gone.png"):
        prepare_iu_xray(src, out)
    assert not out.exists()


def test_a_source_that_is_a_file_is_refused(source):
    src, out = source([row()])
    with pytest.raises(NotADirectoryError, match="name its folder"):
        prepare_iu_xray(src / "studies.jsonl", out)


def test_a_source_without_studies_is_refused(source):
    src, out = source([])
    with pytest.raises(ValueError, match="no study that can be used"):
        prepare_iu_xray(src, out)
