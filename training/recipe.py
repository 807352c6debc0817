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
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.models.marian.configuration_marian import MarianConfig

from ..configuration.configuration_mcsam import MCSAMConfig
from ..configuration.configuration_uar import UARConfig
from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.image_processing_cxr import CXRImageProcessor

RECIPES = Path(__file__).parent / "recipes"
CONFIGS: dict[str, Any] = {"mcsam": MCSAMConfig, "uar": UARConfig}
# No choice of a recipe's `config`: the tokenizers and the keys `encoder` and `image_processor` set them.
CANDIDATES = ("num_candidates", "candidate_temperature")  # settings of `generate()` that are ours
FIXED = ("encoder", "image_tokenizer", "image_size", "vocab_size", "observations")
# What a later stage may change: the course of its training, and of `config` what leaves each weight its shape.
STAGE_CONFIG = (
    "refine",
    "mask_weight",
    "mask_scale",
    "alignment_weight",
    "margin",
    "negatives",
    "global_negatives",
    "loss_reduction",
    "hint_emphasis",
)
STAGE_KEYS = (
    "max_steps",
    "learning_rate",
    "warmup_steps",
    "eval_steps",
    "patience",
    "select_by",
    "config",
    "generation",
    "observations",
    "group_by_length",
    "rarity_power",
)


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
    image_tokenizer: str | None = (
        None  # UAR's: a folder of `radscribe train image_tokenizer_...` or `visual_words_...`, or a name of the Hub
    )
    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # sizes of the model
    memory_init: str = "ot"  # MCSAM's bank: ot | kmeans | random
    observations: float | None = None  # tell CheXpert's, seen from so many roots of their share on; null: no
    table_init: str = "random"  # UAR's W_I: random | codes, the image tokenizer's own vectors
    image_processor: dict[str, Any] = dataclasses.field(default_factory=dict)
    augmentation: dict[str, Any] | None = None  # train-time changes of a film; null: none
    stream_buffer: int = 0  # read `prepare --embed`'s shards, mixed by a buffer of so many studies; 0: the image files
    keep_films: bool = False  # hold films in memory at the model's size while training
    film_copies: int = 0  # versions of a film that a frozen backbone or tokenizer reads once; 0: one at every step
    report_style: str = "iu"  # cleaning rules: iu | mimic
    min_frequency: int = 3  # a word enters the vocabulary from so many occurrences on
    max_length: int = 60  # words of a report, start mark included
    batch_size: int = 16  # studies a process and step
    group_by_length: bool = False  # batches of reports of about one length: less padding to compute
    rarity_power: float = 0.0  # with it: studies are drawn by 1 / the share of their rarest observation, to this power
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
    report_to: list[str] = dataclasses.field(default_factory=list)  # trackers of Transformers: tensorboard, wandb ...
    patience: int | None = None  # stop after so many validations without a better one; null: never
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)  # saved as generation_config
    stages: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # later ones: what changes, see STAGE_KEYS


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(recipe: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read and check a report generator's recipe, a shipped one by name or a YAML file by path; see `read_values`."""
    return parse_recipe(read_values(recipe, overrides))


def read_values(recipe: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Keys and values of a shipped recipe by name, or of a YAML file by path.

    `overrides` are `key=value` (or `key.inner=value`) settings on top.

    Raises:
        ValueError: no such recipe, no mapping in it, an override that is no key=value.
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
    return values


def fill_fields(kind: type, values: dict[str, Any]) -> Any:
    """A recipe of this dataclass: no unknown key, none missing, each of its type.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    refuse_unknown(values, fields, "recipe")
    missing = [n for n, f in fields.items() if n not in values and _has_no_default(f)]
    if missing:
        raise ValueError(f"The recipe lacks `{'`, `'.join(missing)}`.")
    hints = get_type_hints(kind)
    return kind(**{key: typed(key, value, hints[key]) for key, value in values.items()})


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """Check every key and value of a report generator's recipe, inner ones and those of later stages included."""
    _refuse_misplaced(values)
    recipe = fill_fields(Recipe, values)
    if recipe.model not in CONFIGS:
        raise ValueError(f"`model` must be one of {', '.join(CONFIGS)}. Got {recipe.model!r}.")
    if recipe.precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"`precision` must be fp32, bf16 or fp16. Got {recipe.precision!r}.")
    check_counts(recipe, "max_steps", "batch_size", "accumulation", "eval_steps", "eval_batch_size", "max_length")
    if recipe.table_init not in ("random", "codes"):
        raise ValueError(f"`table_init` must be random or codes. Got {recipe.table_init!r}.")
    _check_stream(recipe)
    if unknown := [name for name in recipe.report_to if name not in INTEGRATION_TO_CALLBACK]:
        raise ValueError(f"`report_to` names no tracker of Transformers: {unknown[0]!r}.")
    if missing := [n for n in recipe.report_to if n not in get_available_reporting_integrations()]:
        raise ValueError(f"`report_to`: `{missing[0]}` is not installed here: pip install {missing[0]}.")
    if recipe.film_copies < 0:
        raise ValueError(f"`film_copies` must be 0 or more. Got {recipe.film_copies}.")
    if recipe.rarity_power < 0 or (recipe.rarity_power and not recipe.group_by_length):
        raise ValueError(f"`rarity_power` must be 0 or more, with `group_by_length: true`. Got {recipe.rarity_power}.")
    if recipe.observations is not None and recipe.image_tokenizer is None and recipe.encoder_learning_rate > 0:
        raise ValueError(
            "`observations` are named from what a frozen backbone reads; this one learns. Set `encoder_learning_rate` "
            "to 0, or `observations` to null."
        )
    if recipe.pretrain_steps < 0:
        raise ValueError(f"`pretrain_steps` must be 0 or more. Got {recipe.pretrain_steps}.")
    if recipe.pretrain_steps and not recipe.encoder_learning_rate:
        raise ValueError("`pretrain_steps` trains the backbone; it needs an `encoder_learning_rate` above 0. Got 0.")
    sizes = [name for name in parameters(CONFIGS[recipe.model]) if name not in FIXED]
    refuse_unknown(recipe.config, sizes, "config")
    kinds = get_type_hints(CONFIGS[recipe.model].__init__)
    recipe.config = {key: typed(f"config.{key}", value, kinds[key]) for key, value in recipe.config.items()}
    refuse_unknown(recipe.config.get("decoder") or {}, MarianConfig().to_dict(), "config.decoder")
    if isinstance(recipe.encoder, dict):
        refuse_unknown(recipe.encoder, _backbone_keys(recipe.encoder), "encoder")
    _refuse_second_weights(recipe)
    _check_film_reader(recipe)
    refuse_unknown(recipe.image_processor, parameters(CXRImageProcessor), "image_processor")
    refuse_unknown(recipe.augmentation or {}, parameters(CXRAugmentation), "augmentation")
    if recipe.keep_films and recipe.image_processor.get("resize") is not None:
        raise ValueError("`keep_films` holds films at `size`; it cannot be with `image_processor.resize`. Drop one.")
    refuse_unknown(recipe.generation, [*GenerationConfig().to_dict(), *CANDIDATES], "generation")
    for name, make, values in (
        ("augmentation", CXRAugmentation, recipe.augmentation or {}),
        ("image_processor", CXRImageProcessor, recipe.image_processor),
    ):
        try:
            make(**values)
        except TypeError as error:
            raise ValueError(f"`{name}` holds a value of the wrong type among {values}: {error}.") from error
    if recipe.stages:
        split_stages(recipe)
    return recipe


def split_stages(recipe: Recipe) -> list[Recipe]:
    """The recipe of each stage, none of which has stages; the first is the recipe as it stands.

    Raises:
        ValueError: a key that a later stage may not change, or a value of it that the recipe may not have.
    """
    values = dataclasses.asdict(recipe) | {"stages": []}
    parsed: list[Recipe] = []
    for number, changes in enumerate([{}, *recipe.stages], start=1):
        if not isinstance(changes, dict):
            raise ValueError(f"`stages` must hold mappings of keys to values. Got {changes!r}.")
        refuse_unknown(changes, STAGE_KEYS, f"stage {number}")
        typed(f"stage {number}: config", changes.get("config", {}), dict)
        refuse_unknown(changes.get("config", {}), STAGE_CONFIG, f"stage {number}: config")
        values = values | changes | {"config": values["config"] | changes.get("config", {})}
        parsed.append(parse_recipe(values))
        if parsed[1:]:  # the first stage's model is built at once, a later one's only when the first is trained
            try:
                CONFIGS[recipe.model](**parsed[-1].config)
            except (TypeError, ValueError) as error:
                raise ValueError(f"stage {number}: {error}") from error
    return parsed


def check_counts(recipe: Any, *names: str) -> None:
    """Raise where one of these keys lies below 1."""
    for name in names:
        if getattr(recipe, name) < 1:
            raise ValueError(f"`{name}` must be at least 1. Got {getattr(recipe, name)}.")


def save_recipe(recipe: Any, path: Path) -> None:
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


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(sorted(known))}."
            raise ValueError(f"Unknown {where} key `{key}`. {hint}")


