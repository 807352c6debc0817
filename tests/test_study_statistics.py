"""Per-study statistics: weights of one give every metric's own score, other weights the score of those studies."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from radscribe.training.metrics.clinical import MEASURES, clinical_scores
from radscribe.training.metrics.nlg import nlg_scores
from radscribe.training.metrics.phantom_exam import exam
from radscribe.training.metrics.study_statistics import (
    clinical_statistics,
    exam_statistics,
    figures,
    merge,
    study_figures,
    word_statistics,
)
from radscribe.training.readers.phantom import choose_findings, study_random
from radscribe.training.readers.phantom_grammar import write_report

STUDIES = 40
WORDS = "the heart lungs are clear normal . no effusion small left".split()


def draw_texts(seed: int) -> list[str]:
    """Reports of made-up words, the first one empty."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, length)) for length in [0, *random.integers(3, 30, STUDIES - 1)]]


def draw_codes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([1, 0, -1, -2], (STUDIES, 14), p=[0.2, 0.1, 0.1, 0.6])


@pytest.fixture(scope="module")
def texts():
    return draw_texts(0), ["lungs are clear .", *draw_texts(1)[1:]]


@pytest.fixture(scope="module")
def phantoms():
    """Reports of 40 phantoms, every other one given to the next study, and the labels; one report is unreadable."""
    reports, labels = [], []
    for index in range(STUDIES):
        random = study_random(5, index)
        findings = choose_findings(random)
        labels.append([{"name": finding.name, "image": 0, "box": []} for finding in findings])
        reports.append(write_report(findings, random))
    mixed = [reports[i - 1] if i % 2 else report for i, report in enumerate(reports)]
    return [*mixed[:-1], "The sky is blue. " + mixed[-1]], labels


@pytest.fixture(scope="module")
def statistics(texts, phantoms):
    return merge(
        word_statistics(*texts), clinical_statistics(draw_codes(0), draw_codes(1)), exam_statistics(*phantoms)
    )


def test_words_weighted_one_are_pycocoevalcaps_scores(statistics, texts):
    found = figures(statistics)
    for name, value in nlg_scores(*texts, meteor=False).items():
        assert found[name][0] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("answer", ["", "lungs"])  # no word at all, then no 2-gram: only the small constants are left
def test_the_small_constants_of_pycocoevalcap_are_kept(answer):
    references = ["no effusion ."] * 3
    found = figures(word_statistics([answer] * 3, references))
    for name, value in nlg_scores([answer] * 3, references, meteor=False).items():
        assert found[name][0] == pytest.approx(value, rel=1e-9, abs=1e-300), name


def test_each_study_alone_has_pycocoevalcaps_report_scores(statistics, texts):
    hypotheses, truths = ({i: [text] for i, text in enumerate(side)} for side in texts)
    each = study_figures(statistics)
    _, bleu = Bleu(4).compute_score(truths, hypotheses, verbose=0)
    for n in range(4):
        np.testing.assert_allclose(each[f"bleu_{n + 1}"], bleu[n], rtol=1e-9)
    np.testing.assert_allclose(each["cider"], Cider().compute_score(truths, hypotheses)[1], rtol=1e-9)


def test_full_stops_are_no_words_of_mean_words():
    assert figures(word_statistics(["a . b .", "c"], ["a", "b"]))["mean_words"][0] == 1.5


def test_labels_weighted_one_are_clinical_scores(statistics):
    found, scores = figures(statistics), clinical_scores(draw_codes(0), draw_codes(1))
    for policy, suffix in (("uncertain_positive", ""), ("uncertain_negative", "_uncertain_negative")):
        for labels, averages in scores[policy].items():
            for average, values in averages.items():
                for measure, value in values.items():
                    name = f"clinical_{labels}{suffix}.{average}.{measure}"
                    assert found[name][0] == pytest.approx(value, rel=1e-9), name
    for label, values in scores["per_label"].items():
        assert [found[f"label.{label}.{measure}"][0] for measure in MEASURES] == [values[key] for key in MEASURES]


