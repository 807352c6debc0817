"""The page of an explanation: all numbers in it, nothing from outside, and no text that could become markup."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from radscribe.training.build import load_checkpoint
from radscribe.training.explain import explain_study
from radscribe.training.page.explain_page import explain_to_files, explanation_html, explanation_json


@pytest.fixture(scope="module", params=["checkpoint", "uar_checkpoint"])
def explanation(request):
    network, processor = load_checkpoint(str(request.getfixturevalue(request.param)))
    films = [np.random.default_rng(0).integers(0, 255, (50, 40), np.uint8)] * 2
    return explain_study(network.eval(), processor, films, "The heart is enlarged. The lungs are clear.")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1))


def test_the_json_form_has_every_part_in_its_shape(explanation):
    data = json.loads(json.dumps(explanation_json(explanation)))
    assert np.shape(data["heat"]) == (10, 2, 12, 12)
    assert np.shape(data["attention"])[:2] == (10, 2)
    assert data["views"][0] == {"width": 40, "height": 50, "box": [-5, 0, 45, 50]}
    assert [sentence["stop"] for sentence in data["sentences"]] == [5, 10]


def test_the_json_form_keeps_the_numbers(explanation):
    data = explanation_json(explanation)
    np.testing.assert_allclose(data["heat"], explanation.heat, atol=1e-3 * np.abs(explanation.heat).max())


def test_the_page_holds_the_films_and_the_words_as_written(explanation):
    data = data_of(explanation_html(explanation))
    assert all(view["url"].startswith("data:image/jpeg;base64,") for view in data["views"])
    shown = [word["shown"] for word in data["words"]]
    assert shown == ["The", "heart", "is", "enlarged.", "", "The", "lungs", "are", "clear.", ""]


def test_a_given_word_that_the_model_does_not_know_is_shown_as_such(checkpoint):
    network, processor = load_checkpoint(str(checkpoint))
    film = np.random.default_rng(0).integers(0, 255, (50, 40), np.uint8)
    words = data_of(explanation_html(explain_study(network.eval(), processor, [film], "The azygos lungs are clear.")))
    assert [word["shown"] for word in words["words"]] == ["The", "<unk>", "lungs", "are", "clear.", ""]


def test_the_page_asks_nothing_of_the_network(explanation):
    page = explanation_html(explanation)
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page)
    assert "import(" not in page and "fetch(" not in page


def test_a_report_cannot_become_markup(explanation):
    explanation.sentences[0].text, kept = "</script><img src=x onerror=alert(1)>", explanation.sentences[0].text
    page = explanation_html(explanation)
    explanation.sentences[0].text = kept
    assert "<img" not in page and page.count("</script>") == 2
    assert data_of(page)["sentences"][0]["text"] == "</script><img src=x onerror=alert(1)>"


def test_large_films_are_made_smaller_for_the_page_and_keep_their_size_in_the_numbers(explanation):
    import base64
    import io

    before = explanation.films, explanation.boxes
    explanation.films, explanation.boxes = [np.zeros((3000, 1500), np.uint8)] * 2, [(-750, 0, 2250, 3000)] * 2
    view = data_of(explanation_html(explanation))["views"][0]
    explanation.films, explanation.boxes = before
    film = Image.open(io.BytesIO(base64.b64decode(view["url"].split(",")[1])))
    assert film.size == (512, 1024) and (view["width"], view["height"]) == (1500, 3000)


def test_picture_and_page_are_written_where_asked(checkpoint, draw_film, tmp_path):
    png, html = tmp_path / "new" / "a.png", tmp_path / "other" / "a.html"
    result = explain_to_files([draw_film("f.png")], str(checkpoint), "The lungs are clear.", png, html)
    assert result["report"] == "The lungs are clear."
    assert Image.open(png).size[0] > 224 and "<!DOCTYPE html>" in html.read_text()


@pytest.mark.parametrize(("png", "html", "ending"), [("a.jpg", None, ".png"), (None, "a.htm", ".html")])
def test_a_wrong_ending_is_refused_before_anything_is_loaded(png, html, ending, tmp_path):
    paths = [None if name is None else tmp_path / name for name in (png, html)]
    with pytest.raises(ValueError, match=f"must end in {ending}"):
        explain_to_files([tmp_path / "missing.png"], "no such model", None, *paths)


def test_the_command_prints_sentences_with_their_confidence(checkpoint, draw_film, radscribe):
    code, out, _ = radscribe("explain", draw_film("f.png"), "--model", checkpoint, "--report", "The lungs are clear.")
    assert code == 0 and "The lungs are clear." in out and "confidence" in out and "memory row" in out


def test_the_command_prints_one_json_document(checkpoint, draw_film, radscribe):
    code, out, _ = radscribe("explain", draw_film("f.png"), "--model", checkpoint, "--json")
    assert code == 0 and set(json.loads(out)) >= {"report", "heat", "attention", "topics", "similarity"}
