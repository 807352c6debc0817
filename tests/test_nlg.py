"""Word scores: pycocoevalcap's numbers, nothing on stdout, METEOR only where Java is."""

import shutil

import numpy as np
import pytest

from radscribe.training.metrics.nlg import NlgScorer, nlg_scores, report_components

REPORTS = ["heart size is normal . lungs are clear .", "no pleural effusion or pneumothorax ."]
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR runs in Java")


def test_the_truth_itself_scores_one():
    scores = nlg_scores(REPORTS, REPORTS, meteor=False)
    assert all(scores[name] == pytest.approx(1, abs=1e-6) for name in ("bleu_1", "bleu_4", "rouge_l"))


def test_bleu_is_corpus_level_with_a_brevity_penalty():
    # 3 of 3 words right, but only half as long as the truth: 1 * exp(1 - 6 / 3)
    assert nlg_scores(["a b c"], ["a b c d e f"], meteor=False)["bleu_1"] == pytest.approx(2.718281828**-1, abs=1e-6)


def test_empty_predictions_score_nothing():
    scores = nlg_scores(["", ""], REPORTS, meteor=False)
    assert max(scores.values()) < 1e-6


def test_nothing_is_printed_on_stdout(capfd):
    nlg_scores(REPORTS, REPORTS, meteor=False)
    assert capfd.readouterr().out == ""


def test_meteor_is_left_out_with_a_line_where_java_is_missing(without_java, capsys):
    assert "meteor" not in nlg_scores(REPORTS, REPORTS)
    assert "METEOR is left out" in capsys.readouterr().err


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="Got 1 predictions and 2 references"):
        nlg_scores(REPORTS[:1], REPORTS, meteor=False)


@needs_java
@pytest.mark.slow
def test_one_jar_scores_several_answers_and_takes_any_text():
    with NlgScorer() as scorer:
        exact = scorer.score(REPORTS, REPORTS)["meteor"]
        odd = scorer.score(["", "a ||| b\nc"], ["x ||| y", "a b c"])["meteor"]
        assert exact == pytest.approx(1, abs=0.01) and 0 <= odd < 1


@needs_java
@pytest.mark.slow
def test_the_jar_ends_with_the_scorer():
    with NlgScorer() as scorer:
        process = scorer._jar.meteor_p
    assert process.poll() is not None


@needs_java
@pytest.mark.slow
def test_a_dead_jar_leaves_meteor_out(capsys):
    with NlgScorer() as scorer:
        scorer._jar.meteor_p.kill()
        scorer._jar.meteor_p.wait()
        assert "meteor" not in scorer.score(REPORTS, REPORTS)
    assert "its Java process died" in capsys.readouterr().err


def test_components_add_up_to_the_scores():
    predictions = ["heart size is normal .", "lungs are clear . no pleural effusion ."]
    parts, scores = report_components(predictions, REPORTS), nlg_scores(predictions, REPORTS, meteor=False)
    assert parts["rouge_l"].mean() == pytest.approx(scores["rouge_l"])
    assert parts["cider"].mean() == pytest.approx(scores["cider"])
    # 13 words where the references have 15
    precision = parts["bleu_correct"][:, 0].sum() / parts["bleu_guess"][:, 0].sum()
    assert precision * np.exp(1 - 15 / 13) == pytest.approx(scores["bleu_1"], rel=1e-6)


def test_components_count_words_and_grams_of_each_study():
    parts = report_components(["a b c", ""], ["a b d e", "f"])
    assert parts["bleu_correct"].tolist() == [[2, 1, 0, 0], [0, 0, 0, 0]]
    assert parts["bleu_guess"].tolist() == [[3, 2, 1, 0], [0, 0, 0, 0]]
    assert parts["test_length"].tolist() == [3, 0] and parts["reference_length"].tolist() == [4, 1]


def test_components_of_different_number_are_refused():
    with pytest.raises(ValueError, match="Got 1 predictions and 2 references"):
        report_components(REPORTS[:1], REPORTS)


def test_meteor_alone_is_none_where_it_is_off():
    assert NlgScorer(meteor=False).meteor(REPORTS, REPORTS) is None
