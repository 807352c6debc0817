"""UAR: properties of its equations on a tiny model (uar.md, the eight unit tests and what the two models share)."""

import pytest
import torch
from torch.testing import assert_close

from radscribe import UARConfig, UARForConditionalGeneration

TOKENIZER = {
    "model_type": "janus_vqgan",
    "embed_dim": 4,
    "num_embeddings": 24,
    "latent_channels": 8,
    "in_channels": 4,  # 2 x 2 pixels of a grey film
    "out_channels": 4,
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
    "num_patches": 4,
}
DALLE = {"model_type": "flava_image_codebook", "hidden_size": 4, "vocab_size": 20}
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
DECODER = {"d_model": 16, "decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 2}
DECODER |= {"max_position_embeddings": 32}


def make_config(**changes):
    sizes = {"image_tokenizer": TOKENIZER, "vocab_size": 30, "image_size": 16, "encoder_layers": 1}
    return UARConfig(decoder=DECODER, **(sizes | {"basis_size": 32, "aligner_heads": 2} | changes))


def make_model(**changes):
    torch.manual_seed(0)
    model = UARForConditionalGeneration(make_config(**changes)).eval()
    if model.refiner is not None:  # a mask as training leaves it
        torch.nn.init.normal_(model.refiner.mask_logits, std=0.01)
    if getattr(model.config.image_tokenizer, "model_type", "") == "janus_vqgan":
        vq = model.encoder.unifier.tokenizer.model  # codes as training sets them: fresh ones make all places one code
        films = torch.rand(8, 4, 8, 8) * torch.linspace(0, 2, 8).view(8, 1, 1, 1) - 1
        rows = vq.quant_conv(vq.encoder(films)).permute(0, 2, 3, 1).flatten(0, 2)
        vq.quantize.embedding.weight.data = rows[torch.randperm(len(rows))[:24]].detach()
    return model


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def refined():
    return make_model(refine=True)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, 30, (3, 7), generator=generator)
    labels[0, 5:] = -100
    return {
        "pixel_values": torch.rand(3, 2, 1, 16, 16, generator=generator),
        "view_mask": torch.tensor([[1, 1], [1, 0], [1, 1]]),
        "labels": labels,
    }


