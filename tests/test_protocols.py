"""Protocols: the forms of a report, and the values that a data set brings along."""

import os
import shutil

import pytest

from radscribe.training.protocols import Protocol, choose_protocol, load_truth, r2gen_normaliser, tokenize_coco
from radscribe.training.readers.habits import MIMIC_HABITS
from radscribe.training.readers.studies import save_studies

TRAINING = ["The heart is normal.", "The heart is normal.", "Lungs are clear. The heart is normal.", "Small nodule."]


def test_r2gen_cuts_cleans_and_replaces_rare_words():
    normalise = r2gen_normaliser(TRAINING, max_words=5, min_frequency=2)
    assert normalise(["The HEART is odd. Lungs are clear."]) == ["the heart is <unk> ."]


def test_without_training_reports_no_word_is_replaced():
    assert r2gen_normaliser([], max_words=59, min_frequency=3)(["Odd."]) == ["odd ."]


def test_coco_without_java_says_so(without_java):
    with pytest.raises(ValueError, match="needs Java"):
        tokenize_coco(["Clear."])


def test_coco_with_a_java_that_dies_says_so(tmp_path, monkeypatch):
    (tmp_path / "java").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ValueError, match="that process died"):
        tokenize_coco(["Clear."])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokenizer runs in Java")
def test_coco_drops_punctuation_and_keeps_the_order():
    assert tokenize_coco(["Heart, normal.", "", "Lungs\nclear."]) == ["heart normal", "", "lungs clear"]


def test_a_data_set_brings_the_values_it_was_prepared_with(tmp_path, study):
    save_studies([study("a")], tmp_path / "set", MIMIC_HABITS)
    assert choose_protocol(tmp_path / "set", "r2gen") == Protocol("r2gen", "mimic", 99, 10)


def test_a_value_that_is_given_goes_before_the_stored_one(tmp_path, study):
    save_studies([study("a")], tmp_path / "set")
    assert choose_protocol(tmp_path / "set", "r2gen", max_words=9, style=None).max_words == 9


def test_an_unknown_protocol_lists_those_that_exist(tmp_path):
    with pytest.raises(ValueError, match="r2gen, full, coco. Got 'bleu'"):
        choose_protocol(tmp_path, "bleu")


def test_only_values_that_matter_are_described():
    assert Protocol("coco").describe() == {"name": "coco"} and "max_words" in Protocol("r2gen").describe()


def test_full_is_single_spaced_and_whole(tmp_path, study):
    save_studies([study("a", findings="One. . Two. " + "Word " * 80)], tmp_path / "set")
    text = load_truth(tmp_path / "set", "train", Protocol("full")).references[0]
    assert text.startswith("one . . two .") and len(text.split()) == 86


def test_a_split_without_findings_is_refused(tmp_path, study):
    save_studies([study("a", findings=" ")], tmp_path / "set")
    with pytest.raises(ValueError, match="No study of split 'train'"):
        load_truth(tmp_path / "set", "train", Protocol())
