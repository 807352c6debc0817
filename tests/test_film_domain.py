"""How far a film lies from the training films: the distance is a Gaussian's, and turned or blank films are far."""

import numpy as np
import pytest
import torch

from radscribe.training.build import load_checkpoint
from radscribe.training.film_domain import (
    DIRECTIONS,
    describe_films,
    films_heard,
    fit_domain,
    fit_gaussian,
    strange_line,
)

KINDS = ["checkpoint", "uar_checkpoint", "words_checkpoint"]


@pytest.fixture
def features():
    """Of 600 films in eight dimensions, more spread out along some than along others."""
    random = np.random.default_rng(0)
    return random.normal(size=(600, 8)) @ random.normal(size=(8, 8)) + random.normal(size=8)


@pytest.fixture
def films():
    """Two films, lit from above."""
    light = torch.linspace(1, 0, 32).view(1, 1, 32, 1).expand(2, 1, 32, 32)
    return light + 0.01 * torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("directions", [7, 100])
def test_with_all_directions_but_one_the_distance_is_the_gaussian_s(features, directions):
    domain = fit_gaussian(features, directions)
    centred = features - features.mean(0)
    exact = (centred @ np.linalg.inv(np.cov(features.T)) * centred).sum(1)
    np.testing.assert_allclose(domain.distance(features)[:, 0], exact, rtol=1e-3)


def test_with_fewer_directions_the_covariance_is_the_one_of_tipping_and_bishop(features):
    spread, axes = np.linalg.eigh(np.cov(features.T))
    spread[:5] = spread[:5].mean()  # the noise: the mean of what is left
    centred = features - features.mean(0)
    exact = (centred @ (axes / spread) @ axes.T * centred).sum(1)
    np.testing.assert_allclose(fit_gaussian(features, 3).distance(features)[:, 0], exact, rtol=1e-3)


def test_a_hundredth_of_the_films_that_were_not_fitted_on_is_strange(features):
    studies = np.repeat(np.arange(300), 2)
    strangeness = fit_domain(features, studies, 4).strangeness(features)
    assert 1 <= (strangeness[300:] > 1).sum() <= 6 and (strangeness[:300] > 1).mean() < 0.03


def test_what_lies_far_away_is_strange(features):
    domain = fit_domain(features, np.arange(600), 4)
    assert domain.strangeness(features.mean(0)[None] + 20 * features.std(0)).item() > 1
    assert domain.strangeness(features.mean(0)[None]).item() < 1


def test_what_lies_between_two_groups_of_films_is_strange(features):
    apart = features + 100 * (np.arange(600) % 2)[:, None]
    domain = fit_domain(apart, np.arange(600), 4)
    assert len(domain.limit) == 2 and (domain.strangeness(apart) > 1).mean() < 0.03
    assert domain.strangeness(features.mean(0)[None] + 50).item() > 1


def test_few_films_are_one_group(features):
    assert len(fit_domain(features[:30], np.arange(30), 8).limit) == 1


def test_three_studies_tell_nothing(features):
    with pytest.raises(ValueError, match="Four studies or more"):
        fit_domain(features[:6], np.array([0, 0, 1, 1, 2, 2]))


def test_films_that_all_look_the_same_tell_nothing():
    with pytest.raises(ValueError, match="says the same of all training films"):
        fit_domain(np.ones((40, 8)), np.arange(40))


def test_features_of_another_model_are_refused(features):
    with pytest.raises(ValueError, match="another model's"):
        fit_gaussian(features, 3).distance(features[:, :5])


def test_few_films_have_fewer_directions(features):
    assert fit_gaussian(features[:6], DIRECTIONS).directions.shape == (1, 4, 8)


def test_brightness_and_contrast_of_a_film_change_nothing(films):
    said = torch.rand(2, 5, 3, 3)
    np.testing.assert_allclose(describe_films(films, said), describe_films(0.5 * films - 2, 7 * said), atol=1e-5)


@pytest.mark.parametrize("change", [lambda film: film.flip(2), lambda film: -film, lambda film: film.transpose(2, 3)])
def test_a_film_that_is_turned_or_inverted_has_other_light(films, change):
    said = torch.rand(2, 5, 3, 3)
    assert np.abs(describe_films(films, said) - describe_films(change(films), said)).max() > 0.3


def test_a_blank_film_has_no_light(films):
    assert np.abs(describe_films(torch.full_like(films, 0.7), torch.rand(2, 9, 5))[:, -16:]).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_films_are_heard_while_the_model_reads_them_and_no_longer(kind, request):
    network = load_checkpoint(str(request.getfixturevalue(kind)))[0].eval()
    channels = 3 if kind == "words_checkpoint" else 1
    films = torch.rand(2, 2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    views, heard = torch.tensor([[1, 0], [1, 1]]), []
    with films_heard(network, heard.append), torch.no_grad():
        network.generate(pixel_values=films, view_mask=views, max_length=4)
    with films_heard(network, heard.append), torch.no_grad():
        network.encoder(films[1:], views[1:])
    network.generate(pixel_values=films, view_mask=views, max_length=4)
    assert [len(features) for features in heard] == [3, 2]
    np.testing.assert_allclose(heard[0][1:], heard[1], atol=1e-5)


def test_films_are_named_in_the_warning_or_else_counted():
    assert strange_line([0.5, 0.9], ["a", "b"]) is None
    assert strange_line([1.5, 0.9], ["a", "b"]).startswith(
        "a looks unlike the films this model learnt from (strangeness 1.5;"
    )
    assert strange_line([1.5, 2.9], ["a", "b"]).startswith("a and b look unlike")
    assert "up to 2.9" in strange_line([1.5, 2.9], ["a", "b"])
    assert strange_line([1.5, 0.2, 0.3]).startswith("1 of 3 films look unlike")
