"""`generate()` in all its ways, and what Transformers asks of a model besides: the same for both models."""

import json

import pytest
import torch
from torch.testing import assert_close
from transformers import CompileConfig, DynamicCache, GenerationConfig

from radscribe import MCSAMConfig, MCSAMForConditionalGeneration, UARConfig, UARForConditionalGeneration

SIZES = {"vocab_size": 30, "encoder_layers": 2, "max_views": 2}
DECODER = {"d_model": 16, "decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 2}
DECODER |= {"max_position_embeddings": 32}
RESNET = {"model_type": "resnet", "num_channels": 1, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
BANK = {"memory_size": 12, "memory_dim": 10, "memory_top_k": 3, "memory_heads": 2}
VQ = {"model_type": "janus_vqgan", "embed_dim": 4, "num_embeddings": 24, "latent_channels": 8, "in_channels": 4}
VQ |= {"out_channels": 4, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "num_patches": 4}
MODELS = {
    "mcsam": (
        MCSAMForConditionalGeneration,
        MCSAMConfig,
        {"encoder": RESNET, "num_prompts": 3, "sam_layers": 1} | BANK,
    ),
    "uar": (
        UARForConditionalGeneration,
        UARConfig,
        {"image_tokenizer": VQ, "image_size": 32, "basis_size": 32, "aligner_heads": 2, "refine": True},
    ),
}
WORDS = 6  # written words


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    kind, config, sizes = MODELS[request.param]
    model = kind(config(decoder=dict(DECODER), **SIZES, **sizes)).eval()
    model.generation_config.eos_token_id = None  # all reports get the words asked for
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    films = torch.rand(3, 2, 1, 32, 32, generator=generator)
    return {"pixel_values": films, "view_mask": torch.tensor([[1, 1], [1, 0], [1, 1]])}


@pytest.fixture
def labels():
    return torch.randint(4, 30, (3, 7), generator=torch.Generator().manual_seed(2))


def write(model, batch, **settings):
    torch.manual_seed(3)
    return model.generate(**batch, **({"max_new_tokens": WORDS} | settings))


def in_full(model, batch, **settings):
    return write(model, batch, return_dict_in_generate=True, **settings)


# 1. What generate() returns


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 5}, {"num_beams": 2, "do_sample": True}],
    ids=["greedy", "beam", "sampling", "beam sampling"],
)
def test_every_way_writes_a_report_for_each_study(model, batch, settings):
    assert write(model, batch, **settings).shape == (3, 1 + WORDS)


def test_several_reports_of_a_study_stand_one_behind_the_other(model, batch):
    beams = write(model, batch, num_beams=4, num_return_sequences=4).view(3, 4, -1)
    assert torch.equal(beams[:, 0], write(model, batch, num_beams=4))
    assert all(len(study.unique(dim=0)) == 4 for study in beams)


def test_sampling_writes_several_reports_of_a_study(model, batch):
    assert write(model, batch, do_sample=True, num_return_sequences=3).shape == (9, 1 + WORDS)


def test_scores_are_those_of_the_words_written(model, batch):
    output = in_full(model, batch, output_scores=True, output_logits=True)
    assert len(output.scores) == WORDS and output.scores[0].shape == (3, 30)
    assert torch.equal(torch.stack(output.logits, 1).argmax(-1), output.sequences[:, 1:])


def test_scores_of_each_step_are_the_logits_of_the_whole_report(model, batch):
    output = in_full(model, batch, output_logits=True)
    whole = model(**batch, decoder_input_ids=output.sequences[:, :-1]).logits
    assert_close(torch.stack(output.logits, 1), whole, atol=1e-5, rtol=1e-4)


def test_the_score_of_a_beam_is_the_sum_of_its_words(model, batch):
    output = in_full(model, batch, num_beams=3, output_scores=True, length_penalty=0.0)
    words = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    assert_close(words.sum(1), output.sequences_scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 2])
