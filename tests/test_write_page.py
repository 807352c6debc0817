"""The evaluation page: one file that holds everything, escapes what it is given and leaves out what is not there."""

import html.parser
import re

import numpy as np
import pytest
from PIL import Image

from radscribe.training.metrics.clinical import clinical_scores
from radscribe.training.metrics.rule_labeller import OBSERVATIONS, label_reports
from radscribe.training.page.write_page import StudyRow, _figures, check_page, write_page

TRUTHS = ["The lungs are clear.", "There is a left pleural effusion.", "The heart is enlarged."] * 5
REPORTS = ["The lungs are clear.", "There is a left pleural effusion.", "There is a rib fracture."] * 5


def make_answer(reports, **changes):
    """What `evaluate` says of an answer to TRUTHS; the word scores are invented."""
    true, predicted = label_reports(TRUTHS), label_reports(reports)
    shares = [np.isin(codes, (1, -1)).mean(0) for codes in (true, predicted)]
    answer = {
        "scores": {"bleu_1": 0.41, "bleu_4": 0.152, "rouge_l": 0.33, "cider": 0.296, "meteor": 0.16},
        "clinical": clinical_scores(predicted, true),
        "prevalence": {n: {"true": t, "predicted": p} for n, t, p in zip(OBSERVATIONS, *shares, strict=True)},
        "intervals": {"bleu_4": (0.14, 0.16), "cider": (0.26, 0.33), "clinical_14.micro.f1": [0.5, 0.7]},
        "distinct_reports": 0.2,
        "copied_reports": 0.6,
        "mean_words": 5.0,
        "true_words": 4.8,
    }
    answer["normal"] = answer["abnormal"] = {"studies": 5, "bleu_4": 0.1, "rouge_l": 0.2, "cider": 0.3}
    return answer | {"without_xxxx": {"bleu_4": 0.151, "cider": 0.299}} | changes


def make_result(**changes):
    single = {"report": "The lungs are clear."} | make_answer([TRUTHS[0]] * 15, copied_reports=1.0)
    return (
        {"protocol": {"name": "r2gen", "max_words": 59}, "predictions": "reports.jsonl", "split": "val", "studies": 15}
        | {"without_findings": 2, "labeller": "rule labeller", "normal_by": "labels"}
        | make_answer(REPORTS)
        | {"beside": {"shuffled_images": make_answer(REPORTS[::-1]), "best_single_report": single}}
        | changes
    )


def make_rows(image="/nowhere/lost film.png", reports=REPORTS):
    codes = label_reports(TRUTHS), label_reports(reports)
    return [
        StudyRow(f"study{i}", [str(image)], truth, report, i / 10, 0.5, codes[0][i], codes[1][i])
        for i, (truth, report) in enumerate(zip(TRUTHS, reports, strict=True))
    ]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """page(result, rows): the written page's text, without the figures, which take most of the time."""
    monkeypatch.setattr("radscribe.training.page.write_page._figures", lambda *_: [])
    return lambda result, rows=(): write_page(result, rows, tmp_path / "new" / "page.html").read_text("utf-8")


class Outline(html.parser.HTMLParser):
    """Tags in the order they open; raises where they do not close in turn."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def outline(tmp_path_factory):
    """The parsed page of a whole result with films and figures."""
    folder = tmp_path_factory.mktemp("page")
    Image.new("L", (64, 64), 90).save(folder / "a.png")
    return Outline(write_page(make_result(), make_rows(folder / "a.png"), folder / "page.html").read_text("utf-8"))


def test_another_file_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must end in .html"):
        write_page(make_result(), [], tmp_path / "page.pdf")


def test_a_name_in_capitals_is_a_page_too(tmp_path):
    check_page(tmp_path / "PAGE.HTML")


def test_every_element_closes(outline):
    assert outline.open == []


def test_nothing_is_loaded_from_outside(outline):
    links = [attributes[key] for _, attributes in outline.tags for key in ("src", "href") if key in attributes]
    assert links and all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)


def test_there_is_no_script_and_no_import_in_the_styles(page):
    text = page(make_result(), make_rows())
    assert "<script" not in text and "@import" not in text and "url(http" not in text


def test_ids_occur_once(outline):
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_headings_of_tables_have_a_scope_and_pictures_a_text(outline):
    assert all(attributes.get("scope") for tag, attributes in outline.tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg")


def test_a_script_in_a_report_is_text(page):
    evil = "<script>alert(1)</script> no pneumothorax"
    text = page(make_result(predictions=evil), make_rows(image=evil, reports=[evil] * 15))
    assert "<script" not in text and text.count("&lt;script&gt;") > 3


def test_what_was_scored_stands_on_the_page(page):
    text = page(make_result())
    for part in ("reports.jsonl", "val", "15 (2 more have no findings)", "r2gen (max words 59)", "rule labeller"):
        assert part in text


def test_it_says_that_it_is_no_medical_device(page):
    assert "not a medical device" in page({})


def test_scores_stand_with_their_intervals(page):
    assert re.search(r"<td>\.296<small>\.260–\.330</small></td>", page(make_result()))


def test_the_model_is_set_off(page):
    assert re.search(r'<tr class="model"><th scope="row">The model</th>', page(make_result()))


def test_a_lost_film_is_named_in_its_place(page):
    text = page(make_result(), make_rows())
    assert "lost film.png<br>could not be read" in text and "/nowhere" not in text


def test_marks_say_what_they_mean(page):
    text = page(make_result(), make_rows())
    assert re.search(r'<mark class="invented" title="invented: Fracture">[^<]*fracture</mark>', text)
    assert re.search(r'<mark class="missed" title="missed: Cardiomegaly">', text)


def test_the_same_evaluation_gives_the_same_page(page, draw_film):
    rows = make_rows(draw_film("a.png"))
    assert page(make_result(), rows) == page(make_result(), rows)


@pytest.mark.parametrize("key", sorted(make_result()))
@pytest.mark.parametrize("gone", [True, False])
def test_any_key_may_be_missing_or_none(page, key, gone):
    result = {name: value for name, value in make_result().items() if name != key}
    Outline(page(result if gone else result | {key: None}))


def test_what_there_is_no_data_for_is_not_drawn():
    assert _figures({}, []) == []


def test_findings_are_drawn_without_control_and_intervals():
    result = {"clinical": make_result()["clinical"]}
    assert [figure["title"] for figure in _figures(result, [])] == ["Each observation: F1"]


def test_an_exam_is_shown_where_there_is_one(page):
    per_unit = {"effusion/left": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 4.0}}
    exam = {"finding_f1": {"micro": 0.61, "macro": 0.4, "per_unit": per_unit}, "unreadable_share": 0.02}
    exam |= {"size_accuracy": {"accuracy": 0.9, "count": 10}, "place_accuracy": {"accuracy": 0.8, "count": 5}}
    text = page(make_result(**exam))
    assert 'id="exam"' in text and "effusion/left" in text and 'id="exam"' not in page(make_result())
