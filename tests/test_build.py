"""From recipe to processor and model, and back from a folder: vocabularies, memories, backbones, bad checkpoints."""

import json
import shutil

import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from radscribe.training.build import build_model, build_processor, load_checkpoint, set_generation
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
