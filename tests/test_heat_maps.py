"""What a model says of itself while it reads a report: what a hidden window costs, attention, mask, memory."""

import pytest
import torch

from radscribe.training.build import load_checkpoint
from radscribe.training.heat_maps import BATCH, GRID, WINDOW, as_grid, hide, read_report, topic_words


@pytest.fixture(scope="module", params=["checkpoint", "uar_checkpoint"])
def model(request):
    """Network and processor of each tiny model."""
    torch.manual_seed(0)
    network, processor = load_checkpoint(str(request.getfixturevalue(request.param)))
    return network.eval(), processor


@pytest.fixture(scope="module")
def mcsam(checkpoint):
    network, processor = load_checkpoint(str(checkpoint))
    return network.eval(), processor


def study(processor, views=2, text="The lungs are clear."):
    """Inputs of a study of films of noise, and the report's labels."""
    noise = torch.rand(views, 40, 36, generator=torch.Generator().manual_seed(1)).numpy()
    inputs = dict(processor(images=[list(noise)], return_tensors="pt"))
    return inputs, processor(text=[text], return_tensors="pt")["labels"]


def test_each_word_has_heat_at_each_place_of_each_view(model):
    network, processor = model
    inputs, labels = study(processor)
    reading = read_report(network, inputs, labels)
    assert reading.heat.shape == (labels.shape[1], 2, GRID, GRID)
    assert reading.log_probability.shape == (labels.shape[1],)


def test_heat_is_what_a_word_loses_when_the_window_is_hidden(model):
    """Recomputed by hand, both views read anew, for one place of the second film."""
    network, processor = model
    inputs, labels = study(processor)
    heat = read_report(network, inputs, labels).heat
    hidden = inputs["pixel_values"].clone()
    hidden[0, 1] = hide(hidden[0, 1])[7 * GRID + 4]

    def likely(pixels):
        with torch.no_grad():
            logits = network(pixels, inputs["view_mask"], decoder_input_ids=network._shift_labels(labels)).logits
        return logits.log_softmax(-1).gather(-1, labels[..., None])[0, :, 0]

    torch.testing.assert_close(heat[:, 1, 7, 4], likely(inputs["pixel_values"]) - likely(hidden), atol=1e-5, rtol=0)


def test_a_film_that_is_grey_all_over_has_no_heat(mcsam):
    network, processor = mcsam
    inputs, labels = study(processor, views=1)
    inputs["pixel_values"] = torch.full_like(inputs["pixel_values"], 0.3)
    assert read_report(network, inputs, labels).heat.abs().max() < 1e-5


def test_attention_sums_to_one_over_all_places_of_all_views(model):
    network, processor = model
    attention = read_report(network, *study(processor)).attention
    torch.testing.assert_close(attention.sum((1, 2, 3)), torch.ones(len(attention)))


def test_the_attention_is_that_of_the_model(model):
    network, processor = model
    inputs, labels = study(processor)
    attention = read_report(network, inputs, labels).attention
    network.set_attn_implementation("eager") if hasattr(network, "refiner") else None
    network.decoder.config._attn_implementation = "eager"
    ids = network._shift_labels(labels)
    with torch.no_grad():
        layers = network(**inputs, decoder_input_ids=ids, output_attentions=True).cross_attentions
    network.decoder.config._attn_implementation = "sdpa"
    torch.testing.assert_close(attention.flatten(1), torch.stack(layers).mean((0, 2))[0])


def test_the_attention_implementation_is_given_back(model):
    network, processor = model
    before = network.decoder.config._attn_implementation
    read_report(network, *study(processor))
    assert network.decoder.config._attn_implementation == before == "sdpa"


def test_labels_behind_the_end_mark_do_not_count(model):
    network, processor = model
    inputs, labels = study(processor)
    padded = torch.nn.functional.pad(labels, (0, 3), value=-100)
    torch.testing.assert_close(
        read_report(network, inputs, padded).log_probability, read_report(network, inputs, labels).log_probability
    )


