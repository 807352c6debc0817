"""A recipe: one YAML page that says how a run is made. Every key is a field below; a misspelt one is refused."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import yaml
from transformers import CONFIG_MAPPING, GenerationConfig
from transformers.models.marian.configuration_marian import MarianConfig

from ..configuration.configuration_mcsam import MCSAMConfig
from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.image_processing_cxr import CXRImageProcessor

RECIPES = Path(__file__).parent / "recipes"
CONFIGS = {"mcsam": MCSAMConfig}
# Sizes that are no choice of a recipe's `config`: the tokenizer and the key `encoder` set them.
FIXED = ("encoder", "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


@dataclasses.dataclass(kw_only=True)
class Recipe:
    """How a run is made. Steps are optimiser steps, lengths are words; a recipe comments each key it sets."""

    model: str  # which model: a key of CONFIGS
    dataset: str  # a folder made by `radscribe prepare`
    output_dir: str  # the run's folder
    seed: int = 42
    max_steps: int  # optimiser steps
    init_from: str | None = None  # a run's folder or Hub name to fine-tune; its vocabulary is kept
    encoder: str | dict[str, Any] | None = None  # pretrained backbone by name or folder, or its configuration
    encoder_weights: str | None = None  # a file of backbone weights: MedCLIP, torchvision or timm ResNet
    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # sizes of the model
    memory_init: str = "ot"  # MCSAM's bank: ot | kmeans | random
    image_processor: dict[str, Any] = dataclasses.field(default_factory=dict)
    augmentation: dict[str, Any] | None = None  # train-time changes of a film; null: none
    keep_films: bool = False  # hold films in memory at the model's size while training
    report_style: str = "iu"  # cleaning rules: iu | mimic
    min_frequency: int = 3  # a word enters the vocabulary from so many occurrences on
    max_length: int = 60  # words of a report, start mark included
    batch_size: int = 16  # studies a process and step
    accumulation: int = 1  # steps whose gradients are summed before the optimiser moves
    learning_rate: float = 5.0e-4  # everything but the backbone
    encoder_learning_rate: float = 1.0e-4  # the visual backbone; 0 freezes it
    pretrain_steps: int = 0  # steps on which the backbone first learns the studies' labels; 0: reports alone
    schedule: str = "cosine"  # learning-rate schedule, any name of transformers' SchedulerType
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: str = "fp32"  # fp32 | bf16 | fp16
    workers: int = 1  # processes that read and prepare films
    eval_steps: int = 200  # validate and checkpoint every so many steps
    eval_batch_size: int = 32
    eval_studies: int | None = None  # validation studies used while training; null: all
    select_by: str = "bleu_4"  # validation metric that chooses the best checkpoint
    patience: int | None = None  # stop after so many validations without a better one; null: never
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)  # saved as generation_config


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(recipe: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or a YAML file by path, and apply `key=value` (or `key.inner=value`) settings.

    Raises:
        ValueError: no such recipe, no mapping in it, an unknown or missing key, a value of the wrong type.
    """
    path = RECIPES / f"{recipe}.yaml" if recipe in recipe_names() else Path(recipe)
    if not path.is_file():
        raise ValueError(f"Recipe `{recipe}` is neither a YAML file nor one of: {', '.join(recipe_names())}.")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Recipe `{path}` is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"Recipe `{path}` must be a mapping of keys to values. Got {type(values).__name__}.")
    for override in overrides:
        _apply(values, override)
    return parse_recipe(values)


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """Check every key and value of a recipe, inner ones included."""
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    _refuse_misplaced(values)
    _refuse_unknown(values, fields, "recipe")
    missing = [n for n, f in fields.items() if n not in values and _has_no_default(f)]
    if missing:
        raise ValueError(f"The recipe lacks `{'`, `'.join(missing)}`.")
    hints = get_type_hints(Recipe)
    recipe = Recipe(**{key: _typed(key, value, hints[key]) for key, value in values.items()})
    if recipe.model not in CONFIGS:
        raise ValueError(f"`model` must be one of {', '.join(CONFIGS)}. Got {recipe.model!r}.")
    if recipe.precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"`precision` must be fp32, bf16 or fp16. Got {recipe.precision!r}.")
    for name in ("max_steps", "batch_size", "accumulation", "eval_steps", "eval_batch_size", "max_length"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"`{name}` must be at least 1. Got {getattr(recipe, name)}.")
    if recipe.pretrain_steps < 0:
        raise ValueError(f"`pretrain_steps` must be 0 or more. Got {recipe.pretrain_steps}.")
    if recipe.pretrain_steps and not recipe.encoder_learning_rate:
        raise ValueError("`pretrain_steps` trains the backbone; it needs an `encoder_learning_rate` above 0. Got 0.")
    sizes = [name for name in _parameters(CONFIGS[recipe.model]) if name not in FIXED]
    _refuse_unknown(recipe.config, sizes, "config")
    kinds = get_type_hints(CONFIGS[recipe.model].__init__)
    recipe.config = {key: _typed(f"config.{key}", value, kinds[key]) for key, value in recipe.config.items()}
    _refuse_unknown(recipe.config.get("decoder") or {}, MarianConfig().to_dict(), "config.decoder")
    if isinstance(recipe.encoder, dict):
        _refuse_unknown(recipe.encoder, _backbone_keys(recipe.encoder), "encoder")
    _refuse_second_weights(recipe)
    _refuse_unknown(recipe.image_processor, _parameters(CXRImageProcessor), "image_processor")
    _refuse_unknown(recipe.augmentation or {}, _parameters(CXRAugmentation), "augmentation")
    if recipe.keep_films and recipe.image_processor.get("resize") is not None:
        raise ValueError("`keep_films` holds films at `size`; it cannot be with `image_processor.resize`. Drop one.")
    _refuse_unknown(recipe.generation, GenerationConfig().to_dict(), "generation")
    for name, make, values in (
        ("augmentation", CXRAugmentation, recipe.augmentation or {}),
        ("image_processor", CXRImageProcessor, recipe.image_processor),
    ):
        try:
            make(**values)
        except TypeError as error:
            raise ValueError(f"`{name}` holds a value of the wrong type among {values}: {error}.") from error
    return recipe


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the recipe as it was run, every key included; the file trains again."""
    path.write_text(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False))


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"`--set` takes key=value, e.g. `--set seed=1`. Got `{override}`.")
    *outer, last = key.split(".")
    for name in outer:
        if values.get(name) is None:
            values[name] = {}
        values = values[name]
        if not isinstance(values, dict):
            raise ValueError(f"`--set {key}`: `{name}` holds a plain value, no inner keys.")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"`--set {key}`: `{text}` is not a YAML value.") from error


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(sorted(known))}."
            raise ValueError(f"Unknown {where} key `{key}`. {hint}")


def _refuse_misplaced(values: dict[str, Any]) -> None:
    """A size of the model at the top level: errors of the model name it without its place."""
    sizes = _parameters(CONFIGS.get(values.get("model", ""), MCSAMConfig))
    for key in values:
        if key in sizes and key not in FIXED:
            raise ValueError(f"Unknown recipe key `{key}`. It is a size of the model: `config.{key}`.")


def _parameters(of: Callable[..., Any]) -> list[str]:
    return [n for n, p in inspect.signature(of).parameters.items() if p.kind is not p.VAR_KEYWORD]


def _backbone_keys(encoder: dict[str, Any]) -> list[str]:
    """What the configuration of this kind of backbone knows."""
    kind = encoder.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"`encoder` as a dict needs a `model_type` of Transformers, e.g. resnet. Got {kind!r}.")
    return [*CONFIG_MAPPING[kind]().to_dict(), "model_args"]


def _refuse_second_weights(recipe: Recipe) -> None:
    """`encoder_weights` fill a new backbone; those that come with weights would lose theirs."""
    if recipe.encoder_weights is not None and recipe.init_from is not None:
        raise ValueError("`encoder_weights` and `init_from` both bring the backbone's weights. Drop one.")
    if recipe.encoder_weights is not None and isinstance(recipe.encoder, str):
        raise ValueError(
            f"`encoder_weights` and the `encoder` by name, `{recipe.encoder}`, both bring weights. Drop "
            "`encoder_weights`, or set `encoder` to null (a ResNet-50) or to a configuration."
        )


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _typed(key: str, value: Any, hint: Any) -> Any:
    """The value if it fits the field. YAML reads `5e-4` as text, and whole numbers are fine as floats."""
    allowed = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    plain = tuple(getattr(kind, "__origin__", kind) for kind in allowed)
    if float in plain and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in plain)
        raise ValueError(f"`{key}` must be {names}. Got {value!r}.")
    return value