def test_attentions_come_on_request(model, batch, beams):
    model.set_attn_implementation("eager")
    output = in_full(model, batch, output_attentions=True, num_beams=beams)
    tokens = output.cross_attentions[0][0].shape[-1]
    assert [layer.shape for layer in output.encoder_attentions] == 2 * [(3, 2, tokens, tokens)]
    for step, (words, films) in enumerate(zip(output.decoder_attentions, output.cross_attentions, strict=True), 1):
        assert [layer.shape for layer in words] == 2 * [(3 * beams, 2, 1, step)]
        assert [layer.shape for layer in films] == 2 * [(3 * beams, 2, 1, tokens)]


def test_each_word_spends_its_attention_on_the_films_that_are_there(model, batch):
    model.set_attn_implementation("eager")
    films = in_full(model, batch, output_attentions=True).cross_attentions[0][0]  # (B, H, 1, N)
    assert_close(films.sum(-1), torch.ones(3, 2, 1))
    assert films[1, ..., films.shape[-1] // 2 :].abs().max() == 0


def test_states_come_on_request(model, batch):
    output = in_full(model, batch, output_hidden_states=True)
    assert len(output.encoder_hidden_states) == len(output.decoder_hidden_states[0]) == 3
    assert all(state.shape == (3, 1, 16) for step in output.decoder_hidden_states for state in step)


def test_nothing_is_kept_that_nobody_asked_for(model, batch, labels):
    output = model(**batch, labels=labels)
    names = ("encoder_attentions", "encoder_hidden_states", "cross_attentions", "decoder_hidden_states")
    assert not any(getattr(output, name) for name in names)


def test_the_attention_of_the_films_encoder_changes_nothing_else(model, batch, labels):
    before = model(**batch, labels=labels).logits
    model.set_attn_implementation("eager")
    after = model(**batch, labels=labels, output_attentions=True)
    assert_close(after.logits, before, atol=1e-5, rtol=1e-4)
    assert_close(after.encoder_attentions[0].sum(-1), torch.ones(after.encoder_attentions[0].shape[:-1]))


def test_a_study_is_written_alike_alone_and_in_a_batch_of_mixed_views(model, batch):
    alone = {"pixel_values": batch["pixel_values"][1:2, :1], "view_mask": batch["view_mask"][1:2, :1]}
    assert torch.equal(write(model, alone)[0], write(model, batch)[1])


# 2. Weights: other types, shards, sizes


def test_half_precision_writes(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    half.generation_config.eos_token_id = None
    batch["pixel_values"] = batch["pixel_values"].bfloat16()
    assert write(half, batch, num_beams=2).shape == (3, 1 + WORDS)


def test_half_precision_learns(model, batch, labels):
    half = model.bfloat16().train()
    half(**batch | {"pixel_values": batch["pixel_values"].bfloat16()}, labels=labels).loss.backward()
    assert half.lm_head.weight.grad.abs().sum() > 0


def test_shards_load_as_they_were_saved(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    loaded, saved = type(model).from_pretrained(tmp_path).state_dict(), model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


def test_a_device_map_places_the_model(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    mapped = type(model).from_pretrained(tmp_path, device_map={"": "cpu"}).eval()
    mapped.generation_config.eos_token_id = None
    assert torch.equal(write(mapped, batch), write(model, batch))


@pytest.mark.parametrize("size", [40, 20])
def test_a_resized_vocabulary_is_saved_and_loaded(model, batch, tmp_path, size):
    model.resize_token_embeddings(size)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.vocab_size == loaded.config.decoder.vocab_size == size
    words = torch.ones(3, 2, dtype=torch.long)
    assert_close(loaded(**batch, decoder_input_ids=words).logits, model(**batch, decoder_input_ids=words).logits)


def test_gradient_checkpointing_changes_no_gradient(model, batch, labels):
    without_dropout(model).train()
    model(**batch, labels=labels).loss.backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(**batch, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        if name in plain:
            assert_close(parameter.grad, plain[name], atol=1e-5, rtol=1e-3, msg=name)


def without_dropout(model):
    for module in model.modules():
        for name in ("p", "dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


# 3. Settings of the attention


def test_the_film_encoder_attends_as_the_model_is_told(model):
    model.set_attn_implementation("eager")
    model.encoder(torch.rand(1, 1, 1, 32, 32), torch.ones(1, 1, dtype=torch.long))
    assert model.encoder.encoder.encoder.config._attn_implementation == "eager"


def test_the_decoders_attention_can_be_chosen_alone():
    kind, config, sizes = MODELS["uar"]
    page = config(decoder=dict(DECODER), **SIZES, **sizes)
    page.decoder._attn_implementation = "eager"
    assert kind(page).decoder.config._attn_implementation == "eager"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mcsam"], indirect=True)  # its cache is the harder one; a compiler takes a while
def test_compiled_steps_write_the_same(model, batch):
    compiling = CompileConfig(fullgraph=False, mode="default")
    compiling._compile_all_devices = True  # Transformers compiles on cards alone unless told so
    compiled = write(model, batch, cache_implementation="static", compile_config=compiling)
    assert model._compiled_call is not None and torch.equal(compiled, write(model, batch))


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"num_beams": 2, "do_sample": True}])
def test_films_that_stay_where_they_are_change_no_beam(model, batch, settings, monkeypatch):
    """Without a cache nothing is reordered: every word is computed from the whole beginning."""
    assert torch.equal(write(model, batch, **settings), write(model, batch, use_cache=False, **settings))


def test_beams_reorder_words_alone(model, batch, monkeypatch):
    reordered = []
    monkeypatch.setattr(DynamicCache, "reorder_cache", lambda cache, order: reordered.append(cache))
    cache = in_full(model, batch, num_beams=2).past_key_values
    assert reordered and all(one is cache.self_attention_cache for one in reordered)


# Candidates


def test_a_report_is_chosen_alike_alone_and_in_a_batch(model, batch):
    together = write(model, batch, num_candidates=4)
    assert together.shape == (3, 1 + WORDS)
    for row in range(3):
        alone = write(model, {name: value[row : row + 1] for name, value in batch.items()}, num_candidates=4)
        assert torch.equal(together[row : row + 1], alone)


def test_the_choice_needs_no_seed(model, batch):
    first = model.generate(**batch, max_new_tokens=WORDS, num_candidates=4)
    assert torch.equal(first, model.generate(**batch, max_new_tokens=WORDS, num_candidates=4))


def test_one_candidate_is_what_is_written_without(model, batch):
    assert torch.equal(write(model, batch, num_candidates=1), write(model, batch))


def test_the_report_chosen_is_the_nearest_of_equally_likely_ones(model, batch, monkeypatch):
    """Where neither likelihood nor agreement counts, the choice is the model's own film-report similarity."""
    kind = "radscribe.modeling.modeling_report"
    monkeypatch.setattr(f"{kind}.mean_log_likelihood", lambda logits, labels: torch.zeros(len(labels)))
    seen = {}
    monkeypatch.setattr(f"{kind}.choose", lambda likely, near, alike: seen.setdefault("near", near).argmax(-1))
    chosen = write(model, batch, num_candidates=4)
    ids, labels = chosen[:, :-1], chosen[:, 1:]
    reports = model._report_semantics(model.embed_words(ids), ids, labels)
    films = model.encoder(**batch).visual_semantics
    assert_close(torch.cosine_similarity(films, reports), seen["near"].amax(-1), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_says_how_many_candidates_it_writes(model, batch, tmp_path):
    model.generation_config = GenerationConfig(decoder_start_token_id=1, pad_token_id=0, num_candidates=4)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["num_candidates"] == 4
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(write(loaded, batch), write(model, batch, num_candidates=4))


def test_candidates_of_encoded_films_are_the_same(model, batch):
    encoded = model.encoder(**batch)
    assert torch.equal(
        write(model, {"encoder_outputs": encoded}, num_candidates=4), write(model, batch, num_candidates=4)
    )
    assert len(encoded.last_hidden_state) == 3