def test_only_mcsam_retrieves_from_a_memory(model):
    network, processor = model
    reading = read_report(network, *study(processor))
    if network.config.model_type == "uar":
        assert reading.memory_of_words is None and reading.memory_of_films is None
        return
    for weights in (reading.memory_of_words, reading.memory_of_films):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_a_vocabularys_words_share_the_rows_of_the_memory(mcsam):
    weights = topic_words(mcsam[0])
    assert weights.shape == (mcsam[0].config.vocab_size, mcsam[0].config.memory_size)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)))


def test_the_mask_of_the_second_stage_is_told_by_word_and_place(uar_checkpoint):
    network, processor = load_checkpoint(str(uar_checkpoint), refine=True)
    inputs, labels = study(processor)
    with torch.no_grad():
        network.refiner.mask_logits[2, 5] = 4.0
    mask = read_report(network.eval(), inputs, labels).mask
    assert mask.shape == (labels.shape[1], 2, 4, 4)
    assert mask[2, 0, 1, 1] == torch.tensor(4.0).sigmoid() and mask[3].unique().tolist() == [0.5]


def test_without_the_second_stage_there_is_no_mask(model):
    network, processor = model
    assert read_report(network, *study(processor)).mask is None


def test_observations_have_logits_and_heat(checkpoint):
    named = {"Edema": 0.5, "Fracture": 0.4}
    network, processor = load_checkpoint(str(checkpoint), observations=named)
    with torch.no_grad():
        network.encoder.observations.classify.weight.normal_()
    inputs, labels = study(processor)
    reading = read_report(network.eval(), inputs, labels)
    assert reading.observation_logits.shape == (2,)
    hidden = inputs["pixel_values"].clone()
    hidden[0, 0] = hide(hidden[0, 0])[GRID + 2]
    with torch.no_grad():
        less = network.encoder(hidden, inputs["view_mask"]).observation_logits[0]
    torch.testing.assert_close(reading.observation_heat[:, 0, 1, 2], reading.observation_logits - less)


def test_a_window_is_hidden_at_each_place():
    film = torch.zeros(1, 4 * GRID, 4 * GRID)
    film[0, 0, 0] = 4 * GRID  # so that the mean differs from every other pixel
    hidden = hide(film)
    assert len(hidden) == GRID**2
    rows, columns = (hidden[5 * GRID + 8] != film)[0].nonzero().unbind(1)
    assert (rows.min(), rows.max() + 1) == (4 * 4, 4 * (4 + WINDOW))
    assert (columns.min(), columns.max() + 1) == (4 * 7, 4 * (7 + WINDOW))
    assert hidden[5 * GRID + 8, 0, 20, 32] == film.mean()


@pytest.mark.parametrize("size", [8, 32, 112, 224])
def test_every_pixel_is_hidden_once_or_more(size):
    film = torch.rand(3, size, size)
    assert (hide(film) != film).any(0).all()


def test_what_stands_before_a_films_places_is_left_out():
    tokens = torch.arange(2 * 17)  # a class token and 4 x 4 places, twice
    grid = as_grid(tokens, views=2)
    assert grid.shape == (2, 4, 4)
    assert grid[:, 0, 0].tolist() == [1, 18] and grid[1, 3, 3] == 33


def test_a_batch_holds_films_of_one_view():
    assert GRID**2 % BATCH == 0


def test_what_the_decoder_is_told_stays_while_windows_are_hidden(checkpoint):
    """Else the heat of every word would be that of the observation that a window turns over."""
    network, processor = load_checkpoint(str(checkpoint), observations={"Edema": 0.5})
    network.eval()
    inputs, labels = study(processor, views=1)
    with torch.no_grad():
        network.encoder.observations.classify.weight.normal_()
        logit = network.encoder(**inputs).observation_logits
        network.encoder.observations.classify.bias -= logit[0] - 1e-6  # told, and any window turns it over
        hints = network.encoder.observations.table
        before = read_report(network, inputs, labels).heat
        hints[1] += 100  # what the decoder would hear of nothing told
    torch.testing.assert_close(read_report(network, inputs, labels).heat, before)
