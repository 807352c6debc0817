"""Films to tokens: the stock models' very codes, whatever the model around them does."""

import pytest
import torch
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.flava.modeling_flava import FlavaImageCodebook
from transformers.models.janus.configuration_janus import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE

from radscribe.modeling.modeling_image_tokenizer import (
    CodebookTokenizer,
    VisualWords,
    VQTokenizer,
    WordsTokenizer,
    fold_pixels,
    make_image_tokenizer,
    unfold_pixels,
)


@pytest.fixture
def films():
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def vq(image_tokenizer):
    """The stock VQ model and its tokenizer, with the same weights."""
    stock = JanusVQVAE.from_pretrained(image_tokenizer)
    tokenizer = make_image_tokenizer(stock.config)
    tokenizer.model.load_state_dict(stock.state_dict(), strict=False)
    return stock, tokenizer


@pytest.fixture
def dalle():
    torch.manual_seed(0)
    stock = FlavaImageCodebook(FlavaImageCodebookConfig(hidden_size=4, vocab_size=20)).eval()
    for module in stock.modules():  # the stock start is so near zero that every place gets the same code
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
            torch.nn.init.zeros_(module.bias)
    tokenizer = make_image_tokenizer(stock.config)
    tokenizer.model.load_state_dict(stock.state_dict())
    return stock, tokenizer


@pytest.fixture
def words(visual_words):
    """Backbone and codebook as they are saved, and their tokenizer."""
    saved = VisualWords.from_pretrained(visual_words)
    tokenizer = make_image_tokenizer(saved.config)
    tokenizer.model.load_state_dict(saved.state_dict())
    return saved, tokenizer


@pytest.fixture(params=["vq", "dalle", "words"])
def tokenizer(request):
    return request.getfixturevalue(request.param)[1]


def colours(tokenizer, films):
    """These grey films with the channels that the tokenizer reads."""
    return films if isinstance(tokenizer, VQTokenizer) else films.expand(-1, 3, -1, -1)


@pytest.mark.parametrize("channels", [1, 3, 4, 12, 16])
def test_unfolding_undoes_folding(channels):
    config = JanusVQVAEConfig(in_channels=channels, out_channels=channels)
    films = torch.rand(2, 3 if channels % 3 == 0 else 1, 16, 16)
    torch.testing.assert_close(unfold_pixels(fold_pixels(films, config), config), films)


def test_folded_films_have_the_channels_and_the_scale_of_the_vq_model(vq_sizes):
    folded = fold_pixels(torch.tensor([0.0, 1.0]).repeat(1, 1, 32, 16), JanusVQVAEConfig(**vq_sizes))
    assert folded.shape == (1, 16, 8, 8) and folded.unique().tolist() == [-1, 1]


def test_a_place_holds_pixels_of_its_own_corner_of_the_film(vq_sizes):
    films = torch.zeros(1, 1, 32, 32)
    films[..., :4, 4:8] = 1
    folded = fold_pixels(films, JanusVQVAEConfig(**vq_sizes))
    assert (folded[0, :, 0, 1] == 1).all() and folded.eq(1).sum() == 16


def test_a_configuration_becomes_the_tokenizer_of_its_kind(vq, dalle, words):
    kinds = (type(vq[1]), type(dalle[1]), type(words[1]))
    assert kinds == (VQTokenizer, CodebookTokenizer, WordsTokenizer)


def test_vq_ids_are_those_of_the_stock_model(vq, films):
    stock, tokenizer = vq
    expected = stock.encode(fold_pixels(films, stock.config)).image_tokens.view(3, -1)
    assert torch.equal(tokenizer(films), expected) and len(expected.unique()) > 1


def test_dalle_ids_are_those_of_the_stock_model_for_mapped_pixels(dalle, films):
    """openai/DALL-E `map_pixels`: 0 .. 1 to 0.1 .. 0.9."""
    stock, tokenizer = dalle
    colour = films.expand(-1, 3, -1, -1)
    expected = stock.get_codebook_indices(0.8 * colour + 0.1).flatten(1)
    assert torch.equal(tokenizer(colour), expected) and len(expected.unique()) > 1


def test_words_are_the_codes_nearest_to_what_the_backbone_says_of_normalised_films(words, films):
    saved, tokenizer = words
    colour = films * torch.tensor([0.5, 0.8, 1.0]).view(3, 1, 1)
    normalised = (colour - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.25
    with torch.no_grad():
        places = saved.backbone(normalised).last_hidden_state.permute(0, 2, 3, 1).flatten(1, 2)  # (n, L, C)
    expected = torch.cdist(places, saved.codebook.weight.expand(3, -1, -1)).argmin(-1)
    assert torch.equal(tokenizer(colour), expected) and len(expected.unique()) > 1


def test_words_learn_no_statistics_from_the_films_that_they_read(words, films):
    tokenizer = words[1].train()
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    tokenizer(films.expand(-1, 3, -1, -1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())


@pytest.mark.parametrize("change", ["half", "bfloat16"])
def test_half_precision_of_the_model_around_it_rounds_none_of_its_weights(tokenizer, change):
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    getattr(torch.nn.ModuleDict({"tokenizer": tokenizer}), change)()
    after = tokenizer.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )


def test_a_film_gets_its_codes_whatever_stands_beside_it(tokenizer, films):
    films = colours(tokenizer, films)
    assert torch.equal(tokenizer(films)[1:2], tokenizer(films[1:2]))


def test_there_are_as_many_codes_as_the_configuration_says(vq, dalle, words):
    assert (vq[1].num_codes, dalle[1].num_codes, words[1].num_codes) == (24, 20, 24)


def test_training_the_model_around_leaves_it_in_inference(tokenizer):
    torch.nn.ModuleDict({"tokenizer": tokenizer}).train()
    assert not any(module.training for module in tokenizer.modules())


def test_nothing_of_it_is_trained(tokenizer):
    assert not any(parameter.requires_grad for parameter in tokenizer.parameters())


def test_mixed_precision_around_it_changes_no_code(tokenizer, films):
    films = colours(tokenizer, films)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = tokenizer(films)
    assert torch.equal(mixed, tokenizer(films))


def test_films_of_half_precision_are_read_in_full(tokenizer, films):
    films = colours(tokenizer, films).bfloat16()
    assert torch.equal(tokenizer(films), tokenizer(films.float()))


def test_no_decoder_is_carried_along(vq):
    assert not any("decoder" in name or "post_quant" in name for name in vq[1].state_dict())


def test_double_precision_reads_the_same_codes_and_lets_go_again(tokenizer, films):
    films = colours(tokenizer, films)
    codes = tokenizer(films)
    assert torch.equal(tokenizer.double()(films), codes) and torch.equal(tokenizer.float()(films), codes)