def without_labels(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


def write(model, batch, **settings):
    torch.manual_seed(2)
    return model.generate(**without_labels(batch), max_new_tokens=10, **settings)


# 1. LSU: discrete tokens


def test_a_film_becomes_one_code_for_each_place(model, batch):
    ids = model.encoder.unifier.tokenize(batch["pixel_values"], batch["view_mask"])
    assert ids.shape == (3, 2, 16)
    assert 1 < len(ids.unique()) and ids.max() < 24


def test_no_gradient_reaches_the_tokenizer(model, batch):
    model.train()(**batch).loss.backward()
    assert all(parameter.grad is None for parameter in model.encoder.unifier.tokenizer.parameters())


def test_only_the_codes_of_a_batch_get_a_gradient(model, batch):
    valid = batch["view_mask"].bool()
    used = model.encoder.unifier.tokenize(batch["pixel_values"], batch["view_mask"])[valid].unique()
    model.train()(**batch).loss.backward()
    touched = model.encoder.unifier.table.weight.grad.abs().sum(1) > 0
    assert set(touched.nonzero().flatten().tolist()) == set(used.tolist())


def test_token_ids_may_stand_for_the_pixels(model, batch):
    ids = model.encoder.unifier.tokenize(batch["pixel_values"], batch["view_mask"])
    from_ids = model(visual_ids=ids, view_mask=batch["view_mask"], labels=batch["labels"])
    assert_close(from_ids.logits, model(**batch).logits)


def test_the_papers_tokenizer_takes_colour_films_and_one_code_for_8_x_8_pixels(batch):
    model = make_model(image_tokenizer=DALLE)
    colour = batch | {"pixel_values": batch["pixel_values"].expand(-1, -1, 3, -1, -1)}
    assert model.encoder.unifier.tokenize(colour["pixel_values"], colour["view_mask"]).shape == (3, 2, 4)
    model(**colour).loss.backward()


# 2. CRA: one orthonormal basis for both modalities


def test_the_basis_is_orthonormal_and_starts_unadjusted(model):
    aligner = model.encoder.aligner
    assert_close(aligner.basis.T @ aligner.basis, torch.eye(16), atol=1e-5, rtol=0)
    assert_close(aligner.adjusted_basis(), aligner.basis)


def test_a_basis_with_fewer_rows_than_columns_has_orthonormal_rows():
    basis = make_model(basis_size=8).encoder.aligner.basis
    assert_close(basis @ basis.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("basis", ["uniform", "normal"])
def test_the_rival_bases_have_the_spread_of_the_orthogonal_one(basis):
    rows = make_model(basis=basis, basis_size=4096).encoder.aligner.basis
    assert rows.std().item() == pytest.approx(4096**-0.5, rel=0.02)


def test_the_basis_is_fixed_while_its_gain_and_bias_learn(model, batch):
    model.train()(**batch).loss.backward()
    aligner = model.encoder.aligner
    assert not isinstance(aligner.basis, torch.nn.Parameter)
    assert aligner.gain.grad.abs().sum() > 0 and aligner.bias.grad.abs().sum() > 0


def test_one_aligner_serves_films_and_reports(model, batch):
    def embed():
        return model.encoder(**without_labels(batch)).visual_semantics, model.embed_words(batch["labels"][1:])

    before = embed()
    with torch.no_grad():
        model.encoder.aligner.value.weight.mul_(2)
    assert all((old - new).abs().max() > 1e-4 for old, new in zip(before, embed(), strict=True))


def test_alignment_is_token_wise(model):
    tokens = torch.randn(1, 5, 16)
    changed = tokens.clone()
    changed[:, 3:] += 1
    assert_close(model.encoder.aligner(tokens)[:, :3], model.encoder.aligner(changed)[:, :3])


def test_a_table_aligned_once_equals_its_rows_aligned_one_by_one(model):
    aligner, table = model.encoder.aligner, model.decoder.embed_tokens
    ids = torch.randint(30, (4, 20))  # more than the table has rows
    assert_close(model.embed_words(ids), aligner(table(ids)))


def test_the_dual_gate_is_as_printed(model):
    gate, E, attended = model.encoder.aligner.gate, torch.randn(3, 16), torch.randn(3, 16)
    w_1, w_2 = gate.from_tokens.weight, gate.from_basis.weight
    write_gate, keep_gate = (torch.sigmoid(E @ w_1[s].T + attended @ w_2[s].T) for s in (slice(16), slice(16, 32)))
    assert_close(gate(E, attended), write_gate * torch.tanh(E + attended) + keep_gate * E + attended)


def test_the_attention_over_the_basis_is_as_printed():
    aligner = make_model(aligner_heads=1).encoder.aligner
    tokens, basis = torch.randn(5, 16), aligner.adjusted_basis()
    weights = (aligner.query(tokens) @ aligner.key(basis).T / 4).softmax(-1)
    assert_close(aligner.attend(tokens), aligner.out(weights @ aligner.value(basis)))


def test_the_rivals_of_the_gate_are_the_bare_attention_and_the_sum():
    tokens = torch.randn(1, 3, 16)
    bare, addition = (make_model(fusion=fusion).encoder.aligner for fusion in ("none", "addition"))
    assert_close(bare(tokens)[0], bare.attend(tokens[0]))
    assert_close(addition(tokens)[0], tokens[0] + addition.attend(tokens[0]))


def test_the_alignment_loss_pools_words_alone(model, batch):
    """Start mark, end mark and padding say nothing of a study."""
    batch["labels"][[0, 1, 2], [4, 6, 6]] = 2
    longer = batch | {"labels": torch.nn.functional.pad(batch["labels"], (0, 4), value=-100)}
    assert_close(model(**batch).alignment_loss, model(**longer).alignment_loss)
    with torch.no_grad():
        model.decoder.embed_tokens.weight[:3] += 1  # padding, start, end
    assert_close(model(**batch).alignment_loss, model(**longer).alignment_loss)


# 3. TIR: the mask inside the cross-attention


def cross_attentions(model, batch):
    model.set_attn_implementation("eager")
    return model(**batch, output_attentions=True).cross_attentions[0]  # (B, H, T, N)


def test_a_constant_mask_is_no_mask(refined, batch):
    torch.nn.init.constant_(refined.refiner.mask_logits, 0.7)
    masked = refined(**batch).logits
    refined.refiner = None
    assert_close(masked, refined(**batch).logits)


def test_raising_one_cell_moves_the_attention_of_that_row_alone(refined, batch):
    torch.nn.init.zeros_(refined.refiner.mask_logits)
    before = cross_attentions(refined, batch)
    with torch.no_grad():
        refined.refiner.mask_logits[2, 5] += 0.02
    after = cross_attentions(refined, batch)
    assert (after[:, :, 2, 5] > before[:, :, 2, 5]).all()
    others = [0, 1, 3, 4, 5, 6]
    assert_close(after[:, :, others], before[:, :, others])


def test_the_mask_is_added_inside_the_root_as_printed(refined):
    position, scale = torch.arange(4), 1000 / 8**0.5  # two heads of width 8
    bias, printed = refined.refiner(position, 32), scale * refined.refiner.mask_logits[:4].sigmoid()
    assert_close(bias.softmax(-1), printed.softmax(-1))


def test_the_mask_loss_is_half_of_all_cells_at_zero_and_falls_to_nothing(refined):
    refiner, is_word = refined.refiner, torch.ones(2, 7)
    torch.nn.init.zeros_(refiner.mask_logits)
    assert_close(refiner.loss(is_word, 32, "sum"), torch.tensor(0.5 * 7 * 32))
    assert_close(refiner.loss(is_word, 32, "mean"), torch.tensor(0.5))
    torch.nn.init.constant_(refiner.mask_logits, 30.0)
    assert refiner.loss(is_word, 32, "sum") < 1e-6


def test_padded_words_cost_no_mask_loss(refined):
    short = refined.refiner.loss(torch.tensor([[1, 1, 0, 0]]), 32, "sum")
    assert_close(short, refined.refiner.loss(torch.ones(1, 2), 32, "sum"))


def test_a_film_that_is_not_there_gets_no_attention(refined, batch):
    assert cross_attentions(refined, batch)[1, :, :, 16:].abs().max() == 0


def test_the_first_stage_has_no_mask(model, batch):
    assert not any("mask" in name for name in model.state_dict())
    assert model(**batch).mask_loss is None


def test_the_second_stage_begins_as_the_first_ended(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    second = UARForConditionalGeneration.from_pretrained(tmp_path, refine=True).eval()
    assert second.config.refine and second.refiner.mask_logits.abs().max() == 0
    first_output, output = model(**batch), second(**batch)
    assert_close(output.logits, first_output.logits)
    output.loss.backward()
    assert second.refiner.mask_logits.grad.abs().sum() > 0


def test_sdpa_and_eager_attention_agree_under_the_mask(refined, batch):
    fused = refined(**batch).logits
    refined.set_attn_implementation("eager")
    assert_close(refined(**batch).logits, fused, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3}, {"do_sample": True}, {"num_beams": 4, "num_return_sequences": 2}],
    ids=["greedy", "beam", "sampling", "several"],
)
def test_cached_and_uncached_decoding_write_the_same(batch, refine, settings):
    model = make_model(refine=refine)
    if refine:
        torch.nn.init.normal_(model.refiner.mask_logits, std=0.1)
    cached, uncached = (write(model, batch, use_cache=use_cache, **settings) for use_cache in (True, False))
    assert torch.equal(cached, uncached)


def test_each_step_of_cached_decoding_sees_its_own_row_of_the_mask(refined, batch):
    ids = torch.randint(4, 30, (3, 6))
    states = refined.encoder(batch["pixel_values"], batch["view_mask"])
    whole = refined(encoder_outputs=states, decoder_input_ids=ids).logits
    cache, steps = None, []
    for t in range(6):
        output = refined(
            encoder_outputs=states,
            decoder_input_ids=ids[:, t : t + 1],
            decoder_attention_mask=torch.ones(3, t + 1, dtype=torch.long),
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        steps.append(output.logits)
    assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_static_cache_writes_the_same(refined, batch):
    static = write(refined, batch, cache_implementation="static", disable_compile=True)
    assert torch.equal(write(refined, batch), static)


# 4. The whole


def test_the_loss_is_the_weighted_sum_of_its_parts(batch):
    output = make_model(refine=True, alignment_weight=0.5, mask_weight=0.25)(**batch)
    parts = output.generation_loss + 0.5 * output.alignment_loss + 0.25 * output.mask_loss
    assert_close(output.loss, parts)


def test_the_printed_sums_are_an_option(batch):
    mean, total = (make_model(refine=True, loss_reduction=how)(**batch) for how in ("mean", "sum"))
    assert_close(total.generation_loss, mean.generation_loss * 19 / 3)  # 5 + 7 + 7 words of three reports
    assert_close(total.mask_loss, mean.mask_loss * 19 / 3 * 32)


def test_a_future_word_never_changes_earlier_logits(refined, batch):
    changed = batch | {"labels": batch["labels"].clone()}
    changed["labels"][:, 4:] = 5
    assert_close(refined(**batch).logits[:, :5], refined(**changed).logits[:, :5])


def test_gradients_reach_every_part_but_the_tokenizer(refined, batch):
    refined.train()(**batch).loss.backward()
    assert [name for name, p in refined.named_parameters() if p.requires_grad and p.grad is None] == []


def test_what_stands_in_an_empty_view_changes_nothing(refined, batch):
    changed = batch | {"pixel_values": batch["pixel_values"].clone()}
    changed["pixel_values"][1, 1] = 0.3
    assert_close(refined(**batch).logits, refined(**changed).logits)


def test_a_study_is_read_the_same_alone_and_beside_studies_of_more_views(refined, batch):
    start = torch.ones(1, 2, dtype=torch.long)
    alone = refined(
        pixel_values=batch["pixel_values"][1:2, :1], view_mask=batch["view_mask"][1:2, :1], decoder_input_ids=start
    )
    together = refined(**without_labels(batch), decoder_input_ids=start.expand(3, -1))
    assert_close(alone.logits[0], together.logits[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"basis_size": 0}, {"alignment_weight": 0.0}, {"image_tokenizer": None, "encoder": RESNET, "image_size": 32}],
    ids=lambda changes: next(iter(changes)),
)
def test_each_part_can_be_left_out_as_the_rows_of_table_2_ask(batch, changes):
    model = make_model(**changes)
    if "encoder" in changes:
        batch["pixel_values"] = torch.rand(3, 2, 3, 32, 32)
    model(**batch).loss.backward()
    assert write(model, batch).shape[0] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": torch.zeros(1, 1, 16, 16)}, r"`pixel_values` must be \(B, views, C, H, W\)"),
        ({"pixel_values": torch.zeros(3, 2, 1, 24, 24)}, "films of 16x16 pixels. Got 24x24"),
        ({"pixel_values": None}, "`pixel_values` or `encoder_outputs`"),
        ({"labels": torch.full((3, 40), 5)}, "at most 32 words. Got 40"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, batch, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        model(**(batch | changes))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_losses_fall_to_almost_nothing_on_three_studies(model, batch):
    batch["pixel_values"] *= torch.tensor([0.1, 0.5, 1.0]).view(3, 1, 1, 1, 1)  # films whose codes differ
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model.train()
    for _ in range(200):
        output = model(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.alignment_loss < 0.1 and output.generation_loss < 0.5


def test_loaded_is_saved_tensor_by_tensor_the_basis_and_the_tokenizer_included(refined, tmp_path):
    refined.save_pretrained(tmp_path)
    loaded = UARForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    saved = refined.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


def test_a_model_loaded_in_half_precision_keeps_its_tokenizer_whole(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = UARForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.lm_head.weight.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in half.encoder.unifier.tokenizer.parameters())


def test_embeddings_resize_together(model, batch):
    model.resize_token_embeddings(40)
    assert model(**batch).logits.shape[-1] == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view_mask": torch.ones(3, 3)}, r"`view_mask` must be \(3, 2\)"),
        ({"pixel_values": None, "visual_ids": torch.zeros(3, 2, 5).long()}, r"`visual_ids` must be \(B, views, "),
        ({"visual_features": torch.zeros(3, 2, 4, 4, 4)}, "This model reads tokens"),
    ],
)
def test_inputs_of_another_film_reader_are_one_line(model, batch, change, message):
    with pytest.raises(ValueError, match=message):
        model(**batch | change)
