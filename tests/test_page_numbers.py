"""Figures are found by their flat names and written as the field writes them."""

import pytest

from radscribe.training.page.page_numbers import show_percent, show_score, value_of

ANSWER = {
    "scores": {"cider": 0.3},
    "clinical": {
        "uncertain_positive": {"14": {"micro": {"f1": 0.5}}},
        "per_label": {"Edema": {"f1": 0.4}},
    },
    "finding_f1": {"micro": 0.6, "per_unit": {"effusion/left": {"f1": 0.7}}},
    "size_accuracy": {"accuracy": 0.8, "count": 3},
    "mean_words": 12.5,
}


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("cider", 0.3),
        ("clinical_14.micro.f1", 0.5),
        ("label.Edema.f1", 0.4),
        ("finding_f1.micro", 0.6),
        ("unit.effusion/left.f1", 0.7),
        ("size_accuracy", 0.8),
        ("mean_words", 12.5),
        ("meteor", None),
        ("clinical_5.micro.f1", None),
    ],
)
def test_a_figure_is_found_by_its_flat_name(figure, value):
    assert value_of(ANSWER, figure) == value


@pytest.mark.parametrize(
    ("value", "text"), [(0.2964, ".296"), (0.0, ".000"), (0.9996, "1.00"), (1.484, "1.48"), (None, "–")]
)
def test_scores_are_written_as_the_field_does(value, text):
    assert show_score(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0"), (0.0001, "0.1"), (0.003, "0.3"), (0.26, "26"), (0.9999, "99.9"), (1.0, "100")]
)
def test_few_are_never_none_and_many_never_all(share, text):
    assert show_percent(share) == f"{text}\u00a0%"