def test_phantoms_weighted_one_are_the_exam(statistics, phantoms):
    found, result = figures(statistics), exam(*phantoms)
    assert found["finding_f1.micro"][0] == pytest.approx(result["finding_f1"]["micro"], rel=1e-9)
    assert found["finding_f1.macro"][0] == pytest.approx(result["finding_f1"]["macro"], rel=1e-9)
    assert found["size_accuracy"][0] == pytest.approx(result["size_accuracy"]["accuracy"], rel=1e-9)
    assert found["place_accuracy"][0] == pytest.approx(result["place_accuracy"]["accuracy"], rel=1e-9)
    assert found["unreadable_share"][0] == pytest.approx(result["unreadable_share"], rel=1e-9)
    for unit, values in result["finding_f1"]["per_unit"].items():
        assert [found[f"unit.{unit}.{measure}"][0] for measure in MEASURES] == [values[key] for key in MEASURES]


def test_zeros_and_ones_are_the_score_of_the_chosen_studies(statistics, texts, phantoms):
    chosen = np.arange(STUDIES) % 3 == 0
    found = figures(statistics, chosen[None].astype(float))
    rows = np.flatnonzero(chosen)
    words = nlg_scores(*([side[i] for i in rows] for side in texts), meteor=False)
    assert all(found[name][0] == pytest.approx(words[name], rel=1e-9) for name in words if name != "cider")
    labels = clinical_scores(draw_codes(0)[rows], draw_codes(1)[rows])["uncertain_positive"]["14"]
    assert found["clinical_14.macro.f1"][0] == pytest.approx(labels["macro"]["f1"])
    assert found["clinical_14.example.f1"][0] == pytest.approx(labels["example"]["f1"])
    part = exam(*([side[i] for i in rows] for side in phantoms))
    assert found["finding_f1.macro"][0] == pytest.approx(part["finding_f1"]["macro"])


def test_ciders_word_weights_stay_those_of_all_studies(statistics):
    chosen = np.arange(STUDIES) % 3 == 0
    found = figures(statistics, chosen[None].astype(float))
    assert found["cider"][0] == pytest.approx(statistics.summands["cider"][chosen].mean())


def test_a_weight_of_two_is_the_study_twice(texts):
    doubled = [[*side, side[3]] for side in texts]
    weights = np.ones((1, STUDIES))
    weights[0, 3] = 2
    found, expected = figures(word_statistics(*texts), weights), nlg_scores(*doubled, meteor=False)
    assert found["bleu_4"][0] == pytest.approx(expected["bleu_4"], rel=1e-9)
    assert found["rouge_l"][0] == pytest.approx(expected["rouge_l"], rel=1e-9)


def test_rows_of_weights_do_not_touch_each_other(statistics):
    weights = np.random.default_rng(0).integers(0, 4, (5, STUDIES))
    together = figures(statistics, weights)
    for row in range(5):
        alone = figures(statistics, weights[row : row + 1])
        assert all(alone[name][0] == pytest.approx(values[row], rel=1e-12) for name, values in together.items())


def test_no_study_at_all_is_0_and_no_warning(statistics):
    assert all(np.isfinite(values).all() for values in figures(statistics, np.zeros((1, STUDIES))).values())


def test_only_what_was_measured_is_figured(texts):
    assert set(figures(word_statistics(*texts))) == {
        *(f"bleu_{n}" for n in range(1, 5)),
        *("rouge_l", "cider", "mean_words"),
    }


def test_statistics_of_other_studies_are_not_merged(texts):
    with pytest.raises(ValueError, match="same studies"):
        merge(word_statistics(*texts), clinical_statistics(draw_codes(0)[:5], draw_codes(1)[:5]))


def test_weights_of_another_number_of_studies_are_refused(statistics):
    with pytest.raises(ValueError, match=r"\(R, 40\)"):
        figures(statistics, np.ones((2, 3)))
