"""Clinical scores: every convention follows its definition, and scikit-learn's numbers."""

import numpy as np
import pytest

from radscribe.training.metrics.clinical import LABEL_SETS, clinical_scores, count_labels, precision_recall_f1
from radscribe.training.metrics.rule_labeller import BLANK, FIVE, NEGATIVE, OBSERVATIONS, POSITIVE, UNCERTAIN

EDEMA, FRACTURE = OBSERVATIONS.index("Edema"), OBSERVATIONS.index("Fracture")


def codes(*studies: dict[str, int]) -> np.ndarray:
    """Codes (S, 14) from {label: code} a study, blank elsewhere."""
    rows = np.full((len(studies), len(OBSERVATIONS)), BLANK)
    for row, study in zip(rows, studies, strict=True):
        for name, code in study.items():
            row[OBSERVATIONS.index(name)] = code
    return rows


def draw_codes(seed: int, studies: int = 60) -> np.ndarray:
    """Codes as reports have them: mostly blank."""
    return np.random.default_rng(seed).choice(
        [POSITIVE, NEGATIVE, UNCERTAIN, BLANK], (studies, 14), p=[0.2, 0.1, 0.1, 0.6]
    )


@pytest.fixture
def by_hand():
    """Two hits, one false alarm, two misses."""
    predicted = codes({"Edema": POSITIVE}, {"Edema": POSITIVE, "Fracture": POSITIVE}, {})
    true = codes({"Edema": POSITIVE}, {"Edema": NEGATIVE, "Fracture": POSITIVE}, {"Edema": POSITIVE, "Pneumonia": 1})
    return clinical_scores(predicted, true)


def test_micro_is_over_all_labels_and_studies(by_hand):
    micro = by_hand["uncertain_positive"]["14"]["micro"]
    assert micro == pytest.approx({"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7})


def test_macro_counts_a_label_that_never_occurs_as_0(by_hand):
    # Edema 1 hit, 1 false alarm, 1 miss; Fracture 1 hit; Pneumonia 1 miss
    assert by_hand["uncertain_positive"]["14"]["macro"]["f1"] == pytest.approx((0.5 + 1 + 0) / 14)
    assert by_hand["uncertain_positive"]["5"]["macro"]["f1"] == pytest.approx(0.5 / 5)


def test_example_is_the_mean_of_the_studies_own_scores(by_hand):
    assert by_hand["uncertain_positive"]["14"]["example"] == pytest.approx(
        {"precision": (1 + 1 / 2 + 0) / 3, "recall": (1 + 1 + 0) / 3, "f1": (1 + 2 / 3 + 0) / 3}
    )


def test_a_study_without_positives_on_either_side_counts_0_as_an_example():
    labels = codes({"Edema": POSITIVE}, {"Fracture": POSITIVE})
    scores = clinical_scores(labels, labels)["uncertain_positive"]
    assert scores["14"]["example"]["f1"] == 1
    assert scores["5"]["example"]["f1"] == 0.5


def test_the_five_are_those_of_the_five(by_hand):
    assert [OBSERVATIONS[label] for label in LABEL_SETS["5"]] == list(FIVE)


def test_labels_are_listed_with_support_and_without_positives(by_hand):
    assert by_hand["per_label"]["Edema"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert set(by_hand["labels_without_positives"]) == set(OBSERVATIONS) - {"Edema", "Fracture", "Pneumonia"}


def test_uncertain_is_present_under_one_policy_and_absent_under_the_other():
    scores = clinical_scores(codes({"Edema": UNCERTAIN}), codes({"Edema": POSITIVE}))
    assert scores["uncertain_positive"]["14"]["micro"]["f1"] == 1
    assert scores["uncertain_negative"]["14"]["micro"]["f1"] == 0


def test_negative_and_blank_are_both_absent():
    counts = count_labels(codes({"Edema": NEGATIVE}), codes({"Edema": BLANK}), "uncertain_positive")
    assert counts.sum() == 0


@pytest.mark.slow  # scikit-learn takes a second to import
@pytest.mark.parametrize(("policy", "present"), [("uncertain_positive", (1, -1)), ("uncertain_negative", (1,))])
@pytest.mark.parametrize("labels", LABEL_SETS)
@pytest.mark.parametrize(("average", "theirs"), [("micro", "micro"), ("macro", "macro"), ("example", "samples")])
def test_every_average_is_that_of_scikit_learn(policy, present, labels, average, theirs):
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, true = draw_codes(0), draw_codes(1)
    sides = [np.isin(side[:, LABEL_SETS[labels]], present) for side in (true, predicted)]
    expected = metrics.precision_recall_fscore_support(*sides, average=theirs, zero_division=0)[:3]
    ours = clinical_scores(predicted, true)[policy][labels][average]
    assert list(ours.values()) == pytest.approx(list(expected), rel=1e-12)


def test_nothing_to_divide_is_0():
    np.testing.assert_array_equal(precision_recall_f1(np.zeros((2, 3))), np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(2, 5), (3, 14), (2,)])
def test_codes_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"codes \(S, 14\)"):
        clinical_scores(np.zeros(shape), np.zeros((2, 14)))


def test_no_studies_are_refused():
    with pytest.raises(ValueError, match="one at least"):
        clinical_scores(np.zeros((0, 14)), np.zeros((0, 14)))


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="Got 'maybe'"):
        count_labels(draw_codes(0), draw_codes(1), "maybe")
