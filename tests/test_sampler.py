"""Batches of reports of about one length, in an order that repeats."""

import pytest
import torch

from radscribe.training.sampler import AlikeLengths

LENGTHS = [5 + (study * 7) % 50 for study in range(103)]


@pytest.fixture
def sampler():
    return AlikeLengths(LENGTHS, batch_size=8, seed=1)


def batches(sampler):
    order = list(sampler)
    return [order[start : start + 8] for start in range(0, len(order), 8)]


def test_every_study_comes_once_an_epoch(sampler):
    assert sorted(sampler) == list(range(len(LENGTHS))) and len(sampler) == len(LENGTHS)


def test_reports_of_a_batch_have_about_one_length(sampler):
    spreads = [max(LENGTHS[i] for i in batch) - min(LENGTHS[i] for i in batch) for batch in batches(sampler)]
    assert max(spreads) <= 12 and max(LENGTHS) - min(LENGTHS) > 40


def test_long_and_short_batches_are_mixed(sampler):
    means = [sum(LENGTHS[i] for i in batch) / len(batch) for batch in batches(sampler)]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_an_epoch_has_one_order(sampler):
    assert list(sampler) == list(sampler) == list(AlikeLengths(LENGTHS, batch_size=8, seed=1))


def test_another_epoch_and_another_seed_have_another_order(sampler):
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(AlikeLengths(LENGTHS, batch_size=8, seed=2)) != first


def test_other_studies_meet_in_another_epoch(sampler):
    first = {frozenset(batch) for batch in batches(sampler)}
    sampler.set_epoch(1)
    assert first != {frozenset(batch) for batch in batches(sampler)}


def test_weights_say_how_often_a_study_is_drawn():
    weights = torch.ones(len(LENGTHS))
    weights[7] = len(LENGTHS)
    sampler = AlikeLengths(LENGTHS, batch_size=8, seed=1, weights=weights)
    drawn = list(sampler)
    assert len(drawn) == len(LENGTHS) and 30 < drawn.count(7) < 75 and drawn == list(sampler)


def test_weighted_batches_have_about_one_length_too():
    sampler = AlikeLengths(LENGTHS, batch_size=8, seed=1, weights=torch.rand(len(LENGTHS)))
    spreads = [max(LENGTHS[i] for i in batch) - min(LENGTHS[i] for i in batch) for batch in batches(sampler)]
    assert max(spreads) <= 16
