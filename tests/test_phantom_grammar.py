"""The phantom grammar: what is written can be read, and what is said is true."""

import re

import numpy as np
import pytest

from radscribe.processing.processing_text import clean_report
from radscribe.training.readers import phantom_grammar as grammar
from radscribe.training.readers.phantom_grammar import KINDS, UNITS, Finding, all_findings, read_report, write_report

EVERY_FINDING = [finding for kind in KINDS for finding in all_findings(kind)]


def random_findings(rng: np.random.Generator) -> list[Finding]:
    """Any number of units, each once, in random order with random size and place."""
    units = rng.permutation(UNITS)[: rng.integers(0, len(UNITS) + 1)]
    choices = {unit: [finding for finding in EVERY_FINDING if finding.unit == unit] for unit in units}
    return [options[rng.integers(len(options))] for options in choices.values()]


def as_cleaned(report: str) -> str:
    """What a model's decoder hands back: R2Gen-cleaned, single-spaced."""
    return " ".join(clean_report(report).split())


def test_there_are_twelve_units():
    assert len(UNITS) == 12 == len(set(UNITS))


@pytest.mark.parametrize("form", [str, as_cleaned, str.upper], ids=["raw", "cleaned", "upper case"])
def test_what_is_written_is_read(form):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        findings = random_findings(rng)
        read = read_report(form(write_report(findings, rng)))
        assert read.unreadable == []
        assert read.findings == grammar.sort_findings(findings)


def test_cleaning_keeps_every_word():
    for sentence in grammar._sentence_meanings():
        assert as_cleaned(sentence + ".") == sentence + " ."


def test_no_two_templates_say_different_things_in_the_same_words():
    templates = sum(len(grammar._FINDING_TEMPLATES[finding.kind]) for finding in EVERY_FINDING)
    templates += sum(map(len, grammar._NORMAL_TEMPLATES.values()))
    assert len(grammar._sentence_meanings()) == templates


def test_a_normal_statement_never_denies_what_is_stated():
    rng = np.random.default_rng(1)
    for _ in range(500):
        read = read_report(write_report(random_findings(rng), rng))
        assert not {finding.unit for finding in read.findings}.intersection(read.denied)


def test_every_region_but_devices_is_spoken_of():
    rng = np.random.default_rng(2)
    for _ in range(500):
        read = read_report(write_report(random_findings(rng), rng))
        regions = {KINDS[unit.split("/")[0]].region for unit in read.denied + [one.unit for one in read.findings]}
        assert regions >= {"heart", "lungs", "pleura", "bones"}


def test_sentences_of_a_region_come_in_fixed_order():
    findings = [Finding("fracture", "left", place="lower"), Finding("nodule", "right", "small", "upper")]
    read = read_report(write_report(findings, np.random.default_rng(3)))
    assert [finding.kind for finding in read.findings] == ["nodule", "fracture"]


def test_wording_varies():
    rng = np.random.default_rng(4)
    assert len({write_report([], rng) for _ in range(100)}) > 50


def test_reports_of_four_findings_keep_within_59_words_and_stops():
    longest_finding = max(len(s.split()) for s, said in grammar._sentence_meanings().items() if said.finding)
    normals = sorted(
        max(len(template.split()) for template in region) for region in grammar._NORMAL_TEMPLATES.values()
    )
    # four findings leave at most three regions normal; each sentence adds its full stop
    assert 4 * (longest_finding + 1) + sum(length + 1 for length in normals[-3:]) <= 60 - 1  # room for the end mark


def test_the_vocabulary_is_small():
    words = {word for sentence in grammar._sentence_meanings() for word in sentence.split()}
    assert 60 <= len(words) <= 100
    assert all(re.fullmatch("[a-z]+", word) for word in words)


@pytest.mark.parametrize(
    "sentence",
    [
        "Green left pleural effusion.",
        "Small pleural effusion.",
        "Small left left effusion.",
        "<unk>",
    ],
)
def test_a_sentence_of_no_template_is_unreadable(sentence):
    read = read_report(f"Lungs are clear. {sentence}")
    assert read.unreadable == [sentence.lower().strip(".")]
    assert read.sentences == 2


@pytest.mark.parametrize("report", ["", " . ", "...", "\n"])
def test_an_empty_report_says_nothing(report):
    assert read_report(report) == grammar.ReadReport()


def test_a_repeated_finding_is_read_twice():
    read = read_report("Mild cardiomegaly. Mild cardiomegaly.")
    assert read.findings == [Finding("cardiomegaly", size="mild")] * 2


def test_writing_an_impossible_finding_is_refused():
    with pytest.raises(ValueError, match="Got pacemaker/right/-/-"):
        write_report([("pacemaker", "right", "-", "-")], np.random.default_rng(0))


def test_writing_a_unit_twice_is_refused():
    findings = [("effusion", "left", "small", "-"), ("effusion", "left", "large", "-")]
    with pytest.raises(ValueError, match="once"):
        write_report(findings, np.random.default_rng(0))
