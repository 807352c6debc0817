"""Shifted labels, masks, positions, films to visual tokens: padding and freezing change nothing they should not."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoModel, Dinov2Config, ResNetConfig
from transformers.models.marian.configuration_marian import MarianConfig

from radscribe.modeling.modeling_report import (
    VisualEncoder,
    VisualTokens,
    additive_mask,
    feature_width,
    grid_positions,
    shift_right,
)

RESNET = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic", "num_channels": 1}


@pytest.fixture
def tokens():
    """Films of 32 px to 2 x 2 tokens of width 8."""
    torch.manual_seed(0)
    return VisualTokens(ResNetConfig(**RESNET, downsample_in_first_stage=True), 8, max_views=3, dropout=0.0)


@pytest.fixture
def films():
    torch.manual_seed(1)
    return torch.randn(2, 2, 1, 32, 32)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    decoder = MarianConfig(d_model=8, decoder_ffn_dim=16, decoder_attention_heads=2, attention_dropout=0.0)
    layers = VisualEncoder(decoder, layers=2).eval()
    return lambda visual, mask: layers(visual, mask).last_hidden_state


def test_labels_move_one_step_right_behind_the_start_token():
    assert shift_right(torch.tensor([[5, 6, 2]]), start_token_id=1, pad_token_id=0).tolist() == [[1, 5, 6]]


def test_ignored_labels_become_padding():
    assert shift_right(torch.tensor([[5, 2, -100, -100]]), 1, 0).tolist() == [[1, 5, 2, 0]]


def test_shifting_leaves_the_labels_alone():
    labels = torch.tensor([[5, 2, -100]])
    shift_right(labels, 1, 0)
    assert labels.tolist() == [[5, 2, -100]]


def test_the_mask_adds_nothing_to_tokens_and_much_to_padding():
    bias = additive_mask(torch.tensor([[1, 1, 0]]), torch.float32)
    assert bias[0, 0, 0].tolist() == [0, 0, torch.finfo(torch.float32).min]


def test_the_mask_has_a_row_for_every_query():
    assert additive_mask(torch.ones(2, 3), torch.float32).shape == (2, 1, 3, 3)


def test_every_place_of_the_grid_has_its_own_position():
    positions = grid_positions(3, 5, 16, like=torch.zeros(()))
    assert positions.shape == (15, 16) and len(positions.unique(dim=0)) == 15


def test_places_of_a_row_share_half_of_their_position():
    positions = grid_positions(3, 5, 16, like=torch.zeros(())).unflatten(0, (3, 5))
    assert torch.equal(positions[1, 0, :8], positions[1, 4, :8]) and torch.equal(
        positions[0, 2, 8:], positions[2, 2, 8:]
    )


def test_a_place_has_one_position_at_any_film_size():
    like = torch.zeros(())
    torch.testing.assert_close(grid_positions(1, 1, 16, like)[0], grid_positions(3, 5, 16, like)[7])


def test_positions_tell_the_left_of_a_small_grid_from_its_right():
    columns = grid_positions(4, 4, 64, like=torch.zeros(())).unflatten(0, (4, 4))[0, :, 32:]
    assert torch.cosine_similarity(columns[0], columns[3], dim=0) < 0.5


def test_equal_steps_on_the_grid_are_equally_alike():
    positions = grid_positions(6, 6, 16, like=torch.zeros(())).unflatten(0, (6, 6))
    torch.testing.assert_close((positions[0, 1] * positions[1, 3]).sum(), (positions[3, 2] * positions[4, 4]).sum())


def test_positions_have_the_type_of_the_tokens():
    assert grid_positions(2, 2, 8, like=torch.zeros((), dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_the_width_of_a_grid_backbone_is_that_of_its_last_stage(tokens):
    assert feature_width(tokens.backbone) == 8


def test_a_backbone_without_a_stated_width_is_refused():
    nameless = SimpleNamespace(config=SimpleNamespace(model_type="odd"))
    with pytest.raises(ValueError, match="`encoder` must state `hidden_size` or `hidden_sizes`. Got a odd without"):
        feature_width(nameless)


def test_the_views_stand_one_behind_the_other(tokens, films):
    tokens.eval()
    both, _ = tokens(films, torch.ones(2, 2))
    first, _ = tokens(films[:, :1], torch.ones(2, 1))
    torch.testing.assert_close(both[:, : first.shape[1]], first)


def test_the_mask_marks_the_tokens_of_films(tokens, films):
    visual, mask = tokens(films, torch.tensor([[1, 1], [1, 0]]))
    one_view = visual.shape[1] // 2
    assert mask.tolist() == [[1] * 2 * one_view, [1] * one_view + [0] * one_view]


def test_what_stands_in_an_empty_view_changes_no_token(tokens, films):
    """In training mode: an empty view must not enter the batch statistics either."""
    view_mask, changed = torch.tensor([[1, 1], [1, 0]]), films.clone()
    changed[1, 1] = 100.0
    torch.testing.assert_close(tokens(films, view_mask)[0], tokens(changed, view_mask)[0])


def test_an_empty_view_leaves_the_batch_statistics_alone(tokens, films):
    tokens.backbone.train()
    films[1, 1] = 1000.0
    tokens(films, torch.tensor([[1, 1], [1, 0]]))
    statistics = [buffer for name, buffer in tokens.named_buffers() if name.endswith("running_var")]
    assert statistics and max(buffer.max() for buffer in statistics) < 100


def test_the_same_film_differs_as_another_view(tokens, films):
    tokens.eval()
    visual, _ = tokens(films[:, :1].expand(-1, 2, -1, -1, -1), torch.ones(2, 2))
    first, second = visual.chunk(2, dim=1)
    torch.testing.assert_close(second - first, (second - first)[:, :1].expand_as(first))
    assert (second - first).abs().max() > 0


def test_a_grid_tells_places_apart_where_the_film_does_not(tokens):
    visual, _ = tokens.eval()(torch.zeros(1, 1, 1, 64, 64), torch.ones(1, 1))
    assert len(visual[0].round(decimals=4).unique(dim=0)) == visual.shape[1]


def test_a_vision_transformer_gives_its_own_tokens(films):
    config = Dinov2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16, num_channels=1
    )
    visual, mask = VisualTokens(config, 8, max_views=2, dropout=0.0)(films, torch.ones(2, 2))
    assert visual.shape == (2, 2 * (4 + 1), 8) and mask.shape == (2, 10)  # four patches and [CLS] a film


def test_a_frozen_backbone_keeps_its_batch_statistics(tokens, films):
    tokens.backbone.requires_grad_(False)
    tokens.train()
    before = {name: buffer.clone() for name, buffer in tokens.backbone.named_buffers()}
    tokens(films, torch.ones(2, 2))
    assert all(torch.equal(buffer, before[name]) for name, buffer in tokens.backbone.named_buffers())


def test_a_trained_backbone_learns_its_batch_statistics(tokens, films):
    before = {name: buffer.clone() for name, buffer in tokens.backbone.named_buffers()}
    tokens.train()(films, torch.ones(2, 2))
    assert not all(torch.equal(buffer, before[name]) for name, buffer in tokens.backbone.named_buffers())


def test_freezing_leaves_the_rest_in_training_mode(tokens):
    tokens.backbone.requires_grad_(False)
    tokens.train()
    assert tokens.dropout.training and not tokens.backbone.training


def test_gradients_reach_the_backbone(tokens, films):
    tokens(films, torch.ones(2, 2))[0].pow(2).sum().backward()
    assert all(parameter.grad is not None for parameter in tokens.backbone.parameters())


def test_masked_tokens_change_no_other(encoder):
    torch.manual_seed(0)
    visual, mask = torch.randn(2, 6, 8), torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    changed = visual.clone()
    changed[1, 4:] = 100.0
    torch.testing.assert_close(encoder(visual, mask)[1, :4], encoder(changed, mask)[1, :4])


def test_padding_a_study_changes_none_of_its_tokens(encoder):
    torch.manual_seed(0)
    visual = torch.randn(1, 4, 8)
    padded = nn.functional.pad(visual, (0, 0, 0, 3))
    mask = torch.tensor([[1] * 4 + [0] * 3])
    torch.testing.assert_close(encoder(padded, mask)[:, :4], encoder(visual, mask[:, :4]))


def test_every_token_hears_of_every_other(encoder):
    torch.manual_seed(0)
    visual = torch.randn(1, 4, 8)
    changed = visual.clone()
    changed[0, 3] *= -1
    difference = encoder(visual, torch.ones(1, 4)) - encoder(changed, torch.ones(1, 4))
    assert (difference.abs().amax(-1) > 1e-6).all()


def test_no_layers_leave_a_norm(encoder):
    decoder = MarianConfig(d_model=8, decoder_ffn_dim=16, decoder_attention_heads=2)
    visual = torch.randn(1, 4, 8)
    torch.testing.assert_close(
        VisualEncoder(decoder, layers=0)(visual, torch.ones(1, 4)).last_hidden_state,
        nn.functional.layer_norm(visual, (8,)),
    )


@pytest.mark.parametrize("kind", ["checkpoint", "uar_checkpoint"])
def test_pickled_weights_are_read_only_where_they_are_asked_for(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    model = AutoModel.from_pretrained(folder)
    for file in ("config.json", "generation_config.json"):
        shutil.copy(folder / file, tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModel.from_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, use_safetensors=False).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.fixture(params=["checkpoint", "uar_checkpoint"])
def writer(request):
    return AutoModel.from_pretrained(request.getfixturevalue(request.param)).eval()


def _embed(model):
    with torch.no_grad():
        return model.embed_words(torch.arange(6)[None])


def test_folded_words_are_those_computed_one_by_one(writer):
    with torch.enable_grad():
        plain = writer.embed_words(torch.arange(6)[None])
    torch.testing.assert_close(_embed(writer), plain)
    assert writer.words.rows is not None


def test_a_folded_table_follows_its_weights(writer):
    before = _embed(writer)
    with torch.no_grad():
        writer.decoder.embed_tokens.weight.mul_(2)
    with torch.enable_grad():
        plain = writer.embed_words(torch.arange(6)[None])
    after = _embed(writer)
    torch.testing.assert_close(after, plain)
    assert not torch.allclose(after, before)


def test_a_folded_table_follows_a_fused_optimiser(writer):
    """Which changes weights without counting up their version."""
    optimizer = torch.optim.AdamW(writer.parameters(), lr=0.1, fused=True)
    before = _embed(writer)
    writer.embed_words(torch.arange(6)[None]).square().sum().backward()
    optimizer.step()
    after = _embed(writer)
    with torch.enable_grad():
        torch.testing.assert_close(after, writer.embed_words(torch.arange(6)[None]))
    assert not torch.allclose(after, before)


def test_a_folded_table_is_computed_once(writer, monkeypatch):
    _embed(writer)
    rows = writer.words.rows
    _embed(writer)
    assert writer.words.rows is rows


def test_a_folded_table_is_neither_saved_nor_copied(writer):
    names = set(writer.state_dict())
    _embed(writer)
    assert set(writer.state_dict()) == names and copy.deepcopy(writer).words.rows is None


def test_gradients_reach_the_words_after_folding(writer):
    _embed(writer)
    writer.embed_words(torch.arange(6)[None]).sum().backward()
    assert writer.decoder.embed_tokens.weight.grad is not None


def test_a_word_that_recurs_is_computed_once_while_learning(writer):
    function = writer.encoder.memory if writer.config.model_type == "mcsam" else writer.encoder.aligner
    seen = []
    function.register_forward_hook(lambda module, given, answer: seen.append(given[0].shape[-2]))
    ids = torch.tensor([[4, 5, 4, 4], [5, 4, 5, 5]])
    words = writer.embed_words(ids)
    assert seen == [2]
    torch.testing.assert_close(words, function(writer.decoder.embed_tokens(ids)))


def test_a_word_that_recurs_learns_from_each_place(writer):
    table, ids = writer.decoder.embed_tokens.weight, torch.tensor([[4, 5, 4, 4], [5, 4, 5, 5]])
    function = writer.encoder.memory if writer.config.model_type == "mcsam" else writer.encoder.aligner
    weights = torch.randn(2, 4, table.shape[1])
    (once,) = torch.autograd.grad((writer.embed_words(ids) * weights).sum(), table)
    (each,) = torch.autograd.grad((function(writer.decoder.embed_tokens(ids)) * weights).sum(), table)
    torch.testing.assert_close(once, each)
