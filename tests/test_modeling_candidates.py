"""Candidates are fair draws, the same for a study anywhere, and the likely and fitting one is chosen."""

import pytest
import torch
from torch.testing import assert_close

from radscribe.modeling.modeling_candidates import (
    FixedNoise,
    agreement,
    as_labels,
    check_candidates,
    choose,
    mean_log_likelihood,
)


def draw(logits, candidates, temperature=1.0, steps=1):
    """Words drawn for studies of these logits (S, V), (S, C, steps)."""
    noise = FixedNoise(candidates, temperature)
    rows = logits.repeat_interleave(candidates, 0)
    words = [noise(torch.empty(0), rows).argmax(-1).view(len(logits), candidates) for _ in range(steps)]
    return torch.stack(words, dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_words_are_drawn_as_often_as_they_are_likely(temperature):
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5]])
    words = draw(logits, 20_000, temperature)[0, :, 0]
    assert_close(words.bincount(minlength=4) / 20_000, (logits[0] / temperature).softmax(0), atol=0.01, rtol=0)


def test_one_word_alone_is_left():
    left = FixedNoise(3, 1.0)(torch.empty(0), torch.randn(6, 9))
    assert (left.isfinite().sum(-1) == 1).all()


def test_a_study_has_the_same_candidates_in_any_batch():
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(logits, 5, steps=4)[1:2], draw(logits[1:2], 5, steps=4))


def test_candidates_and_positions_differ():
    words = draw(torch.zeros(1, 50), 8, steps=8)[0]
    assert len(set(map(tuple, words.tolist()))) == 8 and len(set(map(tuple, words.T.tolist()))) == 8


def test_a_suppressed_word_is_never_drawn():
    assert (draw(torch.tensor([[0.0, float("-inf"), 0.0]]), 1000) != 1).all()


def test_labels_end_with_the_end_mark():
    assert as_labels(torch.tensor([[1, 5, 6, 2, 0, 0], [1, 5, 6, 7, 8, 2]]), end=2).tolist() == [
        [5, 6, 2, -100, -100],
        [5, 6, 7, 8, 2],
    ]


def test_a_report_that_was_cut_off_has_labels_to_its_last_word():
    assert as_labels(torch.tensor([[1, 5, 6]]), end=2).tolist() == [[5, 6]]


def test_the_likelihood_is_the_mean_over_words_alone():
    logits, labels = torch.randn(1, 3, 5), torch.tensor([[4, 2, -100]])
    by_hand = (logits[0, 0].log_softmax(0)[4] + logits[0, 1].log_softmax(0)[2]) / 2
    assert_close(mean_log_likelihood(logits, labels), by_hand[None])


def test_what_is_best_in_all_is_chosen():
    likelihood = torch.tensor([[-1.0, -1.0, -9.0], [-1.0, -2.0, -1.0]])
    similarity = torch.tensor([[0.1, 0.9, 0.9], [0.5, 0.5, 0.9]])
    assert choose(likelihood, similarity).tolist() == [1, 2]


def test_agreement_is_the_mean_cosine_of_counted_runs():
    a, b, c = [5, 6, 7, 2], [5, 6, 8, 2], [9, 9, 2, -100]
    # Of a and b 3 of 4 words, 1 of 3 pairs and no longer run are the same; c shares but the end mark: counts 2 and 1.
    one_word = torch.tensor([(3 / 4 + 1 / 20**0.5) / 2, (3 / 4 + 1 / 20**0.5) / 2, 1 / 20**0.5])
    pairs = torch.tensor([1 / 3 / 2, 1 / 3 / 2, 0])
    assert_close(agreement(torch.tensor([[a, b, c]]))[0], (one_word + pairs) / 4)


def test_candidates_that_all_say_the_same_agree_wholly():
    assert_close(agreement(torch.tensor([[[5, 6, 7, 8, 2]] * 3])), torch.ones(1, 3))


def test_agreement_does_not_depend_on_padding():
    labels = torch.randint(3, 9, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(labels, (0, 4), value=-100)
    assert_close(agreement(padded), agreement(labels))


def test_one_candidate_alone_is_no_error():
    assert agreement(torch.tensor([[[5, 2]]])).tolist() == [[0.0]]


def test_neither_scale_nor_offset_of_a_score_changes_the_choice():
    likelihood, similarity = torch.randn(4, 8), torch.randn(4, 8)
    assert torch.equal(choose(likelihood, similarity), choose(3 * likelihood - 5, 0.01 * similarity + 1))


def test_equal_candidates_are_no_error():
    assert choose(torch.ones(2, 3), torch.ones(2, 3)).tolist() == [0, 0]


@pytest.mark.parametrize("number", [0, -1, 2.5])
def test_a_number_that_cannot_work_is_refused(number):
    with pytest.raises(ValueError, match="`num_candidates` must be a whole number of at least 1. Got "):
        check_candidates(number, 1.0, {})


@pytest.mark.parametrize("option", ["streamer", "return_dict_in_generate", "num_return_sequences"])
def test_options_that_ask_for_more_than_the_report_are_refused(option):
    with pytest.raises(ValueError, match=f"Leave out `{option}`"):
        check_candidates(4, 1.0, {option: 2})


def test_a_temperature_that_cannot_work_is_refused():
    with pytest.raises(ValueError, match="`candidate_temperature` must be above 0. Got -1.0."):
        check_candidates(4, -1.0, {})
