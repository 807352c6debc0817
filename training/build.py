"""From a recipe to a processor and a model: new ones, or those of a checkpoint to fine-tune."""

import json
import sys
from pathlib import Path
from typing import Any

import timm.layers
import torch
from accelerate.utils import broadcast
from safetensors import SafetensorError
from transformers import AutoModel, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.models.flava.modeling_flava import FlavaImageCodebook
from transformers.models.janus.modeling_janus import JanusVQVAE

from ..configuration.configuration_image_tokenizer import film_channels
from ..configuration.configuration_report import ReportConfig
from ..modeling.modeling_image_tokenizer import VisualWords
from ..modeling.modeling_mcsam import MCSAMForConditionalGeneration
from ..modeling.modeling_topics import initial_memory
from ..modeling.modeling_uar import UARForConditionalGeneration
from ..processing.image_processing_cxr import CXRImageProcessor
from ..processing.processing_mcsam import MCSAMProcessor
from ..processing.processing_report import ReportProcessor
from ..processing.processing_text import build_tokenizer, clean_report
from ..processing.processing_uar import UARProcessor
from .backbone_weights import load_backbone_weights
from .errors import one_line
from .observations import choose_thresholds
from .processes import shards_weights, this_process
from .recipe import CONFIGS, Recipe

MODELS = {"mcsam": MCSAMForConditionalGeneration, "uar": UARForConditionalGeneration}
SHIPPED = Path(__file__).parents[1] / "hub_cards"  # checkpoints that come with the package
PROCESSORS = {"mcsam": MCSAMProcessor, "uar": UARProcessor}
TOKENIZERS = {"flava_image_codebook": FlavaImageCodebook, "janus_vqgan": JanusVQVAE, "visual_words": VisualWords}


def find_checkpoint(name: str) -> str:
    """The folder of a checkpoint that comes with the package, by its name; any other name or folder as it is."""
    return str(SHIPPED / name) if (SHIPPED / name / "config.json").is_file() and not Path(name).exists() else name


