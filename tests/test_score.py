"""`evaluate`: protocols, trivial answers by the same code, one line for every bad predictions file."""

import json
import shutil

import numpy as np
import pytest

from radscribe.training.metrics.nlg import nlg_scores
from radscribe.training.readers.studies import save_studies
from radscribe.training.score import (
    best_single_report,
    constant_bleu4,
    evaluate,
    most_frequent_report,
    pick_samples,
    r2gen_normaliser,
    tokenize_coco,
)

TRAINING = ["The heart is normal.", "The heart is normal.", "Lungs are clear. The heart is normal.", "Small nodule."]
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


def test_r2gen_cuts_cleans_and_replaces_rare_words():
    normalise = r2gen_normaliser(TRAINING, max_words=5, min_frequency=2)
    assert normalise(["The HEART is odd. Lungs are clear."]) == ["the heart is <unk> ."]


def test_without_training_reports_no_word_is_replaced():
    assert r2gen_normaliser([], max_words=59, min_frequency=3)(["Odd."]) == ["odd ."]


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


def test_the_truth_scores_one_under_full(references, predictions, without_java):
    assert evaluate(predictions, references, "val", "full")["scores"]["bleu_4"] == pytest.approx(1, abs=1e-6)


def test_trivial_answers_stand_beside_the_model(references, predictions, without_java):
    beside = evaluate(predictions, references, "val")["beside"]
    assert beside["most_frequent_report"]["report"] == TRAINING[0]
    assert beside["best_single_report"]["report"] == TRAINING[2]


def test_the_control_is_scored_beside(references, predictions, write_lines, without_java):
    control = write_lines("shuffled.jsonl", [{"id": name, "report": "Small nodule."} for name in TRUTH])
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


GOOD = [{"id": name, "report": "Clear."} for name in TRUTH]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:2], "lacks 1 of the 3 studies of split 'val', the first is 'c'"),
        ([{"id": "z", "report": "Clear."}], "holds none of the studies of split 'val'; it was made from another data"),
        (GOOD + [{"id": "z", "report": ""}], "holds 1 ids that are not in split 'val', the first is 'z'"),
        (GOOD + GOOD[:1], "line 4: the id 'a' occurred before"),
        (["{broken"], "line 1 is not JSON"),
        ([{"id": "a"}], "line 1: expected"),
        ([], "are empty"),
    ],
)
def test_a_bad_predictions_file_is_refused_with_its_line(references, write_lines, rows, message):
    with pytest.raises(ValueError, match=message):
        evaluate(write_lines("bad.jsonl", rows), references, "val")


def test_a_folder_is_no_predictions_file(references, tmp_path):
    with pytest.raises(IsADirectoryError, match="Got the folder"):
        evaluate(tmp_path, references, "val")


def test_a_picture_is_no_predictions_file(references, draw_film):
    with pytest.raises(ValueError, match="is not text"):
        evaluate(draw_film("a.png"), references, "val")


def test_a_missing_predictions_file_says_how_to_make_one(references, tmp_path):
    with pytest.raises(FileNotFoundError, match="radscribe generate --out"):
        evaluate(tmp_path / "gone.jsonl", references, "val")


def test_an_unknown_protocol_lists_those_that_exist(references, predictions):
    with pytest.raises(ValueError, match="r2gen, full, coco. Got 'bleu'"):
        evaluate(predictions, references, "val", "bleu")


def test_coco_without_java_says_so(without_java):
    with pytest.raises(ValueError, match="needs Java"):
        tokenize_coco(["Clear."])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokenizer runs in Java")
def test_coco_drops_punctuation_and_keeps_the_order():
    assert tokenize_coco(["Heart, normal.", "", "Lungs\nclear."]) == ["heart normal", "", "lungs clear"]


def test_samples_are_spread_over_the_split(study):
    studies = [study(str(i)) for i in range(11)]
    assert [one["id"] for one in pick_samples(studies, ["x"] * 11, 3)] == ["0", "5", "10"]


def test_the_result_is_plain_json(references, predictions, without_java):
    json.dumps(evaluate(predictions, references, "val"), allow_nan=False)
