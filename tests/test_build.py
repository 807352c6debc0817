"""From recipe to processor and model, and back from a folder: vocabularies, memories, backbones, bad checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    TimmWrapperConfig,
    TimmWrapperModel,
)
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.flava.modeling_flava import FlavaImageCodebook
from transformers.models.janus.modeling_janus import JanusVQVAE

from radscribe.modeling.modeling_image_tokenizer import VisualWords
from radscribe.training.build import (
    build_model,
    build_processor,
    load_checkpoint,
    load_image_tokenizer,
    set_generation,
    share_norms,
)
from radscribe.training.recipe import parse_recipe

FINDINGS = ["The lungs are clear.", "The heart is enlarged.", "There is a small left effusion."]


@pytest.fixture
def recipe(tiny):
    """recipe(**changes): a parsed recipe of the tiny model; `config` changes single sizes."""

    def make(config=None, **changes):
        values = {"model": "mcsam", "dataset": "data", "output_dir": "run", "max_steps": 1, "memory_init": "random"}
        return parse_recipe(values | tiny | changes | {"config": tiny["config"] | (config or {})})

    return make


@pytest.fixture
def build(recipe):
    """build(**changes): processor and model of a recipe."""

    def make(**changes):
        page = recipe(**changes)
        torch.manual_seed(page.seed)
        processor = build_processor(page, FINDINGS)
        return processor, build_model(page, processor, FINDINGS)

    return make


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A copy of a checkpoint to break."""
    return shutil.copytree(checkpoint, tmp_path / "broken")


def words(processor):
    return set(processor.tokenizer.get_vocab()) - {"<pad>", "<s>", "</s>", "<unk>"}


def test_the_vocabulary_is_made_of_the_words_given(recipe):
    expected = set("the lungs are clear . heart is enlarged there a small left effusion".split())
    assert words(build_processor(recipe(), FINDINGS)) == expected


def test_rare_words_are_left_out(recipe):
    assert words(build_processor(recipe(min_frequency=2), FINDINGS)) == {"the", "is", "."}


def test_the_processor_has_the_recipes_settings(recipe):
    processor = build_processor(recipe(max_length=33, report_style="mimic"), FINDINGS)
    assert (processor.max_length, processor.report_style, processor.image_processor.size) == (33, "mimic", 32)


def test_the_model_knows_as_many_words_as_the_tokenizer(build):
    processor, model = build()
    assert model.config.vocab_size == model.lm_head.out_features == len(processor.tokenizer)


def test_the_model_has_the_tokenizers_special_tokens(build):
    processor, model = build()
    tokenizer, config = processor.tokenizer, model.config
    assert config.decoder_start_token_id == config.bos_token_id == tokenizer.bos_token_id
    assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_the_model_has_the_recipes_sizes(build):
    _, model = build(config={"num_prompts": 5})
    assert model.config.num_prompts == 5 and model.config.encoder.hidden_sizes == [4, 8]


@pytest.mark.parametrize("how", ["ot", "kmeans", "random"])
def test_the_bank_starts_with_rows_of_length_one(build, how):
    _, model = build(memory_init=how)
    torch.testing.assert_close(model.encoder.memory.bank.norm(dim=-1), torch.ones(4))


def test_the_bank_depends_on_how_it_is_started(build):
    banks = [build(memory_init=how)[1].encoder.memory.bank for how in ("kmeans", "random")]
    assert not torch.allclose(*banks)


def test_the_bank_stays_trainable(build):
    assert build()[1].encoder.memory.bank.requires_grad


def test_without_a_memory_no_topics_are_learned(build, monkeypatch):
    monkeypatch.setattr("radscribe.training.build.initial_memory", None)
    assert build(config={"memory_size": 0})[1].config.memory_size == 0


def test_an_unknown_start_of_the_memory_is_refused(build):
    with pytest.raises(ValueError, match="`memory_init` must be 'ot', 'kmeans' or 'random'. Got 'pca'"):
        build(memory_init="pca")