def load_checkpoint(name: str, **changes: Any) -> tuple[PreTrainedModel, ReportProcessor]:
    """Model and processor of a run's folder, a shipped checkpoint or a Hub name; `changes` are fields of its
    configuration set anew.

    Raises:
        ValueError: no such folder or name, a folder without weights, pickled weights, a checkpoint of another model
            type.
    """
    name = find_checkpoint(name)
    try:
        config = PretrainedConfig.get_config_dict(name)[0]
    except OSError as error:
        raise ValueError(
            f"No checkpoint at `{name}`: no such folder here, and no such model on the Hub or no way to it."
        ) from error
    if not config:
        raise ValueError(f"No checkpoint at `{name}`: the folder has no config.json.")
    kind = config.get("model_type")
    if kind not in MODELS:
        raise ValueError(f"The checkpoint `{name}` is a `{kind}` model. Expected one of: {', '.join(MODELS)}.")
    if any(Path(name).glob("*.bin")) and not any(Path(name).glob("model*.safetensors")):
        raise ValueError(f"The checkpoint `{name}` has pickled weights, which can run code. Save it as safetensors.")
    # Handed to the model's `from_pretrained`, changes would not be checked and end up in its generation settings too.
    changed = {"config": CONFIGS[kind].from_dict(config | changes)} if changes else {}
    try:
        # Without safetensors Transformers would look for a pickle on the Hub too.
        return MODELS[kind].from_pretrained(name, use_safetensors=True, **changed), PROCESSORS[kind].from_pretrained(
            name
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The checkpoint `{name}` is not whole: {one_line(error)[:200]}") from error


def build_processor(recipe: Recipe, findings: list[str]) -> ReportProcessor:
    """Image processor of the recipe, and the vocabulary of the training reports."""
    tokenizer = build_tokenizer(findings, min_frequency=recipe.min_frequency, style=recipe.report_style)
    images = CXRImageProcessor(**recipe.image_processor)
    kind = PROCESSORS[recipe.model]
    return kind(images, tokenizer, max_length=recipe.max_length, report_style=recipe.report_style)


def build_model(recipe: Recipe, processor: ReportProcessor, findings: list[str]) -> PreTrainedModel:
    """A new model: film reader by name, from a file of weights or from scratch; MCSAM's memory from the reports."""
    observations = None if recipe.observations is None else choose_thresholds(findings, recipe.observations)
    if recipe.image_tokenizer is not None:
        return _build_on_tokens(recipe, processor, observations)
    pretrained = load_backbone(recipe.encoder) if isinstance(recipe.encoder, str) else None
    encoder = recipe.encoder if pretrained is None else pretrained.config
    config = _model_config(recipe, processor, encoder=encoder, observations=observations)
    _check_channels(processor, getattr(config.encoder, "num_channels", 3), "backbone")
    model = MODELS[recipe.model](config)
    if pretrained is not None:
        model.encoder.visual.backbone.load_state_dict(pretrained.state_dict())
    elif recipe.encoder_weights is not None:
        load_backbone_weights(model.encoder.visual.backbone, recipe.encoder_weights)
    if recipe.model == "mcsam" and config.memory_size:
        _fill_memory(model, recipe, processor, findings)
    return model


def _build_on_tokens(
    recipe: Recipe, processor: ReportProcessor, observations: dict[str, float] | None
) -> PreTrainedModel:
    """A new UAR around a trained image tokenizer."""
    images = processor.image_processor
    if list(images.image_mean) != [0.0] or list(images.image_std) != [1.0]:
        raise ValueError(
            "`image_processor` must leave pixels in [0, 1] for an image tokenizer: image_mean [0.0], image_std [1.0]. "
            f"Got {images.image_mean} and {images.image_std}."
        )
    tokenizer = load_image_tokenizer(str(recipe.image_tokenizer))
    _check_geometry(processor, str(recipe.image_tokenizer))
    reader = {"image_tokenizer": tokenizer.config, "image_size": images.size}
    config = _model_config(recipe, processor, **reader, observations=observations)
    _check_channels(processor, film_channels(config.image_tokenizer), "image tokenizer")
    model = MODELS[recipe.model](config)
    parts = model.encoder.unifier.tokenizer.model
    kept = {name: tensor for name, tensor in tokenizer.state_dict().items() if name in parts.state_dict()}
    parts.load_state_dict(kept)  # its decoder stays behind
    if recipe.table_init == "codes":
        _start_table(model)
    return model


def _check_geometry(processor: ReportProcessor, name: str) -> None:
    """Raise where films would be laid out as the tokenizer has never seen them; one of the Hub may say nothing."""
    file = Path(name) / "preprocessor_config.json"
    if not file.is_file():
        return
    learnt, asked = json.loads(file.read_text(encoding="utf-8")), processor.image_processor.to_dict()
    for key in ("size", "fit", "resample", "image_mean", "image_std"):
        if key in learnt and learnt[key] != asked.get(key):
            raise ValueError(
                f"`image_processor.{key}` must be {learnt[key]!r}, as the image tokenizer `{name}` has learnt films. "
                f"Got {asked.get(key)!r}."
            )


@torch.no_grad()
def _start_table(model: PreTrainedModel) -> None:
    """Let W_I start from the tokenizer's own code vectors, turned into D dimensions at random.

    Paper: a trainable table and not the tokenizer's vectors. In a short run they are a good start: codes of places
    that look alike then start alike; from random rows a model has to learn of each code for itself what it stands for.
    """
    vectors = model.encoder.unifier.tokenizer.codebook()  # (K, width)
    if vectors is None:
        raise ValueError("`table_init: codes` needs a tokenizer whose codes are vectors; the dVAE's are not. Drop it.")
    table = model.encoder.unifier.table.weight  # (K, D)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    turned = vectors @ torch.nn.init.orthogonal_(torch.empty(vectors.shape[1], table.shape[1]))
    table.copy_(turned * model.config.initializer_range / turned.std())


def load_image_tokenizer(name: str) -> PreTrainedModel:
    """A DALL-E dVAE, a VQ model or visual words, by a folder or a name of the Hub.

    Raises:
        ValueError: no such folder or name, a model of another type, weights that are not whole.
    """
    try:
        kind = PretrainedConfig.get_config_dict(name)[0].get("model_type")
        if kind not in TOKENIZERS:
            raise ValueError(f"its model type is {kind!r}, expected one of {', '.join(TOKENIZERS)}")
        model, report = TOKENIZERS[kind].from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        if report["missing_keys"]:  # Transformers would fill them with random numbers
            raise ValueError(f"its weights lack {', '.join(sorted(report['missing_keys'])[:3])}")
        return forget_place(model, name)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"`image_tokenizer`: no tokenizer of films at `{name}` ({one_line(error)[:200]}). "
            "`radscribe train image_tokenizer_phantom` and the like make one."
        ) from error


