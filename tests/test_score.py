"""`evaluate`: trivial answers by the same code, findings beside words, studies apart."""

import json

import numpy as np
import pytest

from radscribe.training.metrics.rule_labeller import label_reports
from radscribe.training.readers.studies import save_studies
from radscribe.training.score import evaluate, pick_samples

TRAINING = ["The heart is normal.", "The heart is normal.", "Lungs are clear. The heart is normal."]
TRAINING += ["A small nodule is seen."]
TRUTH = {"a": "Lungs are clear. The heart is normal.", "b": "The heart is enlarged.", "c": "Lungs are clear."}


@pytest.fixture
def references(tmp_path, study):
    """A prepared set: four training reports, three to be predicted in `val`."""
    training = [study(f"train{i}", findings=text) for i, text in enumerate(TRAINING)]
    unseen = [study(name, split="val", findings=text) for name, text in TRUTH.items()]
    save_studies(training + unseen, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def predictions(write_lines):
    return write_lines("reports.jsonl", [{"id": name, "report": text} for name, text in TRUTH.items()])


def test_the_truth_scores_one_under_full(references, predictions, without_java):
    assert evaluate(predictions, references, "val", "full")["scores"]["bleu_4"] == pytest.approx(1, abs=1e-6)


def test_trivial_answers_stand_beside_the_model(references, predictions, without_java):
    beside = evaluate(predictions, references, "val")["beside"]
    assert beside["most_frequent_report"]["report"] == TRAINING[0]
    assert beside["best_single_report"]["report"] == TRAINING[2]


def test_the_control_is_scored_beside(references, predictions, write_lines, without_java):
    control = write_lines("shuffled.jsonl", [{"id": name, "report": "A small nodule is seen."} for name in TRUTH])
    result = evaluate(predictions, references, "val", control=control)
    assert result["beside"]["shuffled_images"]["scores"]["bleu_1"] < result["scores"]["bleu_1"]


def test_distinct_reports_are_counted_as_a_share(references, write_lines, without_java):
    same = write_lines("same.jsonl", [{"id": name, "report": "Lungs are clear."} for name in TRUTH])
    assert evaluate(same, references, "val")["distinct_reports"] == pytest.approx(1 / 3)


def test_mean_words_leave_out_full_stops(references, write_lines, without_java):
    same = write_lines("same.jsonl", [{"id": name, "report": "Lungs are clear. Clear."} for name in TRUTH])
    assert evaluate(same, references, "val")["mean_words"] == 4


def test_a_set_without_training_reports_has_no_trivial_answer(tmp_path, study, predictions, without_java):
    save_studies([study(name, split="val", findings=text) for name, text in TRUTH.items()], tmp_path / "alone")
    assert evaluate(predictions, tmp_path / "alone", "val")["beside"] == {}


def test_studies_without_findings_are_left_out_and_counted(tmp_path, study, write_lines, without_java):
    save_studies([study("a"), study("b", findings="")], tmp_path / "gaps")
    both = write_lines("both.jsonl", [{"id": "a", "report": "Clear."}, {"id": "b", "report": "Clear."}])
    result = evaluate(both, tmp_path / "gaps", "train")
    assert (result["studies"], result["without_findings"]) == (1, 1)


def test_phantoms_are_examined(tmp_path, study, write_lines, without_java):
    labels = [{"name": "pneumothorax/left/small/-", "image": 0, "box": []}]
    name = "phantom-0-000000"
    save_studies([study(name, labels=labels, findings="Small left pneumothorax.")], tmp_path / "phantoms")
    file = write_lines("one.jsonl", [{"id": name, "report": "Small pneumothorax on the left."}])
    result = evaluate(file, tmp_path / "phantoms", "train")
    assert result["finding_f1"]["micro"] == 1 and result["beside"]["best_constant"]["finding_f1"]["micro"] == 1


def test_the_nearest_neighbours_are_scored_beside(references, predictions, without_java):
    result = evaluate(predictions, references, "val", neighbours=predictions)
    assert result["beside"]["nearest_neighbour"]["scores"] == result["scores"]


def test_the_best_single_report_on_test_was_chosen_on_validation(tmp_path, study, write_lines, without_java):
    studies = [study("t0", findings="A small nodule is seen."), study("t1", findings="The heart is enlarged.")]
    studies += [study("v", split="val", findings="A small nodule is seen.")]
    studies += [study("x", split="test", findings="The heart is enlarged.")]
    save_studies(studies, tmp_path / "set")
    file = write_lines("one.jsonl", [{"id": "x", "report": "Clear."}])
    assert evaluate(file, tmp_path / "set")["beside"]["best_single_report"]["report"] == "A small nodule is seen."


def test_every_word_score_has_an_interval_around_it(references, predictions, without_java):
    result = evaluate(predictions, references, "val", resamples=100)
    for name, value in result["scores"].items():
        low, high = result["intervals"][name]
        assert low - 1e-9 <= value <= high + 1e-9


def test_no_resamples_no_intervals(references, predictions, without_java):
    assert evaluate(predictions, references, "val", resamples=0)["intervals"] is None


def test_reports_that_stand_in_training_are_counted_as_copied(references, write_lines, without_java):
    texts = ("a small nodule is seen", "New.", "New.")
    rows = [{"id": name, "report": text} for name, text in zip(TRUTH, texts, strict=True)]
    assert evaluate(write_lines("some.jsonl", rows), references, "val")["copied_reports"] == pytest.approx(1 / 3)


def test_normal_and_abnormal_studies_are_scored_apart(tmp_path, study, write_lines, without_java):
    normal = [{"name": "normal", "image": -1, "box": []}]
    other = [{"name": "Nodule", "image": -1, "box": []}]
    rows = [study("a", labels=normal, findings="Clear lungs seen."), study("b", labels=other, findings="Left nodule.")]
    save_studies(rows, tmp_path / "set")
    file = write_lines("two.jsonl", [{"id": "a", "report": "Clear lungs seen."}, {"id": "b", "report": "Wide heart."}])
    result = evaluate(file, tmp_path / "set", "train", "full")
    assert (result["normal"]["studies"], result["abnormal"]["studies"], result["normal_by"]) == (1, 1, "labels")
    assert result["normal"]["rouge_l"] == pytest.approx(1) and result["abnormal"]["rouge_l"] < 0.5


def test_without_labels_the_reports_tell_what_is_normal(references, predictions, without_java):
    result = evaluate(predictions, references, "val")
    assert result["normal_by"] == "reports" and result["abnormal"]["studies"] == 1  # the enlarged heart


def test_xxxx_is_struck_out_on_both_sides(tmp_path, study, write_lines, without_java):
    save_studies([study("a", findings="The xxxx heart is normal in size.")], tmp_path / "set")
    file = write_lines("one.jsonl", [{"id": "a", "report": "The heart is normal in size."}])
    result = evaluate(file, tmp_path / "set", "train")
    assert result["without_xxxx"]["bleu_4"] == pytest.approx(1, abs=1e-6) and result["scores"]["bleu_4"] < 0.9


def test_the_true_reports_have_every_finding(references, predictions, without_java):
    result = evaluate(predictions, references, "val")
    assert result["labeller"] == "rule labeller"
    found = label_reports(list(TRUTH.values()))
    assert result["clinical"]["uncertain_positive"]["14"]["micro"]["f1"] == 1 and (found == 1).any()


def test_missing_predictions_count_as_empty_where_allowed(references, write_lines, without_java):
    file = write_lines("one.jsonl", [{"id": "a", "report": TRUTH["a"]}])
    result = evaluate(file, references, "val", allow_missing=True)
    assert np.count_nonzero(result["word_counts"]) == 1


def test_a_page_is_written(references, predictions, tmp_path, without_java):
    result = evaluate(predictions, references, "val", html=tmp_path / "page.html")
    assert result["html"].endswith("page.html") and "<table" in (tmp_path / "page.html").read_text()


def test_samples_are_spread_over_the_split(study):
    studies = [study(str(i)) for i in range(11)]
    assert [one["id"] for one in pick_samples(studies, ["x"] * 11, 3)] == ["0", "5", "10"]


def test_the_result_is_plain_json(references, predictions, without_java):
    json.dumps(evaluate(predictions, references, "val"), allow_nan=False)


def test_answers_beside_the_model_are_paired_with_it(references, predictions, write_lines, without_java):
    control = write_lines("shuffled.jsonl", [{"id": name, "report": "Small."} for name in TRUTH])
    result = evaluate(predictions, references, "val", control=control, neighbours=predictions)
    assert result["against_model"] is None
    assert result["beside"]["nearest_neighbour"]["against_model"]["cider"] == 1
    assert result["beside"]["shuffled_images"]["against_model"]["rouge_l"] < 1


def test_a_report_without_a_word_finds_nothing(references, write_lines, without_java):
    dots = write_lines("dots.jsonl", [{"id": name, "report": "."} for name in TRUTH])
    assert evaluate(dots, references, "val")["clinical"]["uncertain_positive"]["14"]["micro"]["f1"] == 0


def test_a_study_that_nobody_coded_is_neither_normal_nor_abnormal(tmp_path, study, write_lines, without_java):
    def coded(*names):
        return [{"name": name, "image": -1, "box": []} for name in names]

    rows = [study("a", labels=coded("normal")), study("b", labels=coded("Nodule")), study("c"), study("d", labels=[])]
    rows[2]["labels"] = coded("No Indexing")
    save_studies(rows, tmp_path / "set")
    file = write_lines("four.jsonl", [{"id": name, "report": "Clear."} for name in "abcd"])
    result = evaluate(file, tmp_path / "set", "train")
    assert (result["normal"]["studies"], result["abnormal"]["studies"]) == (1, 1)


def test_what_is_missing_beside_the_model_is_said(references, predictions, capsys, without_java):
    evaluate(predictions, references, "val")
    said = capsys.readouterr().err
    assert "--control" in said and "--neighbours" in said


def test_too_few_resamples_are_refused(references, predictions):
    with pytest.raises(ValueError, match="`resamples` must be 0, for no intervals, or at least 100. Got 1"):
        evaluate(predictions, references, "val", resamples=1)


def test_a_page_that_cannot_be_written_is_refused_before_the_work(references, predictions, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        evaluate(predictions, references, "val", html=tmp_path / "file" / "page.html")
