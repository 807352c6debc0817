"""Recipes: every shipped one parses and explains each key; a misspelt key or a wrong type is refused in one line."""

import re

import pytest
import yaml

from radscribe.training.recipe import (
    RECIPES,
    Recipe,
    load_recipe,
    parse_recipe,
    read_values,
    recipe_names,
    save_recipe,
    split_stages,
)

NEEDED = {"model": "mcsam", "dataset": "data", "output_dir": "run", "max_steps": 10}


def keys_of(node):
    """Every key of a YAML page, inner ones included: (name, line number)."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, key.start_mark.line
            yield from keys_of(value)


@pytest.fixture
def page(tmp_path):
    """page("seed: 1"): a YAML file with the needed keys and these lines."""

    def write(text=""):
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump(NEEDED) + text)
        return str(path)

    return write


def test_the_recipes_of_the_package_are_there():
    mcsam = {"mcsam_phantom", "mcsam_iu_small", "mcsam_iu", "mcsam_mimic"}
    uar = {"uar_phantom", "uar_iu_small", "uar_iu_words", "uar_iu", "uar_mimic"}
    readers = {"image_tokenizer_phantom", "image_tokenizer_iu", "visual_words_iu", "backbone_iu"}
    assert mcsam | uar | readers == set(recipe_names())


REPORTS = [name for name in recipe_names() if name.startswith(("mcsam", "uar"))]


@pytest.mark.parametrize("name", REPORTS)
def test_a_shipped_recipe_parses(name):
    assert isinstance(load_recipe(name), Recipe)


@pytest.mark.parametrize("name", recipe_names())
def test_every_key_carries_a_comment_on_its_line_or_the_line_above(name):
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    bare = [
        f"line {line + 1}: {key}"
        for key, line in keys_of(yaml.compose("\n".join(lines)))
        if not re.search(r"\s#\s*\S", lines[line]) and not re.match(r"\s*#\s*\S", lines[line - 1] if line else "")
    ]
    assert bare == []


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_names_no_path_of_a_machine(name):
    assert not any(str(value).startswith(("/", "~")) for value in read_values(name).values())


@pytest.mark.parametrize("name", REPORTS)
def test_a_shipped_recipe_never_selects_by_the_test_split(name):
    assert "test" not in load_recipe(name).select_by


@pytest.mark.parametrize("name", REPORTS)
def test_a_recipe_saved_as_run_trains_again(name, tmp_path):
    recipe = load_recipe(name)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


def test_keys_that_are_left_out_have_their_defaults(page):
    assert load_recipe(page()) == Recipe(**NEEDED)


MISSPELT = {
    "learning_rat: 1.0": "Unknown recipe key `learning_rat`. Did you mean `learning_rate`?",
    "config: {memory_sise: 8}": "Unknown config key `memory_sise`. Did you mean `memory_size`?",
    "config: {decoder: {d_modle: 16}}": "Unknown config.decoder key `d_modle`. Did you mean `d_model`?",
    "encoder: {model_type: resnet, dephts: [1]}": "Unknown encoder key `dephts`. Did you mean `depths`?",
    "image_processor: {sizes: 32}": "Unknown image_processor key `sizes`. Did you mean `size`?",
    "augmentation: {degree: 5.0}": "Unknown augmentation key `degree`. Did you mean `degrees`?",
    "generation: {num_beam: 3}": "Unknown generation key `num_beam`. Did you mean `num_beams`?",
}


@pytest.mark.parametrize("text", MISSPELT)
def test_a_misspelt_key_is_refused_with_the_nearest_name(page, text):
    with pytest.raises(ValueError, match=f"^{re.escape(MISSPELT[text])}$"):
        load_recipe(page(text))


def test_a_key_like_no_other_is_refused_with_all_names(page):
    with pytest.raises(ValueError, match="Unknown recipe key `xyzzy`. Known: accumulation, .*weight_decay"):
        load_recipe(page("xyzzy: 1"))


def test_a_key_that_is_no_text_is_refused(page):
    with pytest.raises(ValueError, match="Unknown recipe key `7`"):
        load_recipe(page("7: 1"))


@pytest.mark.parametrize("key", NEEDED)
def test_a_key_without_default_must_be_there(key):
    with pytest.raises(ValueError, match=f"The recipe lacks `{key}`"):
        parse_recipe({name: value for name, value in NEEDED.items() if name != key})


def test_a_misspelt_override_is_refused_with_the_nearest_name(page):
    with pytest.raises(ValueError, match="Unknown recipe key `max_step`. Did you mean `max_steps`"):
        load_recipe(page(), ["max_step=3"])


def test_a_misspelt_inner_override_is_refused_with_the_nearest_name(page):
    with pytest.raises(ValueError, match="Unknown config key `num_promts`. Did you mean `num_prompts`"):
        load_recipe(page(), ["config.num_promts=3"])


TYPED = {
    "seed=7": ("seed", 7),
    "learning_rate=3e-4": ("learning_rate", 3e-4),
    "learning_rate=1": ("learning_rate", 1.0),
    "select_by=rouge_l": ("select_by", "rouge_l"),
    "patience=null": ("patience", None),
    "patience=3": ("patience", 3),
    "output_dir=runs/a=b": ("output_dir", "runs/a=b"),
    "config.memory_size=8": ("config", {"memory_size": 8}),
    "config.semantic_embedding=false": ("config", {"semantic_embedding": False}),
    "config.decoder.d_model=64": ("config", {"decoder": {"d_model": 64}}),
    "config={num_prompts: 2}": ("config", {"num_prompts": 2}),
    "augmentation.degrees=5.0": ("augmentation", {"degrees": 5.0}),
    "encoder=timm/resnet18": ("encoder", "timm/resnet18"),
    "image_processor.image_mean=[0.5]": ("image_processor", {"image_mean": [0.5]}),
}


@pytest.mark.parametrize("override", TYPED)
def test_an_override_is_read_as_yaml_reads_it(page, override):
    key, value = TYPED[override]
    found = getattr(load_recipe(page(), [override]), key)
    assert found == value and type(found) is type(value)


def test_the_last_override_of_a_key_counts(page):
    assert load_recipe(page(), ["seed=1", "seed=2"]).seed == 2


def test_an_inner_override_keeps_the_keys_beside_it(page):
    path = page("config: {num_prompts: 2, decoder: {d_model: 64, dropout: 0.2}}")
    expected = {"num_prompts": 2, "decoder": {"d_model": 32, "dropout": 0.2}}
    assert load_recipe(path, ["config.decoder.d_model=32"]).config == expected


@pytest.mark.parametrize("text", ["augmentation: {degrees: abc}", "image_processor: {image_mean: {a: 1}}"])
def test_an_inner_value_of_the_wrong_type_is_refused(page, text):
    with pytest.raises(ValueError, match="`(augmentation|image_processor)` holds a value of the wrong type"):
        load_recipe(page(text))


def test_kept_films_and_a_resize_before_the_crop_are_refused_together(page):
    with pytest.raises(ValueError, match="`keep_films` holds films at `size`"):
        load_recipe(page("keep_films: true\nimage_processor: {size: 32, resize: 40}"))


@pytest.mark.parametrize("override", ["seed", "=3", ""])
def test_an_override_without_key_and_value_is_refused(page, override):
    with pytest.raises(ValueError, match=r"`--set` takes key=value"):
        load_recipe(page(), [override])


def test_an_override_below_a_plain_value_is_refused(page):
    with pytest.raises(ValueError, match="`--set seed.inner`: `seed` holds a plain value"):
        load_recipe(page("seed: 3\n"), ["seed.inner=1"])


def test_an_override_that_is_no_yaml_is_refused(page):
    with pytest.raises(ValueError, match=r"`--set seed`: `\[1` is not a YAML value"):
        load_recipe(page(), ["seed=[1"])


NEEDS_TYPE = "`encoder` as a dict needs a `model_type` of Transformers, e.g. resnet."
BACKBONE = "`encoder` as a dict needs a `model_type` of Transformers, e.g. resnet."
WRONG = {
    "max_steps=1e3": "`max_steps` must be int. Got '1e3'.",
    "max_steps=2.5": "`max_steps` must be int. Got 2.5.",
    "max_steps=true": "`max_steps` must be int. Got True.",
    "learning_rate=fast": "`learning_rate` must be float. Got 'fast'.",
    "learning_rate=true": "`learning_rate` must be float. Got True.",
    "dataset=5": "`dataset` must be str. Got 5.",
    "dataset=": "`dataset` must be str. Got None.",
    "config=5": "`config` must be dict. Got 5.",
    "augmentation=none": "`augmentation` must be dict or null. Got 'none'.",
    "encoder=[1]": "`encoder` must be str or dict or null. Got [1].",
    "patience=soon": "`patience` must be int or null. Got 'soon'.",
    "model=resnet": "`model` must be one of mcsam, uar. Got 'resnet'.",
    "precision=fp8": "`precision` must be fp32, bf16 or fp16. Got 'fp8'.",
    "max_steps=0": "`max_steps` must be at least 1. Got 0.",
    "batch_size=-1": "`batch_size` must be at least 1. Got -1.",
    "config.memory_size=many": "`config.memory_size` must be int. Got 'many'.",
    "config.semantic_embedding=5": "`config.semantic_embedding` must be bool. Got 5.",
    "encoder.model_type=resnest": f"{BACKBONE} Got 'resnest'.",
    "encoder.depths=[1]": f"{BACKBONE} Got None.",
    "eval_steps=0": "`eval_steps` must be at least 1. Got 0.",
    "pretrain_steps=-1": "`pretrain_steps` must be 0 or more. Got -1.",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_value_that_does_not_fit_is_refused_in_one_line(page, override):
    with pytest.raises(ValueError, match=f"^{re.escape(WRONG[override])}$"):
        load_recipe(page(), [override])


@pytest.mark.parametrize("name", ["vocab_size", "encoder", "pad_token_id"])
def test_what_the_tokenizer_or_the_recipe_fixes_is_no_key_of_the_sizes(page, name):
    with pytest.raises(ValueError, match=f"Unknown config key `{name}`"):
        load_recipe(page(), [f"config.{name}=100"])


def test_an_unknown_recipe_is_refused_with_the_shipped_names():
    with pytest.raises(ValueError, match="Recipe `mcsam_fantom` is neither a YAML file nor one of: .*mcsam_phantom"):
        load_recipe("mcsam_fantom")


def test_a_folder_in_place_of_a_recipe_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a YAML file nor one of"):
        load_recipe(str(tmp_path))


def test_a_page_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- model\n")
    with pytest.raises(ValueError, match="must be a mapping of keys to values. Got list"):
        load_recipe(str(tmp_path / "list.yaml"))


def test_an_empty_page_is_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ValueError, match="must be a mapping of keys to values. Got NoneType"):
        load_recipe(str(tmp_path / "empty.yaml"))


@pytest.mark.parametrize("content", [b"model: [mcsam", b"\x89PNG\r\n\x1a\n\x00\xff"])
def test_a_page_that_is_no_yaml_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not valid YAML: [^\n]+$"):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_pretraining_a_frozen_backbone_is_refused(page):
    with pytest.raises(ValueError, match="`pretrain_steps` trains the backbone; it needs an `encoder_learning_rate`"):
        load_recipe(page(), ["pretrain_steps=5", "encoder_learning_rate=0"])


def test_a_size_of_the_model_at_the_top_level_is_sent_to_its_place(page):
    with pytest.raises(
        ValueError, match="Unknown recipe key `memory_dim`. It is a size of the model: `config.memory_dim`"
    ):
        load_recipe(page(), ["memory_dim=8"])


# Several stages

STAGES = "config: {alignment_weight: 2.0, memory_size: 0}\n"
STAGES += "stages: [{max_steps: 3, config: {alignment_weight: 0.5}}, {patience: 2}]"


@pytest.fixture
def stages(page):
    return split_stages(load_recipe(page(STAGES)))


def test_there_is_a_recipe_for_each_stage(stages):
    assert [stage.max_steps for stage in stages] == [10, 3, 3]


def test_the_first_stage_is_the_recipe_as_it_stands(page, stages):
    assert stages[0] == load_recipe(page("config: {alignment_weight: 2.0, memory_size: 0}"))


def test_a_stage_changes_single_values_and_keeps_the_others(stages):
    assert stages[1].config == {"alignment_weight": 0.5, "memory_size": 0}


def test_a_stage_keeps_what_the_one_before_changed(stages):
    assert (stages[2].config["alignment_weight"], stages[2].patience) == (0.5, 2)


def test_no_stage_has_stages(stages):
    assert all(stage.stages == [] for stage in stages)


def test_a_recipe_without_later_stages_is_its_own_only_stage(page):
    recipe = load_recipe(page())
    assert split_stages(recipe) == [recipe]


WRONG_STAGES = {
    "[{learning_rat: 1.0}]": "Unknown stage 2 key `learning_rat`. Did you mean `learning_rate`?",
    "[{}, {max_step: 1}]": "Unknown stage 3 key `max_step`. Did you mean `max_steps`?",
    "[{batch_size: 3}]": "Unknown stage 2 key `batch_size`.",
    "[{config: {alignment_weigth: 3}}]": "Unknown stage 2: config key `alignment_weigth`. Did you mean",
    "[{config: {num_prompts: 3}}]": "Unknown stage 2: config key `num_prompts`. Known: alignment_weight, ",
    "[{config: {alignment_weight: many}}]": "`config.alignment_weight` must be float. Got 'many'.",
    "[{config: {alignment_weight: -1.0}}]": "stage 2: `alignment_weight` must be ",
    "[{config: null}]": "`stage 2: config` must be dict. Got None.",
    "[{max_steps: 0}]": "`max_steps` must be at least 1. Got 0.",
    "[5]": "`stages` must hold mappings of keys to values. Got 5.",
    "{max_steps: 5}": "`stages` must be list. Got {'max_steps': 5}.",
}


@pytest.mark.parametrize("text", WRONG_STAGES)
def test_a_stage_that_cannot_be_is_refused_in_one_line(page, text):
    with pytest.raises(ValueError, match=f"^{re.escape(WRONG_STAGES[text])}[^\n]*$"):
        load_recipe(page(f"stages: {text}"))


@pytest.mark.parametrize("model", ["mcsam", "uar"])
def test_the_film_reader_must_fit_the_model(page, model):
    """UAR reads by tokens or by a backbone, MCSAM by a backbone."""
    given = {"mcsam": "image_tokenizer=runs/tok", "uar": "seed=1"}[model]
    expected = {"mcsam": "`image_tokenizer` is a key of UAR's recipes", "uar": "needs `image_tokenizer`.* Got neither"}
    with pytest.raises(ValueError, match=expected[model]):
        load_recipe(page(), [f"model={model}", given])


def test_uar_with_two_film_readers_is_refused(page):
    with pytest.raises(ValueError, match=r"needs `image_tokenizer`.* Got both\.$"):
        load_recipe(page(), ["model=uar", "image_tokenizer=runs/tok", "encoder=timm/resnet18"])


def test_observations_need_a_frozen_reader():
    with pytest.raises(
        ValueError, match="^`observations` are named from what a frozen backbone reads; this one learns"
    ):
        load_recipe("mcsam_phantom", ["observations=0.5"])
    assert load_recipe("uar_phantom", ["observations=0.5"]).observations == 0.5


@pytest.mark.parametrize("overrides", [["rarity_power=0.3"], ["rarity_power=-1", "group_by_length=true"]])
def test_rarity_needs_a_positive_power_and_batches_by_length(overrides):
    with pytest.raises(ValueError, match="^`rarity_power` must be 0 or more, with `group_by_length: true`"):
        load_recipe("mcsam_phantom", overrides)
