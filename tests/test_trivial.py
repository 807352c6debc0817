"""Trivial answers: the best that one training report can do."""

import numpy as np

from radscribe.training.metrics.nlg import nlg_scores
from radscribe.training.protocols import Protocol, Truth, choose_normaliser, r2gen_normaliser
from radscribe.training.trivial import best_single_report, constant_bleu4, most_frequent_report, trivial_reports

TRAINING = [
    "The heart is normal.",
    "The heart is normal.",
    "Lungs are clear. The heart is normal.",
    "A small nodule is seen.",
]


def truth(validation, references, training=TRAINING):
    normalise = choose_normaliser(Protocol("full"), training)
    return Truth([], training, validation, normalise(references), normalise, set())


def test_constant_bleu_is_the_packages_bleu():
    words = np.random.default_rng(0).choice(list("abcd"), (12, 9))
    texts = [" ".join(row[: 4 + i % 5]) for i, row in enumerate(words)]
    references, candidates = texts[:8], texts[8:]
    expected = [nlg_scores([one] * 8, references, meteor=False)["bleu_4"] for one in candidates]
    np.testing.assert_allclose(constant_bleu4(candidates, references), expected, atol=1e-4)


def test_most_frequent_report_counts_what_the_protocol_sees():
    def lower(reports):
        return [report.lower() for report in reports]

    assert most_frequent_report(["One.", "Two.", "TWO."], lower) == "Two."


def test_best_single_report_has_the_best_bleu_on_the_references():
    truth = "lungs are clear . the heart is normal ."
    assert best_single_report(TRAINING, [truth], r2gen_normaliser([], 59, 3)) == TRAINING[2]


def test_the_single_report_is_chosen_on_validation():
    held = truth(validation=["A small nodule is seen."], references=["The heart is normal."])
    assert trivial_reports(held)["best_single_report"] == "A small nodule is seen."


def test_without_validation_it_is_chosen_on_the_studies_themselves():
    held = truth(validation=[], references=["A small nodule is seen."])
    assert trivial_reports(held)["best_single_report"] == "A small nodule is seen."


def test_without_training_reports_there_is_no_trivial_answer():
    assert trivial_reports(truth([], ["Clear."], training=[])) == {}
