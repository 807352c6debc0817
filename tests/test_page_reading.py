"""The reading in words says what the figures bear out, and no more."""

import pytest

from radscribe.training.page.page_reading import read_result


def make_answer(cider=0.3, interval=(0.25, 0.35), **changes):
    intervals = {"cider": interval} if interval else None
    return {"scores": {"cider": cider}, "intervals": intervals} | changes


def read(model=None, **beside):
    return " ".join(read_result((model or make_answer()) | {"beside": beside}))


@pytest.mark.parametrize(
    ("cider", "p", "claim"),
    [
        (0.29, 0.4, "is .290 against .300 with its own (p = .40): by this figure there is no sign"),
        (0.50, 0.001, "(p = .001): by this figure there is no sign"),
        (0.24, 0.03, "(p = .030): a sign that it uses the image"),
    ],
)
def test_the_control_is_judged_by_pairs_of_studies(cider, p, claim):
    assert claim in read(shuffled_images=make_answer(cider, against_model={"cider": p}))


def test_without_a_control_nothing_is_said_about_looking():
    assert "no control with shuffled images" in read() and "no sign" not in read()


def test_without_intervals_nothing_is_claimed():
    text = read(make_answer(interval=None), shuffled_images=make_answer(0.1, None))
    assert "uses the image" not in text and "Nothing was resampled" in text


@pytest.mark.parametrize(
    ("cider", "p", "verdict"),
    [
        (0.5, 0.01, "below in CIDEr (.300 against .500, p = .010)"),
        (0.1, 0.04, "above in CIDEr"),
        (0.1, 0.06, "no clear difference in CIDEr"),
        (0.1, None, "not judged in CIDEr (.300 against .100)"),
    ],
)
def test_a_rival_is_placed_by_pairs_of_studies(cider, p, verdict):
    assert verdict in read(best_single_report=make_answer(cider, against_model=p and {"cider": p}))


def test_reciting_is_said():
    text = read(make_answer(studies=296, distinct_reports=8 / 296, copied_reports=0.98))
    assert "296 reports are 8 different texts" in text and "98\u00a0% of its reports stand word for word" in text


def test_observations_that_are_never_stated_are_named():
    shares = {"Edema": {"true": 0.1, "predicted": 0.0}, "Fracture": {"true": 0.1, "predicted": 0.1}}
    assert "never states 1 of the 2 observations that occur: Edema" in read(make_answer(prevalence=shares))


def test_observations_that_do_not_occur_are_not_missed():
    assert "never states" not in read(make_answer(prevalence={"Edema": {"true": 0.0, "predicted": 0.0}}))


def test_labels_that_need_the_image_are_named():
    def answer(low, high):
        rows = {"Edema": {"f1": 0.5, "support": 9}, "Fracture": {"f1": 0.0, "support": 0}}
        intervals = {"cider": (0.2, 0.4), "label.Edema.f1": (low, high), "label.Fracture.f1": (0.0, 0.0)}
        return make_answer(clinical={"per_label": rows}) | {"intervals": intervals}

    assert "for 1 of the 1 observations that occur: Edema" in read(answer(0.4, 0.6), shuffled_images=answer(0.1, 0.3))
    assert "Of the 1 observations that occur none" in read(answer(0.2, 0.6), shuffled_images=answer(0.1, 0.3))


def test_an_empty_result_can_be_read():
    assert read_result({})