def _refuse_misplaced(values: dict[str, Any]) -> None:
    """A size of the model at the top level: errors of the model name it without its place."""
    sizes = parameters(CONFIGS.get(values.get("model", ""), MCSAMConfig))
    for key in values:
        if key in sizes and key not in FIXED:
            raise ValueError(f"Unknown recipe key `{key}`. It is a size of the model: `config.{key}`.")


def parameters(of: Callable[..., Any]) -> list[str]:
    return [n for n, p in inspect.signature(of).parameters.items() if p.kind is not p.VAR_KEYWORD]


def _backbone_keys(encoder: dict[str, Any]) -> list[str]:
    """What the configuration of this kind of backbone knows."""
    kind = encoder.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"`encoder` as a dict needs a `model_type` of Transformers, e.g. resnet. Got {kind!r}.")
    return [*CONFIG_MAPPING[kind]().to_dict(), "model_args"]


def _check_stream(recipe: Recipe) -> None:
    """What wants to know all studies before the first step does not go with a stream of them."""
    if recipe.stream_buffer < 0:
        raise ValueError(f"`stream_buffer` must be 0 or more. Got {recipe.stream_buffer}.")
    wanting = ("film_copies", "group_by_length", "observations", "pretrain_steps", "keep_films")
    for name in wanting if recipe.stream_buffer else ():
        if getattr(recipe, name):
            raise ValueError(
                f"`{name}` needs all studies at hand, and `stream_buffer` reads them one by one: drop one."
            )


