"""Nearest neighbours: by cosine of what the encoder says, apart from what it says of every film."""

import pytest
import torch

from radscribe.training.build import load_checkpoint
from radscribe.training.neighbours import embed_films, nearest_rows


@pytest.fixture
def training():
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


def test_a_film_is_nearest_to_itself(training):
    assert nearest_rows(training, training).tolist() == list(range(20))


def test_what_all_films_share_counts_nothing(training):
    shift = 1000.0
    asked = training + 0.1
    assert nearest_rows(asked + shift, training + shift).tolist() == nearest_rows(asked, training).tolist()


def test_the_size_of_the_parts_changes_nothing(training):
    asked = training.flip(0) + 0.3
    assert nearest_rows(asked, training, chunk=3).tolist() == nearest_rows(asked, training).tolist()


@pytest.mark.parametrize("kind", ["checkpoint", "uar_checkpoint"])
def test_views_that_are_not_there_change_no_embedding(kind, request):
    network = load_checkpoint(str(request.getfixturevalue(kind)))[0].eval()
    films = torch.rand(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = embed_films(network, [{"pixel_values": films, "view_mask": torch.ones(2, 1)}])
    padded = torch.cat([films, torch.zeros_like(films)], 1)
    beside = embed_films(network, [{"pixel_values": padded, "view_mask": torch.tensor([[1, 0], [1, 0]])}])
    torch.testing.assert_close(alone, beside)
