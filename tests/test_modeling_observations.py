"""What a model names in the films reaches its decoder's words; it may be told instead, and it can be fitted."""

import pytest
import torch
from test_modeling_mcsam import make_model as make_mcsam
from test_modeling_uar import DALLE
from test_modeling_uar import make_model as make_uar
from torch.testing import assert_close

from radscribe.modeling.modeling_observations import ObservationHints, mean_places

SEEN = {"Cardiomegaly": 0.2, "Edema": 0.1}
MODELS = {"mcsam": (make_mcsam, 32), "uar": (make_uar, 16)}


@pytest.fixture(params=MODELS)
def make(request):
    """make(**changes): a tiny model of each kind that names two observations, and its films."""

    def build(**changes):
        maker, side = MODELS[request.param]
        model = maker(**({"observations": SEEN} | changes))
        films = torch.rand(2, 2, 1, side, side, generator=torch.Generator().manual_seed(3))
        return model, {"pixel_values": films, "view_mask": torch.tensor([[1, 1], [1, 0]])}

    return build


def told(*rows):
    return torch.tensor(rows, dtype=torch.float)


def logits_of(model, films, observations):
    ids = torch.tensor([[1, 5, 6], [1, 7, 8]])
    with torch.no_grad():
        return model(**films, observations=observations, decoder_input_ids=ids).logits


def test_a_mean_has_each_view_at_its_place_and_zero_for_a_missing_one():
    places = torch.arange(12.0).view(3, 2, 2)
    means = mean_places(places, torch.tensor([[1, 1], [1, 0]]), max_views=3)
    assert means.tolist() == [[1, 2, 5, 6, 0, 0], [9, 10, 0, 0, 0, 0]]


def test_a_model_that_names_nothing_has_no_such_layer(make):
    model, films = make(observations=None)
    assert model.encoder.observations is None and model.encoder(**films).hints is None


def test_hints_start_as_large_as_words_also_beside_trained_weights(make, tmp_path):
    make(observations=None)[0].save_pretrained(tmp_path)
    model = make()[0]
    model = type(model).from_pretrained(tmp_path, config=model.config)
    assert 0.7 < model.encoder.observations.table.std() < 1.4


def test_a_model_that_names_nothing_cannot_be_told(make):
    model, films = make(observations=None)
    with pytest.raises(ValueError, match="^`observations` cannot be told to this model"):
        model.encoder(**films, observations=told([1, 0], [0, 1]))


def test_what_is_told_changes_what_is_written(make):
    model, films = make()
    one, other = (logits_of(model, films, told(*rows)) for rows in ([[1, 0], [0, 0]], [[0, 1], [0, 0]]))
    assert not torch.allclose(one[0], other[0], atol=1e-3)
    assert_close(one[1], other[1])


def test_untold_it_is_what_the_films_show(make):
    model, films = make()
    layer = model.encoder.observations.classify
    layer.weight.data.zero_()
    layer.bias.data = torch.tensor([0.2, 0.099]).logit()  # at its threshold, and below it
    assert_close(logits_of(model, films, None), logits_of(model, films, told([1, 0], [1, 0])))


def test_a_saved_model_names_the_same(make, tmp_path):
    model, films = make(observations={"Edema": 0.1, "Cardiomegaly": 0.9})  # a configuration is saved in sorted order
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).encoder.observations
    assert again.thresholds == model.encoder.observations.thresholds == [0.9, 0.1]


def test_nothing_seen_is_a_hint_too(make):
    model, films = make()
    hints = model.encoder(**films, observations=told([0, 0], [1, 1])).hints
    table = model.encoder.observations.table
    assert_close(hints, torch.stack([table[2], table[0] + table[1]]))


def test_emphasis_counts_in_writing_alone(make):
    model, films = make(hint_emphasis=3.0)
    plain = model.encoder.observations.table[2].expand(2, -1)
    assert_close(model.encoder(**films, observations=told([0, 0], [0, 0])).hints, 3 * plain)
    assert_close(model.train().encoder(**films, observations=told([0, 0], [0, 0])).hints, plain)


def test_while_learning_half_of_the_studies_hide_their_films():
    hints = ObservationHints(make_mcsam(observations=SEEN).config, width=4)
    torch.manual_seed(0)
    films = torch.ones(1000, 3, 2)
    hidden = (hints.hide(films) == 0).all(-1).all(-1)
    assert 0.45 < hidden.float().mean() < 0.55 and torch.equal(hints.eval().hide(films), films)


def test_beams_and_candidates_hear_their_own_study(make):
    model, films = make()
    rows = told([1, 0], [0, 1])
    for settings in ({"num_beams": 2}, {"num_candidates": 3}):
        both = model.generate(**films, observations=rows, max_new_tokens=6, **settings)
        for study in range(2):
            one = {name: value[study : study + 1] for name, value in films.items()}
            alone = model.generate(**one, observations=rows[study : study + 1], max_new_tokens=6, **settings)[0]
            length = min(len(alone), both.shape[1])
            assert torch.equal(alone[:length], both[study, :length])


def test_the_loss_does_not_reach_the_layer_that_names(make):
    model, films = make()
    model.train()(**films, labels=torch.tensor([[5, 6, 2], [7, 8, 2]])).loss.backward()
    assert model.encoder.observations.classify.weight.grad is None
    assert model.encoder.observations.table.grad.abs().sum() > 0


def test_a_tokenizer_whose_codes_are_no_vectors_is_refused():
    with pytest.raises(ValueError, match="^`observations` need a tokenizer whose codes are vectors"):
        make_uar(image_tokenizer=DALLE, observations=SEEN)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, "often"])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match=r"^`observations\.Edema` must be a probability between 0 and 1\. Got "):
        make_mcsam(observations={"Edema": threshold})
