"""From a recipe to a processor and a model: new ones, or those of a checkpoint to fine-tune."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedModel

from ..configuration.configuration_mcsam import MCSAMConfig
from ..modeling.modeling_mcsam import MCSAMForConditionalGeneration
from ..modeling.modeling_topics import initial_memory
from ..processing.image_processing_cxr import CXRImageProcessor
from ..processing.processing_mcsam import MCSAMProcessor
from ..processing.processing_text import build_tokenizer, clean_report
from .backbone_weights import load_backbone_weights
from .errors import one_line
from .recipe import Recipe


def load_checkpoint(name: str) -> tuple[MCSAMForConditionalGeneration, MCSAMProcessor]:
    """Model and processor of a run's folder or a Hub name.

    Raises:
        ValueError: no such folder or name, a folder without weights, a checkpoint of another model type.
    """
    try:
        config = MCSAMConfig.get_config_dict(name)[0]
    except OSError as error:
        raise ValueError(
            f"No checkpoint at `{name}`: no such folder here, and no such model on the Hub or no way to it."
        ) from error
    if not config:
        raise ValueError(f"No checkpoint at `{name}`: the folder has no config.json.")
    if config.get("model_type") != MCSAMConfig.model_type:
        raise ValueError(
            f"The checkpoint `{name}` is a `{config.get('model_type')}` model. Expected `{MCSAMConfig.model_type}`."
        )
    try:
        return MCSAMForConditionalGeneration.from_pretrained(name), MCSAMProcessor.from_pretrained(name)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The checkpoint `{name}` is not whole: {one_line(error)[:200]}") from error


def build_processor(recipe: Recipe, findings: list[str]) -> MCSAMProcessor:
    """Image processor of the recipe, and the vocabulary of the training reports."""
    tokenizer = build_tokenizer(findings, min_frequency=recipe.min_frequency, style=recipe.report_style)
    images = CXRImageProcessor(**recipe.image_processor)
    return MCSAMProcessor(images, tokenizer, max_length=recipe.max_length, report_style=recipe.report_style)


def build_model(recipe: Recipe, processor: MCSAMProcessor, findings: list[str]) -> MCSAMForConditionalGeneration:
    """A new MCSAM: backbone by name, from a file of weights or from scratch, memory from the training reports."""
    pretrained = _pretrained_backbone(recipe.encoder) if isinstance(recipe.encoder, str) else None
    config = _model_config(recipe, processor, recipe.encoder if pretrained is None else pretrained.config)
    channels = getattr(config.encoder, "num_channels", 3)
    if processor.image_processor.num_channels != channels:
        raise ValueError(
            f"`image_processor.num_channels` must be {channels}, as the backbone reads films. "
            f"Got {processor.image_processor.num_channels}."
        )
    model = MCSAMForConditionalGeneration(config)
    if pretrained is not None:
        model.encoder.visual.backbone.load_state_dict(pretrained.state_dict())
    elif recipe.encoder_weights is not None:
        load_backbone_weights(model.encoder.visual.backbone, recipe.encoder_weights)
    if config.memory_size:
        _fill_memory(model, recipe, processor, findings)
    return model


def _model_config(recipe: Recipe, processor: MCSAMProcessor, encoder: Any) -> MCSAMConfig:
    """The recipe's sizes with the tokenizer's words."""
    tokenizer = processor.tokenizer
    try:
        config = MCSAMConfig(
            encoder=encoder,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.bos_token_id,
            **recipe.config,
        )
    except TypeError as error:
        raise ValueError(f"`config` holds a value of the wrong type among {recipe.config}: {error}") from error
    longest = config.decoder.max_position_embeddings - config.num_prompts
    if recipe.max_length > longest:
        raise ValueError(
            f"`max_length` must be at most {longest}, the decoder's positions less its prompts. "
            f"Got {recipe.max_length}; raise `config.decoder.max_position_embeddings`."
        )
    return config


def set_generation(model: PreTrainedModel, recipe: Recipe, processor: MCSAMProcessor) -> None:
    """How the checkpoint writes when nobody says otherwise; saved beside its weights."""
    model.generation_config.update(**{"max_length": processor.max_length} | recipe.generation)


def _fill_memory(
    model: MCSAMForConditionalGeneration, recipe: Recipe, processor: MCSAMProcessor, findings: list[str]
) -> None:
    config = model.config
    print(f"memory: {config.memory_size} vectors by `{recipe.memory_init}` from the reports", file=sys.stderr)
    cleaned = [clean_report(text, recipe.report_style) for text in findings]
    words = processor.tokenizer(cleaned, add_special_tokens=False).input_ids
    rows = initial_memory(
        words, config.vocab_size, config.memory_size, config.memory_dim, recipe.memory_init, recipe.seed
    )
    with torch.no_grad():
        model.encoder.get_parameter("memory.bank").copy_(rows)


def _pretrained_backbone(name: str) -> PreTrainedModel:
    """A vision model of the Hub or of a local folder."""
    try:
        return AutoModel.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        where = "folder" if Path(name).exists() else "name"
        raise ValueError(
            f"`encoder`: no vision model by the {where} `{name}` ({one_line(error)[:200]}) "
            "Without internet, give a local folder or a configuration to train from scratch."
        ) from error
