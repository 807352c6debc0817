"""Bootstrap and randomisation: what must hold for any answer, and a small case enumerated in full."""

import itertools

import numpy as np
import pytest

from radscribe.training.metrics import resampling
from radscribe.training.metrics.resampling import bootstrap_intervals, paired_randomisation
from radscribe.training.metrics.study_statistics import (
    StudyStatistics,
    clinical_statistics,
    figures,
    merge,
    word_statistics,
)

WORDS = "the heart lungs are clear normal . no effusion small left".split()


def answer(seed: int, studies: int, skill: float = 0.5) -> StudyStatistics:
    """An answer to `studies` studies, the same ones for every seed, that is right with probability `skill`."""
    truth, random = np.random.default_rng(99), np.random.default_rng(seed)
    references = truth.choice(WORDS, (studies, 12))
    right = random.random(references.shape) < skill
    predictions = np.where(right, references, random.choice(WORDS, references.shape))
    codes = truth.choice([1, 0, -1, -2], (studies, 14), p=[0.2, 0.1, 0.1, 0.6])
    kept = random.random(codes.shape) < skill
    labels = np.where(kept, codes, random.choice([1, 0, -1, -2], codes.shape, p=[0.2, 0.1, 0.1, 0.6]))
    lines = [[" ".join(row) for row in side] for side in (predictions, references)]
    return merge(word_statistics(*lines), clinical_statistics(labels, codes))


@pytest.fixture(scope="module")
def one():
    return answer(0, 40)


@pytest.fixture(scope="module")
def other():
    return answer(1, 40)


def test_intervals_contain_the_estimate(one):
    estimate = figures(one)
    for name, (low, high) in bootstrap_intervals(one, 300).items():
        if name.startswith(("bleu", "rouge", "cider", "clinical_14.micro", "clinical_14.example")):
            assert low < estimate[name][0] < high, name


def test_more_studies_make_the_intervals_narrower(one):
    few, many = bootstrap_intervals(one, 300), bootstrap_intervals(answer(0, 640), 300)
    for name in ("bleu_4", "rouge_l", "cider", "clinical_14.micro.f1", "clinical_5.macro.f1"):
        # 16 times the studies: a quarter of the width
        assert np.diff(many[name])[0] < 0.5 * np.diff(few[name])[0], name


def test_a_means_interval_is_that_of_the_normal_law():
    statistics = answer(0, 640)
    values = statistics.summands["rouge_l"]
    low, high = bootstrap_intervals(statistics, 2000)["rouge_l"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(640), rel=0.1)


def test_a_higher_level_is_wider(one):
    narrow, wide = bootstrap_intervals(one, 300, level=0.5), bootstrap_intervals(one, 300, level=0.99)
    assert np.diff(wide["cider"])[0] > 2 * np.diff(narrow["cider"])[0]


def test_identical_studies_have_no_width():
    statistics = word_statistics(["lungs are clear ."] * 9, ["no effusion . lungs are clear ."] * 9)
    low, high = bootstrap_intervals(statistics, 50)["bleu_2"]
    assert low == pytest.approx(high)


def test_a_seed_gives_the_same_numbers_and_another_others(one, other):
    assert bootstrap_intervals(one, 50, seed=3) == bootstrap_intervals(one, 50, seed=3)
    assert bootstrap_intervals(one, 50, seed=3) != bootstrap_intervals(one, 50, seed=4)
    assert paired_randomisation(one, other, 99, seed=3) == paired_randomisation(one, other, 99, seed=3)


def test_the_size_of_the_chunks_changes_nothing(one, other, monkeypatch):
    whole = bootstrap_intervals(one, 50)["bleu_4"], paired_randomisation(one, other, 50)["bleu_4"]
    monkeypatch.setattr(resampling, "_CELLS", 40 * 7)  # 7 rows a chunk
    parts = bootstrap_intervals(one, 50)["bleu_4"], paired_randomisation(one, other, 50)["bleu_4"]
    assert parts[0] == pytest.approx(whole[0]) and parts[1] == pytest.approx(whole[1])


def test_identical_answers_do_not_differ(one):
    for row in paired_randomisation(one, one, 200).values():
        assert row["difference"] == 0 and row["p"] == 1


def test_a_better_answer_is_found_better(one):
    row = paired_randomisation(one, answer(1, 40, skill=0.95), 999)["bleu_4"]
    assert row["difference"] > 0 and row["p"] == 0.001


def test_changing_places_turns_the_difference_and_keeps_p(one, other):
    ab, ba = paired_randomisation(one, other, 500), paired_randomisation(other, one, 500)
    for name, row in ab.items():
        assert ba[name]["difference"] == -row["difference"] and ba[name]["p"] == row["p"]


def test_p_is_the_share_of_all_ways_to_change_places():
    studies = 8
    one, other = answer(2, studies), answer(5, studies)
    found = paired_randomisation(one, other, 20_000)
    ways = np.array(list(itertools.product([0, 1], repeat=studies)))  # (256, S)
    both = StudyStatistics(
        {name: np.concatenate([values, other.summands[name]]) for name, values in one.summands.items()}
    )
    left, right = (figures(both, np.concatenate(sides, axis=1)) for sides in ((1 - ways, ways), (ways, 1 - ways)))
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider", "clinical_14.micro.f1", "clinical_14.macro.f1"):
        differences = np.abs(right[name] - left[name])
        exact = (differences >= differences[0] - 1e-10).mean()  # the first way changes nothing
        assert found[name]["p"] == pytest.approx(exact, abs=0.015), name


def test_alike_answers_seldom_differ():
    p = [paired_randomisation(answer(10 + i, 15), answer(50 + i, 15), 99)["rouge_l"]["p"] for i in range(20)]
    assert np.mean(np.array(p) <= 0.1) <= 0.2


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}])
def test_impossible_intervals_are_refused(one, wrong):
    with pytest.raises(ValueError, match="`resamples` must be >= 1"):
        bootstrap_intervals(one, **wrong)


def test_answers_to_other_studies_are_not_compared(one):
    with pytest.raises(ValueError, match="same studies"):
        paired_randomisation(one, answer(0, 12))


def test_no_rounds_are_refused(one):
    with pytest.raises(ValueError, match="Got 0"):
        paired_randomisation(one, one, 0)
