"""The short way through the decoder's layers writes what the stock layers write."""

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache
from transformers.models.marian.modeling_marian import MarianDecoder

from radscribe.configuration.configuration_report import make_decoder_config
from radscribe.modeling.modeling_decoder import ReportDecoder, StudyCache

SIZES = {"d_model": 16, "decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 2}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
S, BEAMS, N = 3, 2, 5
R = S * BEAMS


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    config = make_decoder_config({}, SIZES | {"max_position_embeddings": 32}, 30, SPECIAL)
    config._attn_implementation = "sdpa"
    decoder = ReportDecoder(config).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # fresh biases are zero and would hide what is left out
    return decoder


@pytest.fixture
def films():
    return torch.randn(S, N, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def words():
    return torch.randn(R, 7, 16, generator=torch.Generator().manual_seed(2))


MASKS = {
    "padding": lambda T: torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]),
    "bias": lambda T: torch.randn(S, 1, T, N, generator=torch.Generator().manual_seed(T)),
}


def run(decoder, words, films, mask, steps):
    """States of words that are read in several calls with one cache, (R, T, D), and the cache."""
    cache = StudyCache(DynamicCache(), DynamicCache())
    states = []
    for step in words.split(steps, dim=1):
        seen = mask(step.shape[1])
        states.append(decoder(step, films, seen, cache, use_cache=True).last_hidden_state)
    return torch.cat(states, dim=1), cache


@pytest.mark.parametrize("steps", [[7], [4, 1, 1, 1], [1] * 7])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_short_way_gives_the_states_of_the_stock_layers(decoder, words, films, mask, steps):
    with torch.no_grad():
        short, _ = run(decoder, words, films, mask, steps)
    with torch.enable_grad():
        stock, _ = run(decoder, words, films, mask, steps)
    assert_close(short, stock, rtol=1e-5, atol=1e-5)


def test_all_beams_of_a_study_share_its_keys_and_values(decoder, words, films):
    with torch.no_grad():
        _, cache = run(decoder, words, films, MASKS["padding"], [1] * 7)
    assert all(len(layer.keys) == len(layer.values) == S for layer in cache.cross_attention_cache.layers)
    assert all(len(layer.keys) == R for layer in cache.self_attention_cache.layers)


def test_a_padded_film_token_changes_no_word(decoder, words, films):
    other = films.clone()
    other[1, 3:] = 100.0
    with torch.no_grad():
        assert_close(*(run(decoder, words, which, MASKS["padding"], [1] * 7)[0] for which in (films, other)))


def is_stock(decoder, monkeypatch, act):
    """Whether the stock layers ran."""
    calls = []
    stock = MarianDecoder.forward
    monkeypatch.setattr(MarianDecoder, "forward", lambda *args, **kwargs: calls.append(1) or stock(*args, **kwargs))
    act()
    return bool(calls)


@pytest.mark.parametrize(
    ("asked", "stock"),
    [({}, False), ({"output_attentions": True}, True), ({"attention_mask": torch.ones(R, 7)}, True)],
)
def test_what_the_stock_layers_alone_do_is_left_to_them(decoder, words, films, monkeypatch, asked, stock):
    cache = StudyCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        mask = MASKS["padding"](7)
        assert (
            is_stock(decoder, monkeypatch, lambda: decoder(words, films, mask, cache, use_cache=True, **asked))
            == stock
        )


def test_a_layer_with_a_hook_is_called(decoder, words, films):
    called = []
    decoder.layers[1].register_forward_hook(lambda *call: called.append(1))
    with torch.no_grad():
        run(decoder, words, films, MASKS["padding"], [7])
    assert called


def test_words_after_a_cached_beginning_are_read_together_by_the_stock_layers(decoder, words, films, monkeypatch):
    with torch.no_grad():
        at_once, _ = run(decoder, words, films, MASKS["padding"], [1] * 7)
        mask, cache = MASKS["padding"], StudyCache(DynamicCache(), DynamicCache())
        films, mask = films.repeat_interleave(BEAMS, 0), mask(0).repeat_interleave(BEAMS, 0)
        first = decoder(words[:, :3], films, mask, cache, use_cache=True).last_hidden_state
        rest = decoder(words[:, 3:], films, mask, cache, use_cache=True).last_hidden_state
    assert_close(torch.cat([first, rest], dim=1), at_once, rtol=1e-5, atol=1e-5)