def test_one_seed_builds_one_model(build):
    first, second = (build()[1].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_backbone_of_a_folder_comes_with_its_weights(build, tmp_path):
    backbone = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_channels=1))
    backbone.save_pretrained(tmp_path / "backbone")
    own = build(encoder=str(tmp_path / "backbone"))[1].encoder.visual.backbone.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in backbone.state_dict().items())


@pytest.fixture
def dino(tmp_path):
    """The folder of a random backbone of rad-dino's kind, a ViT, and films as it reads them."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(tmp_path / "dino")
    films = {"size": 28, "num_channels": 3, "image_mean": [0.5307], "image_std": [0.2583]}
    return {"encoder": str(tmp_path / "dino"), "image_processor": films}


def test_a_vision_transformer_by_one_setting_learns_and_writes(build, dino):
    processor, model = build(**dino)
    batch = processor(images=[Image.new("L", (40, 30), grey) for grey in (0, 200)], text=FINDINGS[:2])
    batch = batch.convert_to_tensors("pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):
        losses.append(model(**batch).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert model.encoder.visual.backbone.embeddings.cls_token.grad.abs().sum() > 0
    assert len(processor.batch_decode(model.eval().generate(batch["pixel_values"], max_new_tokens=4))) == 2


def test_a_checkpoint_does_not_tell_where_its_backbone_came_from(build, dino, tmp_path):
    build(**dino)[1].save_pretrained(tmp_path / "run")
    assert str(tmp_path) not in (tmp_path / "run" / "config.json").read_text()


def test_an_unknown_backbone_is_one_line_that_names_the_way_out(build):
    with pytest.raises(
        ValueError, match=r"^`encoder`: no vision model by the name `nobody/nothing` \([^\n]*folder"
    ) as e:
        build(encoder="nobody/nothing")
    assert "\n" not in str(e.value)


def test_a_backbone_folder_without_a_model_is_one_line(build, tmp_path):
    with pytest.raises(ValueError, match=r"^`encoder`: no vision model by the folder `[^\n]*$"):
        build(encoder=str(tmp_path))


def test_the_recipe_says_how_the_checkpoint_writes(build, recipe):
    processor, model = build()
    set_generation(model, recipe(generation={"num_beams": 3, "no_repeat_ngram_size": 2}), processor)
    settings = model.generation_config
    assert (settings.num_beams, settings.no_repeat_ngram_size) == (3, 2)


def test_candidates_named_in_the_recipe_come_back_with_the_checkpoint(build, recipe, tmp_path):
    processor, model = build()
    set_generation(model, recipe(generation={"num_candidates": 4}), processor)
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).generation_config.num_candidates == 4


def test_a_checkpoint_writes_no_more_words_than_its_processor_reads(build, recipe):
    processor, model = build(max_length=17)
    set_generation(model, recipe(), processor)
    assert model.generation_config.max_length == 17


def test_the_recipe_may_allow_longer_reports(build, recipe):
    processor, model = build(max_length=17)
    set_generation(model, recipe(generation={"max_length": 25}), processor)
    assert model.generation_config.max_length == 25


def test_a_checkpoint_comes_back_tensor_by_tensor(checkpoint):
    first, second = (load_checkpoint(str(checkpoint))[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_comes_with_its_words(checkpoint):
    assert "effusion" in words(load_checkpoint(str(checkpoint))[1])


def test_a_checkpoint_comes_with_its_way_of_writing(checkpoint):
    assert load_checkpoint(str(checkpoint))[0].generation_config.max_length == 12


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_checkpoint_of_another_model_type_is_refused(broken):
    change_config(broken, model_type="bert")
    with pytest.raises(ValueError, match=r"broken` is a `bert` model. Expected one of: mcsam, uar\.$"):
        load_checkpoint(str(broken))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^No checkpoint at `[^\n]*$"):
        load_checkpoint(str(tmp_path))


def test_a_name_that_nobody_has_is_refused():
    with pytest.raises(
        ValueError, match=r"^No checkpoint at `nobody/nothing`: no such folder here, and no such model"
    ):
        load_checkpoint("nobody/nothing")


def test_a_film_in_place_of_a_checkpoint_is_refused(draw_film):
    with pytest.raises(ValueError, match=r"^No checkpoint at `[^\n]*film.png`[^\n]*$"):
        load_checkpoint(str(draw_film("film.png")))


def test_a_checkpoint_without_weights_is_refused(broken):
    (broken / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^The checkpoint `[^\n]*` is not whole: [^\n]*$"):
        load_checkpoint(str(broken))


def test_a_checkpoint_with_half_of_its_weights_file_is_refused(broken):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^The checkpoint `[^\n]*` is not whole: [^\n]*$"):
        load_checkpoint(str(broken))


@pytest.mark.parametrize("pattern", ["tokenizer*", "*processor_config.json"])
def test_a_checkpoint_without_its_processor_is_refused(broken, pattern):
    for path in broken.glob(pattern):
        path.unlink()
    with pytest.raises(ValueError, match=r"^The checkpoint `[^\n]*` is not whole: [^\n]*$"):
        load_checkpoint(str(broken))


def test_a_checkpoint_with_a_spoilt_configuration_is_refused(broken):
    (broken / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"^[^\n]*broken[^\n]*$"):
        load_checkpoint(str(broken))


# UAR on the tokens of a trained image tokenizer


@pytest.fixture
def build_uar(tiny_uar):
    """build_uar(**changes): processor and model of a tiny recipe of UAR; dicts change single keys."""

    def make(**changes):
        merged = {k: tiny_uar[k] | v if isinstance(v, dict) and k in tiny_uar else v for k, v in changes.items()}
        page = parse_recipe(
            {"model": "uar", "dataset": "data", "output_dir": "run", "max_steps": 1} | tiny_uar | merged
        )
        torch.manual_seed(page.seed)
        processor = build_processor(page, FINDINGS)
        return processor, build_model(page, processor, FINDINGS)

    return make


def test_uar_gets_the_weights_of_its_image_tokenizer(build_uar, image_tokenizer):
    own = build_uar()[1].encoder.unifier.tokenizer.model.state_dict()
    trained = JanusVQVAE.from_pretrained(image_tokenizer).state_dict()
    assert own and all(torch.equal(tensor, trained[name]) for name, tensor in own.items())


def test_uar_leaves_the_decoder_of_its_image_tokenizer_behind(build_uar):
    assert not any("tokenizer.model.decoder" in name for name in build_uar()[1].state_dict())


def test_uar_reads_films_of_the_recipes_size(build_uar):
    model = build_uar()[1]
    assert (model.config.image_size, model.config.tokens_per_view) == (32, 16)


def test_uar_comes_with_a_processor_of_its_own_kind(build_uar):
    processor, model = build_uar()
    assert type(processor).__name__ == "UARProcessor" and model.config.vocab_size == len(processor.tokenizer)


def test_uar_without_tokens_reads_films_by_a_backbone(build_uar, tiny):
    model = build_uar(image_tokenizer=None, encoder=tiny["encoder"])[1]
    assert model.config.image_tokenizer is None and model.encoder.visual.backbone is not None


def test_uar_takes_the_dalle_dvae_too(build_uar, tmp_path):
    dalle = FlavaImageCodebook(FlavaImageCodebookConfig(hidden_size=4, vocab_size=20))
    dalle.save_pretrained(tmp_path)
    own = build_uar(image_tokenizer=str(tmp_path), image_processor={"num_channels": 3})[1].encoder.unifier.tokenizer
    assert all(torch.equal(tensor, own.model.state_dict()[name]) for name, tensor in dalle.state_dict().items())


@pytest.fixture
def build_on_words(build_uar, visual_words):
    """As `build_uar`, on visual words."""
    return lambda **changes: build_uar(
        **{"image_tokenizer": str(visual_words), "image_processor": {"num_channels": 3}} | changes
    )


def test_uar_gets_backbone_and_codes_of_its_visual_words(build_on_words, visual_words):
    own = build_on_words()[1].encoder.unifier.tokenizer.model.state_dict()
    found = VisualWords.from_pretrained(visual_words).state_dict()
    assert own.keys() == found.keys() and all(torch.equal(tensor, found[name]) for name, tensor in own.items())


def test_visual_words_in_uar_give_the_ids_that_they_give_alone(build_on_words, visual_words, tmp_path):
    films = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for part in build_on_words():
        part.save_pretrained(tmp_path)
    unifier = load_checkpoint(str(tmp_path))[0].encoder.unifier
    with torch.no_grad():
        alone = VisualWords.from_pretrained(visual_words)(films.flatten(0, 1)).view(2, 2, -1)
    assert torch.equal(unifier.tokenize(films, torch.ones(2, 2)), alone) and len(alone.unique()) > 1


def test_visual_words_of_a_half_precision_uar_are_read_in_full(build_on_words, visual_words, tmp_path):
    model = build_on_words()[1]
    model.bfloat16().save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).encoder.unifier
    found = VisualWords.from_pretrained(visual_words).state_dict()
    own = loaded.tokenizer.model.state_dict()
    assert loaded.table.weight.dtype == torch.bfloat16
    assert all(torch.equal(own[name], tensor) for name, tensor in found.items())


def test_films_must_have_the_channels_that_visual_words_read(build_on_words):
    with pytest.raises(ValueError, match="`image_processor.num_channels` must be 3, as the image tokenizer reads"):
        build_on_words(image_processor={"num_channels": 1})


def test_visual_words_without_their_codes_are_refused(visual_words, tmp_path):
    folder = shutil.copytree(visual_words, tmp_path / "part")
    tensors = load_file(folder / "model.safetensors")
    del tensors["codebook.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"\(its weights lack codebook.weight\)"):
        load_image_tokenizer(str(folder))


@pytest.mark.parametrize("scale", [{"image_mean": [0.5]}, {"image_std": [0.25]}])
def test_an_image_tokenizer_wants_pixels_in_zero_to_one(build_uar, scale):
    with pytest.raises(ValueError, match=r"^`image_processor` must leave pixels in \[0, 1\] for an image tokenizer"):
        build_uar(image_processor=scale)


def test_films_must_have_the_channels_that_the_image_tokenizer_reads(build_uar):
    with pytest.raises(ValueError, match="`image_processor.num_channels` must be 1, as the image tokenizer reads"):
        build_uar(image_processor={"num_channels": 3})


def test_films_must_divide_into_tokens(build_uar):
    with pytest.raises(ValueError, match="`image_size` must be a multiple of 8, the tokenizer's step. Got 36"):
        build_uar(image_processor={"size": 36})


def refuse_tokenizer(folder):
    with pytest.raises(ValueError, match=r"^`image_tokenizer`: no tokenizer of films at `[^\n]*make one\.$"):
        load_image_tokenizer(str(folder))


def test_an_image_tokenizer_that_is_not_there_is_one_line_with_the_way_out(tmp_path):
    refuse_tokenizer(tmp_path / "gone")


def test_a_folder_without_an_image_tokenizer_is_refused(tmp_path):
    refuse_tokenizer(tmp_path)


def test_a_model_that_is_no_image_tokenizer_is_refused(checkpoint):
    with pytest.raises(ValueError, match="its model type is 'mcsam', expected one of flava_image_codebook, janus_vqg"):
        load_image_tokenizer(str(checkpoint))


def test_half_of_an_image_tokenizers_weights_file_is_refused(image_tokenizer, tmp_path):
    folder = shutil.copytree(image_tokenizer, tmp_path / "half")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refuse_tokenizer(folder)


def test_an_image_tokenizer_without_its_codes_is_refused(image_tokenizer, tmp_path):
    """They would be random ones."""
    folder = shutil.copytree(image_tokenizer, tmp_path / "part")
    tensors = load_file(folder / "model.safetensors")
    del tensors["quantize.embedding.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"\(its weights lack quantize.embedding.weight\)"):
        load_image_tokenizer(str(folder))


def test_a_checkpoint_does_not_tell_where_its_image_tokenizer_came_from(saved_uar, image_tokenizer):
    assert str(image_tokenizer) not in (Path(saved_uar) / "config.json").read_text()


def test_an_image_tokenizer_saved_in_half_precision_is_loaded_in_full(image_tokenizer, tmp_path):
    JanusVQVAE.from_pretrained(image_tokenizer, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert all(p.dtype == torch.float32 for p in load_image_tokenizer(str(tmp_path)).parameters())


@pytest.fixture
def saved_uar(build_uar, tmp_path):
    """The folder of a tiny UAR of the first stage."""
    for part in build_uar():
        part.save_pretrained(tmp_path)
    return str(tmp_path)


def test_fields_of_a_loaded_checkpoint_can_be_set_anew(saved_uar):
    model = load_checkpoint(saved_uar, refine=True, margin=0.4)[0]
    assert model.refiner is not None and (model.config.refine, model.config.margin) == (True, 0.4)


def test_fields_set_anew_leave_the_weights_as_they_are(saved_uar):
    plain, changed = (load_checkpoint(saved_uar, **more)[0].state_dict() for more in ({}, {"refine": True}))
    assert plain and all(torch.equal(tensor, changed[name]) for name, tensor in plain.items())


def test_fields_set_anew_do_not_end_up_in_the_generation_settings(saved_uar):
    assert "refine" not in load_checkpoint(saved_uar, refine=True)[0].generation_config.to_dict()


def test_fields_set_anew_are_checked(saved_uar):
    with pytest.raises(ValueError, match="^`margin` must be at least 0. Got -1.0"):
        load_checkpoint(saved_uar, margin=-1.0)


@pytest.mark.parametrize(("init", "alike"), [("codes", True), ("random", False)])
def test_a_table_starts_from_the_codes_only_where_the_recipe_says_so(build_uar, image_tokenizer, init, alike):
    """Turned codes keep their inner products up to scale."""
    table = build_uar(table_init=init)[1].encoder.unifier.table.weight.detach()
    vectors = JanusVQVAE.from_pretrained(image_tokenizer).quantize.embedding.weight.detach()
    vectors = (vectors - vectors.mean(0)) / vectors.std(0)
    products = [torch.nn.functional.normalize((rows @ rows.T).flatten(), dim=0) for rows in (table, vectors)]
    assert ((products[0] @ products[1]).item() > 0.999) == alike


def test_a_table_starts_from_visual_words_too(build_on_words, visual_words):
    """Eight channels turn into sixteen dimensions without loss."""
    table = build_on_words(table_init="codes")[1].encoder.unifier.table.weight.detach()
    vectors = VisualWords.from_pretrained(visual_words).codebook.weight.detach()
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    products = [torch.nn.functional.normalize((rows @ rows.T).flatten(), dim=0) for rows in (table, vectors)]
    assert (products[0] @ products[1]).item() > 0.999


def test_a_table_cannot_start_from_the_dvaes_codes(build_uar, tmp_path):
    FlavaImageCodebook(FlavaImageCodebookConfig(hidden_size=4, vocab_size=20)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^`table_init: codes` needs a tokenizer whose codes are vectors"):
        build_uar(image_tokenizer=str(tmp_path), image_processor={"num_channels": 3}, table_init="codes")


def test_films_must_be_laid_out_as_the_image_tokenizer_has_learnt_them(build_uar, image_tokenizer, tmp_path):
    folder = shutil.copytree(image_tokenizer, tmp_path / "tokenizer")
    (folder / "preprocessor_config.json").write_text('{"size": 48, "fit": "pad"}')
    with pytest.raises(ValueError, match="`image_processor.size` must be 48"):
        build_uar(image_tokenizer=str(folder))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_backbone_shared_by_processes_reads_films_as_it_did(device):
    """Activations that timm keeps within its norms included."""
    config = TimmWrapperConfig(architecture="tf_efficientnet_lite0", model_args={"in_chans": 1}, num_labels=0)
    backbone, films = TimmWrapperModel(config).eval(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        before = backbone(films).last_hidden_state
        after = share_norms(backbone, device)(films).last_hidden_state
    assert torch.equal(before, after)


def test_on_a_cpu_a_shared_backbone_keeps_its_statistics():
    backbone = share_norms(ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[8], depths=[1])), "cpu").train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
