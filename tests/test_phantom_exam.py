"""The phantom exam: the figures follow their definitions, also in odd cases."""

import numpy as np
import pytest

from radscribe.training.metrics.phantom_exam import best_constant_exam, exam
from radscribe.training.readers.phantom import choose_findings, study_random
from radscribe.training.readers.phantom_grammar import UNITS, Finding, write_report

NORMAL = "Heart size is normal. Lungs are clear. Pleural spaces are clear. Bones are intact."
EFFUSION = Finding("effusion", "left", "small")
NODULE = Finding("nodule", "right", "large", "upper")


def rows(*findings: Finding) -> list[dict]:
    """Label rows as a phantom has them: one for each view."""
    return [{"name": finding.name, "image": image, "box": []} for finding in findings for image in (0, 1)]


@pytest.fixture(scope="module")
def studies() -> tuple[list[str], list[list[dict]]]:
    """Reports and labels of 400 phantoms, without drawing them."""
    reports, labels = [], []
    for index in range(400):
        rng = study_random(5, index)
        findings = choose_findings(rng)
        labels.append(rows(*findings))
        reports.append(write_report(findings, rng))
    return reports, labels


def test_true_reports_score_one(studies):
    result = exam(*studies)
    assert result["finding_f1"]["micro"] == result["finding_f1"]["macro"] == 1.0
    assert result["size_accuracy"]["accuracy"] == result["place_accuracy"]["accuracy"] == 1.0
    assert result["unreadable_share"] == 0.0


def test_normal_reports_for_all_score_zero(studies):
    result = exam([NORMAL] * len(studies[1]), studies[1])
    assert result["finding_f1"]["micro"] == result["finding_f1"]["macro"] == 0.0


def test_no_constant_answer_comes_above_a_third(studies):
    assert best_constant_exam(studies[1])["finding_f1"]["micro"] <= 0.35


def test_the_best_constant_answer_is_the_best_of_all_sets():
    labels = [rows(EFFUSION), rows(EFFUSION, NODULE), rows(), rows(EFFUSION), rows()]
    best = best_constant_exam(labels)
    assert best["units"] == ["effusion/left"]
    assert best["finding_f1"]["micro"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))


def test_reports_of_other_studies_score_low(studies):
    reports, labels = studies
    assert exam(reports[1:] + reports[:1], labels)["finding_f1"]["micro"] <= 0.35


def test_precision_and_recall_follow_their_definitions():
    reports = [write_report([EFFUSION], np.random.default_rng(0))] * 3
    result = exam(reports, [rows(EFFUSION), rows(NODULE), rows(EFFUSION, NODULE)])["finding_f1"]
    effusion, nodule = result["per_unit"]["effusion/left"], result["per_unit"]["nodule/right"]
    assert effusion == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2.0})
    assert nodule == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2.0}
    assert result["micro"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert result["macro"] == pytest.approx(0.4)  # over the two units that occur


def test_each_unreadable_sentence_is_one_false_positive():
    report = "Small left pleural effusion. The sky is blue. Grass."
    result = exam([report], [rows(EFFUSION)])
    assert result["finding_f1"]["micro"] == pytest.approx(2 / (2 + 2))
    assert result["unreadable_share"] == pytest.approx(2 / 3)


def test_a_unit_stated_twice_counts_once():
    report = "Small left pleural effusion. Small left pleural fluid."
    assert exam([report], [rows(EFFUSION)])["finding_f1"]["per_unit"]["effusion/left"]["precision"] == 1.0
    assert exam([report], [rows()])["finding_f1"]["micro"] == 0.0


def test_stating_and_denying_a_unit_is_wrong_either_way():
    report = "Small left pleural effusion. No effusion or pneumothorax."
    true = exam([report], [rows(EFFUSION)])
    assert true["finding_f1"]["per_unit"]["effusion/left"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 1.0,
    }
    assert true["size_accuracy"]["count"] == 0
    mixed = exam([report, write_report([EFFUSION], np.random.default_rng(0))], [rows(), rows(EFFUSION)])
    assert mixed["finding_f1"]["per_unit"]["effusion/left"]["precision"] == 0.5


def test_an_empty_report_misses_what_is_there():
    result = exam(["", ""], [rows(EFFUSION), rows()])
    assert result["finding_f1"]["micro"] == 0.0
    assert result["finding_f1"]["per_unit"]["effusion/left"]["support"] == 1.0
    assert result["unreadable_share"] == 0.0


def test_size_and_place_are_scored_over_found_units_alone():
    reports = ["Large left pleural effusion. Large right upper zone nodule."] * 2
    result = exam(reports, [rows(EFFUSION, NODULE), rows()])
    assert result["size_accuracy"] == {"accuracy": 0.5, "count": 2.0}
    assert result["place_accuracy"] == {"accuracy": 1.0, "count": 1.0}


def test_two_sizes_for_one_unit_are_a_wrong_size():
    report = "Small left pleural effusion. Large left pleural effusion."
    assert exam([report], [rows(EFFUSION)])["size_accuracy"] == {"accuracy": 0.0, "count": 1.0}


def test_every_unit_is_listed():
    assert set(exam([NORMAL], [rows()])["finding_f1"]["per_unit"]) == set(UNITS)


def test_reports_and_labels_of_different_number_are_refused():
    with pytest.raises(ValueError, match="Got 1 and 2"):
        exam([NORMAL], [[], []])


def test_labels_of_another_data_set_are_refused():
    with pytest.raises(ValueError, match="Cardiomegaly/mild"):
        exam([NORMAL], [[{"name": "Cardiomegaly/mild", "image": -1, "box": []}]])