def _refuse_second_weights(recipe: Recipe) -> None:
    """`encoder_weights` fill a new backbone; those that come with weights would lose theirs."""
    if recipe.encoder_weights is not None and recipe.init_from is not None:
        raise ValueError("`encoder_weights` and `init_from` both bring the backbone's weights. Drop one.")
    if recipe.encoder_weights is not None and isinstance(recipe.encoder, str):
        raise ValueError(
            f"`encoder_weights` and the `encoder` by name, `{recipe.encoder}`, both bring weights. Drop "
            "`encoder_weights`, or set `encoder` to null (a ResNet-50) or to a configuration."
        )


def _check_film_reader(recipe: Recipe) -> None:
    """UAR reads films by an image tokenizer, or by a backbone in its place; MCSAM by a backbone."""
    if recipe.model != "uar":
        if recipe.image_tokenizer is not None:
            raise ValueError(f"`image_tokenizer` is a key of UAR's recipes. Got model `{recipe.model}`.")
    elif recipe.init_from is None and (recipe.image_tokenizer is None) == (recipe.encoder is None):
        raise ValueError(
            "A recipe of `uar` needs `image_tokenizer` (a folder that `radscribe train image_tokenizer_phantom` or "
            "the like left, or a name of the Hub) or, to go without tokens, `encoder`. Got "
            + ("neither." if recipe.encoder is None else "both.")
        )


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def typed(key: str, value: Any, hint: Any) -> Any:
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