def forget_place(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """The same model; a checkpoint built around it must not tell the folder of this machine it came from."""
    if Path(name).exists():
        model.config._name_or_path = ""
    return model


def _check_channels(processor: ReportProcessor, channels: int, reader: str) -> None:
    if processor.image_processor.num_channels != channels:
        raise ValueError(
            f"`image_processor.num_channels` must be {channels}, as the {reader} reads films. "
            f"Got {processor.image_processor.num_channels}."
        )


def _model_config(recipe: Recipe, processor: ReportProcessor, **parts: Any) -> ReportConfig:
    """The recipe's sizes with the tokenizer's words."""
    tokenizer = processor.tokenizer
    try:
        config = CONFIGS[recipe.model](
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.bos_token_id,
            **parts,
            **recipe.config,
        )
    except TypeError as error:
        raise ValueError(f"`config` holds a value of the wrong type among {recipe.config}: {error}") from error
    if recipe.max_length > config.max_words:
        raise ValueError(
            f"`max_length` must be at most {config.max_words}, the words that the decoder has positions for. "
            f"Got {recipe.max_length}; raise `config.decoder.max_position_embeddings`."
        )
    return config


def set_generation(model: PreTrainedModel, recipe: Recipe, processor: ReportProcessor) -> None:
    """How the checkpoint writes when nobody says otherwise; saved beside its weights."""
    values = model.generation_config.to_dict() | {"max_length": processor.max_length} | recipe.generation
    values.pop("_from_model_config", None)  # a configuration that says so forgets our settings in loading
    model.generation_config = GenerationConfig(**values)


def reads_tokens(model: PreTrainedModel) -> bool:
    """Whether a frozen image tokenizer reads the films, and no visual backbone."""
    return getattr(model.config, "image_tokenizer", None) is not None


def set_backbone(model: PreTrainedModel, recipe: Recipe) -> None:
    """A visual backbone, where the model has one, laid out for speed and frozen where the recipe says so."""
    if not reads_tokens(model):
        # Convolutions run faster on images whose channels lie side by side in memory; the result is the same.
        layout = torch.contiguous_format if shards_weights() else torch.channels_last
        backbone = model.encoder.visual.backbone.to(memory_format=layout)
        backbone.requires_grad_(recipe.encoder_learning_rate > 0)
        if recipe.encoder_learning_rate > 0 and this_process().num_processes > 1:
            model.encoder.visual.backbone = share_norms(backbone, this_process().device.type)
        if model.config.observations and recipe.encoder_learning_rate > 0:
            raise ValueError("This model names observations from a frozen backbone. Set `encoder_learning_rate` to 0.")
    if model.config.observations:
        model.encoder.observations.classify.requires_grad_(False)  # loading forgets it


def share_norms(backbone: PreTrainedModel, device: str) -> PreTrainedModel:
    """A learning backbone for several processes: its batch normalisation sees the films of all of them.

    A CPU cannot do that (SyncBatchNorm raises): there the statistics stay those that the backbone came with.
    """
    if device == "cuda":
        # timm's own: torch's would leave out the activations that timm keeps within its norms.
        return timm.layers.convert_sync_batchnorm(backbone)
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]

    def keep(*module_and_inputs: Any) -> None:  # Trainer sets the whole model to training before each step
        for norm in norms:
            norm.eval()

    backbone.register_forward_pre_hook(keep)
    return backbone


def _fill_memory(model: PreTrainedModel, recipe: Recipe, processor: ReportProcessor, findings: list[str]) -> None:
    """Topics of the reports as the bank's rows; with several processes those that the main one found."""
    config, bank = model.config, model.encoder.get_parameter("memory.bank")
    if this_process().is_main_process:
        print(f"memory: {config.memory_size} vectors by `{recipe.memory_init}` from the reports", file=sys.stderr)
        cleaned = [clean_report(text, recipe.report_style) for text in findings]
        words = processor.tokenizer(cleaned, add_special_tokens=False).input_ids
        rows = initial_memory(
            words, config.vocab_size, config.memory_size, config.memory_dim, recipe.memory_init, recipe.seed
        )
        bank.data.copy_(rows)
    if this_process().num_processes > 1:
        bank.data.copy_(broadcast(bank.data.to(this_process().device)))


def load_backbone(name: str) -> PreTrainedModel:
    """A vision model of the Hub or of a local folder."""
    try:
        return forget_place(AutoModel.from_pretrained(name, dtype=torch.float32), name)
    except (OSError, ValueError) as error:
        where = "folder" if Path(name).exists() else "name"
        raise ValueError(
            f"`encoder`: no vision model by the {where} `{name}` ({one_line(error)[:200]}) "
            "Without internet, give a local folder or a configuration to train from scratch."
        ) from error
