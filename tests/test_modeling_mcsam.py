"""MCSAM: properties of its equations on a tiny model (mcsam.md, checks that do not depend on the unknowns)."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from radscribe import MCSAMConfig, MCSAMForConditionalGeneration

RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
    "num_channels": 1,
}
DECODER = {
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_ffn_dim": 32,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 32,
}


def make_model(**changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "max_views": 2, "encoder_layers": 1, "memory_size": 12, "memory_dim": 10}
    sizes |= {"memory_top_k": 3, "memory_heads": 2, "sam_layers": 1, "num_prompts": 3}
    return MCSAMForConditionalGeneration(MCSAMConfig(encoder=RESNET, decoder=DECODER, **(sizes | changes))).eval()


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, 30, (3, 7), generator=generator)
    labels[0, 5:] = -100
    return {
        "pixel_values": torch.randn(3, 2, 1, 32, 32, generator=generator),
        "view_mask": torch.tensor([[1, 1], [1, 0], [1, 1]]),
        "labels": labels,
    }


def without_labels(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


def write(model, batch, **settings):
    torch.manual_seed(2)
    return model.generate(**without_labels(batch), max_new_tokens=10, **settings)


# 1. Memory bank


def test_each_token_retrieves_k_memory_rows_a_head_and_their_weights_sum_to_one(model):
    weights = model.encoder.memory.retrieve(torch.randn(2, 5, 16))
    assert_close((weights > 0).sum(-1), torch.full((2, 2, 5), 3))
    assert_close(weights.sum(-1), torch.ones(2, 2, 5))


def test_the_retrieved_rows_are_the_most_similar_ones(model):
    memory, tokens = model.encoder.memory, torch.randn(1, 4, 16)
    query = memory.query(tokens).view(1, 4, 2, 8).transpose(1, 2)
    key = memory.key(memory.bank).view(12, 2, 8).transpose(0, 1)
    best = (query @ key.transpose(1, 2)).topk(3, dim=-1).indices
    assert (memory.retrieve(tokens).gather(-1, best) > 0).all()


def test_gradients_reach_only_the_retrieved_memory_rows(model):
    memory, tokens = model.encoder.memory, torch.randn(1, 2, 16)
    retrieved = (memory.retrieve(tokens) > 0).any(dim=2).any(dim=1)[0]
    memory(tokens).pow(2).sum().backward()
    touched = memory.bank.grad.abs().sum(1) > 0
    assert 0 < retrieved.sum() < 12
    assert_close(touched, retrieved)


def test_consolidation_is_token_wise(model):
    tokens = torch.randn(1, 5, 16)
    changed = tokens.clone()
    changed[:, 3:] += 1
    assert_close(model.encoder.memory(tokens)[:, :3], model.encoder.memory(changed)[:, :3])


# 2. SAM


def test_the_siamese_branches_share_their_storage(model):
    alignment, ones = model.encoder.alignment, torch.ones(2, 5, dtype=torch.long)
    tokens = torch.randn(2, 5, 16)
    before = alignment.encode_films(tokens, ones), alignment.encode_report(tokens, ones)
    with torch.no_grad():
        for weight in alignment.bert.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    after = alignment.encode_films(tokens, ones), alignment.encode_report(tokens, ones)
    assert all((new - old).abs().max() > 1e-2 for old, new in zip(before, after, strict=True))


def test_the_text_branch_never_reaches_the_decoder(model, batch):
    before = model(**batch)
    with torch.no_grad():
        words = model.encoder.alignment.word_position.weight  # a weight of the text branch alone
        words.add_(torch.randn_like(words))
    after = model(**batch)
    assert (after.alignment_loss - before.alignment_loss).abs() > 1e-4
    assert_close(after.logits, before.logits)


def test_the_semantic_embedding_reaches_the_decoder(model, batch):
    before = model(**batch).logits
    with torch.no_grad():
        semantic = model.encoder.alignment.semantic.weight
        semantic.add_(torch.randn_like(semantic))
    assert (model(**batch).logits - before).abs().max() > 1e-2


def test_the_loss_is_the_sum_of_its_parts(batch):
    output = make_model(alignment_weight=0.5)(**batch)
    assert_close(output.loss, output.generation_loss + 0.5 * output.alignment_loss)


def test_the_temperature_starts_where_the_config_says_and_is_clamped(model):
    alignment = model.encoder.alignment
    assert_close(alignment.scale(), torch.tensor(1 / 0.07))
    with torch.no_grad():
        alignment.logit_scale.fill_(50)
    assert_close(alignment.scale(), torch.tensor(100.0))


def test_contrastive_loss_has_no_gradient_to_the_decoder_layers(model, batch):
    model(**batch).alignment_loss.backward()
    assert all(parameter.grad is None for parameter in model.decoder.layers.parameters())


# 3. Decoder, prompts and causality


def test_a_future_word_never_changes_earlier_logits(model, batch):
    changed = batch | {"labels": batch["labels"].clone()}
    changed["labels"][:, 4:] = 5
    assert_close(model(**batch).logits[:, :5], model(**changed).logits[:, :5])


def test_the_prompts_change_what_is_written(model, batch):
    before = model(**batch).logits
    with torch.no_grad():
        model.prompts.add_(torch.randn_like(model.prompts))
    assert not torch.allclose(model(**batch).logits, before)


def test_words_beyond_the_positions_are_refused_in_one_line(model, batch):
    with pytest.raises(ValueError, match="at most 29 words. Got 40"):
        model(**without_labels(batch), decoder_input_ids=torch.ones(3, 40, dtype=torch.long))


def test_a_report_at_hand_changes_nothing_in_generation(model, batch):
    with_report = model.generate(**batch, max_new_tokens=10)
    assert torch.equal(with_report, write(model, batch))


@pytest.mark.parametrize("prompts", [0, 3])
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3}, {"do_sample": True}, {"num_beams": 4, "num_return_sequences": 2}],
    ids=["greedy", "beam", "sampling", "several"],
)
def test_cached_and_uncached_decoding_write_the_same(batch, prompts, settings):
    model = make_model(num_prompts=prompts)
    cached, uncached = (write(model, batch, use_cache=use_cache, **settings) for use_cache in (True, False))
    assert torch.equal(cached, uncached)


@pytest.mark.slow
def test_a_static_cache_writes_the_same(model, batch):
    assert torch.equal(write(model, batch), write(model, batch, cache_implementation="static", disable_compile=True))


def test_decoding_goes_on_from_a_returned_cache(model, batch):
    whole = write(model, batch)
    start = model.generate(**without_labels(batch), max_new_tokens=4, return_dict_in_generate=True)
    states = model.encoder(batch["pixel_values"], batch["view_mask"])
    rest = model.generate(
        encoder_outputs=states,
        decoder_input_ids=start.sequences,
        decoder_attention_mask=torch.ones_like(start.sequences),
        past_key_values=start.past_key_values,
        max_new_tokens=6,
    )
    assert torch.equal(rest, whole)


def test_the_cache_counts_words_not_prompts(model, batch):
    output = model(**without_labels(batch), decoder_input_ids=torch.ones(3, 4, dtype=torch.long), use_cache=True)
    assert output.past_key_values.get_seq_length() == 4


def test_the_encoder_runs_once_a_generation(model, batch):
    calls = []
    model.encoder.visual.backbone.register_forward_hook(lambda *_: calls.append(1))
    write(model, batch, num_beams=3)
    assert len(calls) == 1


# 4. Views


class MirrorSymmetric(torch.nn.Module):
    """A backbone that sees a mirrored film as its mirrored features: grey levels of a 4 x 4 grid, in every channel."""

    def __init__(self, channels):
        super().__init__()
        self.tint = torch.nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, pixel_values):
        grid = torch.nn.functional.adaptive_avg_pool2d(pixel_values.mean(1, keepdim=True), 4)
        return SimpleNamespace(last_hidden_state=(4 * grid * self.tint).tanh())


def test_a_study_is_read_the_same_alone_and_beside_studies_of_more_views(model, batch):
    alone = model(
        pixel_values=batch["pixel_values"][1:2, :1],
        view_mask=batch["view_mask"][1:2, :1],
        decoder_input_ids=torch.ones(1, 2, dtype=torch.long),
    )
    together = model(**without_labels(batch), decoder_input_ids=torch.ones(3, 2, dtype=torch.long))
    assert_close(alone.logits[0], together.logits[1], atol=1e-5, rtol=1e-5)


def test_what_stands_in_an_empty_view_changes_nothing(model, batch):
    changed = batch | {"pixel_values": batch["pixel_values"].clone()}
    changed["pixel_values"][1, 1] = 100
    assert_close(model(**batch).logits, model(**changed).logits)


def test_the_order_of_left_and_right_matters(model, batch):
    """A model that cannot tell the sides apart cannot write `left`: the same features at mirrored places."""
    model.encoder.visual.backbone = MirrorSymmetric(model.encoder.visual.project.in_features)
    flipped = batch | {"pixel_values": batch["pixel_values"].flip(-1)}
    assert (model(**batch).logits - model(**flipped).logits).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": torch.zeros(1, 1, 32, 32)}, r"`pixel_values` must be \(B, views, C, H, W\)"),
        ({"pixel_values": torch.zeros(3, 5, 1, 32, 32)}, "at most 2"),
        ({"view_mask": torch.zeros(3, 2)}, "at least one film"),
        ({"pixel_values": None}, "`pixel_values` or `encoder_outputs`"),
        ({"labels": None}, "`labels` or `decoder_input_ids`"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, batch, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        model(**(batch | changes))
    assert "\n" not in str(error.value)


# 5. Training and storage


def test_gradients_reach_every_part(model, batch):
    model.train()(**batch).loss.backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    "changes",
    [{"memory_size": 0}, {"sam_layers": 0}, {"semantic_embedding": False}, {"num_prompts": 0}],
    ids=lambda changes: next(iter(changes)),
)
def test_each_part_can_be_left_out(batch, changes):
    model = make_model(**changes)
    model(**batch).loss.backward()
    assert write(model, batch).shape[0] == 3


@pytest.mark.slow
def test_losses_fall_to_almost_nothing_on_three_studies(model, batch):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(150):
        output = model(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.alignment_loss < 0.05 and output.generation_loss < 0.5


def test_loaded_is_saved_tensor_by_tensor(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MCSAMForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    saved = model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


def test_a_loaded_model_writes_what_the_saved_one_wrote(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MCSAMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(write(loaded, batch, num_beams=2), write(model, batch, num_beams=2))


def test_input_and_output_embeddings_are_tied_and_resize_together(model, batch):
    model.resize_token_embeddings(40)
    assert model.lm_head.weight.data_ptr() == model.decoder.embed_tokens.weight.data_ptr()
    assert model(**batch).logits.shape[-1] == 40


def test_gradient_checkpointing_gives_the_same_gradients(model, batch):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.decoder.dropout = 0.0
    model.decoder.dropout = 0.0
    for layer in model.decoder.layers:
        layer.dropout = layer.activation_dropout = layer.self_attn.dropout = layer.encoder_attn.dropout = 0.0
    for layer in model.encoder.encoder.encoder.layers:
        layer.self_attn.dropout = 0.0
    model(**batch).loss.backward()
    plain = model.prompts.grad.clone()
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(**batch).loss.backward()
    assert_close(model.prompts.grad, plain, atol=1e-5, rtol=1e-4)
