"""`radscribe train image_tokenizer_...`: a small VQ model of films, on images alone (UAR, section 3.2 and Fig. 6).

UAR's own tokenizer is the DALL-E dVAE. Whoever has no way to its weights trains one here: the stock VQ model of Janus,
film -> codes -> film. Codes that no film uses are set anew from what the encoder says, or most would never be used.
The run's folder is what a UAR recipe's `image_tokenizer` names.

Shapes: n films, C channels, H = W = `image_processor.size` pixels, L codes of a film.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.models.janus.configuration_janus import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE

from ..configuration.configuration_image_tokenizer import downsampling, film_channels, pixels_a_place
from ..modeling.modeling_image_tokenizer import fold_pixels, unfold_pixels
from ..processing.image_processing_cxr import CXRImageProcessor
from .data import StudyFilms
from .errors import one_line
from .readers.studies import load_studies
from .recipe import check_counts, fill_fields, parameters, refuse_unknown, save_recipe
from .trainer import RunLog, leave_to_run_log

SHEET_FILMS = 8  # films in the picture
RESTARTS_END = 0.7  # of the steps: then the codebook settles


@dataclasses.dataclass(kw_only=True)
class TokenizerRecipe:
    """How an image tokenizer is trained; a recipe comments each key it sets."""

    model: str  # "image_tokenizer"
    dataset: str  # a folder made by `radscribe prepare`
    output_dir: str  # the run's folder
    seed: int = 42
    max_steps: int  # optimiser steps
    config: dict[str, Any]  # sizes of the VQ model, see JanusVQVAEConfig of Transformers
    image_processor: dict[str, Any]  # films to pixels in [0, 1], see CXRImageProcessor
    max_views: int = 2  # films of a study that are read, the first ones of its record
    batch_size: int = 16  # films a step
    learning_rate: float = 2.0e-3
    warmup_steps: int = 0
    restart_steps: int = 25  # codes unused for so many steps are set anew
    workers: int = 0  # processes that read films


class TokenizerTraining(nn.Module):
    """The VQ model and its losses: squared and absolute error of the pixels, and the codebook's own."""

    def __init__(self, vq: JanusVQVAE) -> None:
        super().__init__()
        self.vq = vq
        self.used: Tensor = torch.zeros(vq.config.num_embeddings)  # how often since the last restart
        self.counted: Tensor = torch.zeros_like(self.used)  # how often since the last line of the log
        self.encoded: Tensor = torch.empty(0)  # (n L, width): what the encoder said of the last films

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(n, C, H, W) in [0, 1] -> `loss`, its two parts and the films as the codes say them (n, C, H, W)."""
        films = fold_pixels(pixel_values, self.vq.config)
        hidden = self.vq.quant_conv(self.vq.encoder(films))
        is_first = not len(self.encoded)
        self.encoded = hidden.detach().permute(0, 2, 3, 1).flatten(0, 2)
        if self.training and is_first:
            self.restart_unused()  # before the first step: fresh codes lie far from all that the encoder says
        quantized, codebook_loss, ids = self.vq.quantize(hidden)
        counts = torch.bincount(ids.cpu(), minlength=len(self.used))
        self.used += counts
        self.counted += counts
        # Normalised as the stock `decode` does, so that it gives these very films for the ids.
        decoded = self.vq.decoder(self.vq.post_quant_conv(F.normalize(quantized, dim=1)))
        error = decoded - films
        pixel_loss = error.abs().mean() + error.pow(2).mean()
        return {
            "loss": pixel_loss + codebook_loss,
            "pixel_loss": pixel_loss,
            "codebook_loss": codebook_loss,
            "films": unfold_pixels(decoded, self.vq.config),
            "ids": ids.view(len(films), -1),
        }

    @torch.no_grad()
    def restart_unused(self) -> None:
        """Set codes that no place has used to what the encoder says of random places, and count anew."""
        unused = (self.used == 0).nonzero().flatten()
        rows = torch.randint(len(self.encoded), (len(unused),))
        self.vq.quantize.embedding.weight[unused] = self.encoded[rows].to(self.vq.quantize.embedding.weight.dtype)
        self.used.zero_()


class TokenizerTrainer(Trainer):
    """A Trainer whose log lines say how many codes the films since the last one used."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= describe_codes(self.model.counted)
            self.model.counted.zero_()
        super().log(logs, start_time)


def describe_codes(counts: Tensor) -> dict[str, float]:
    """Share of codes in use and their perplexity, 2 to the entropy of the codes: (K,) -> two figures."""
    shares = counts / counts.sum()
    entropy = -(shares * shares.clamp(min=1e-12).log2()).sum()
    return {"codes_used": round((counts > 0).float().mean().item(), 4), "perplexity": round(2 ** entropy.item(), 1)}


class RestartUnused(TrainerCallback):
    """Calls `restart_unused` every so many steps, until the codebook shall settle."""

    def __init__(self, training: TokenizerTraining, every: int) -> None:
        self.training, self.every = training, every

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 and state.global_step < RESTARTS_END * state.max_steps:
            self.training.restart_unused()


class SingleFilms(torch.utils.data.Dataset):
    """One item a film: (C, H, W) in [0, 1], read once and kept at the model's size."""

    def __init__(self, studies: Any, processor: CXRImageProcessor, max_views: int) -> None:
        self.films = StudyFilms(studies, keep=processor)
        self.processor = processor
        self.index = [(i, v) for i, paths in enumerate(self.films.paths) for v in range(min(len(paths), max_views))]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Tensor:
        study, view = self.index[index]
        film = self.films.read(self.films.paths[study][view])
        return self.processor(film, return_tensors="pt")["pixel_values"][0, 0]


def stack_films(films: list[Tensor]) -> dict[str, Tensor]:
    """The collator: n films to `pixel_values` (n, C, H, W)."""
    return {"pixel_values": torch.stack(films)}


def parse_tokenizer_recipe(values: dict[str, Any]) -> TokenizerRecipe:
    """Check every key of the recipe and that its sizes fit each other.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type or one that cannot work.
    """
    recipe = fill_fields(TokenizerRecipe, values)
    check_counts(recipe, "max_steps", "max_views", "batch_size", "restart_steps")
    refuse_unknown(recipe.config, JanusVQVAEConfig().to_dict(), "config")
    processor = parse_pixels(recipe.image_processor)
    config = make_part("config", JanusVQVAEConfig, recipe.config)
    check_counts(config, "num_embeddings", "embed_dim", "latent_channels", "num_res_blocks")
    if config.base_channels % 32:
        raise ValueError(f"`config.base_channels` must be a multiple of 32 (its norms). Got {config.base_channels}.")
    if config.in_channels != (whole := film_channels(config) * pixels_a_place(config) ** 2) or (
        config.out_channels != whole
    ):
        raise ValueError(
            "`config.in_channels` and `config.out_channels` must be one number, r x r pixels of 1 or 3 channels. Got "
            f"{config.in_channels} and {config.out_channels}."
        )
    if film_channels(config) != processor.num_channels:
        raise ValueError(
            f"`config.in_channels` of {config.in_channels} reads films of {film_channels(config)} channels. Got "
            f"`image_processor.num_channels` {processor.num_channels}."
        )
    places = processor.size // downsampling(config)
    if processor.size % downsampling(config) or config.num_patches != places:
        raise ValueError(
            f"`config.num_patches` must be the film's {processor.size} pixels by the tokenizer's step of "
            f"{downsampling(config)}. Got {config.num_patches}."
        )
    return recipe


def parse_pixels(values: dict[str, Any]) -> CXRImageProcessor:
    """The recipe's `image_processor`, which leaves pixels in [0, 1] as every image tokenizer reads them."""
    refuse_unknown(values, parameters(CXRImageProcessor), "image_processor")
    processor = make_part("image_processor", CXRImageProcessor, values)
    if list(processor.image_mean) != [0.0] or list(processor.image_std) != [1.0]:
        raise ValueError("`image_processor` must leave pixels in [0, 1]: image_mean [0.0], image_std [1.0].")
    return processor


def make_part(name: str, kind: Callable[..., Any], values: dict[str, Any]) -> Any:
    """What these keys of the recipe make; a value of the wrong type in one line."""
    try:
        return kind(**values)
    except (TypeError, StrictDataclassError) as error:
        raise ValueError(f"`{name}` holds a value of the wrong type among {values}: {one_line(error)}.") from error


def train_image_tokenizer(recipe: TokenizerRecipe) -> dict[str, Any]:
    """Train the VQ model and leave weights, image processor, figures and a picture in `output_dir`.

    Returns:
        `output_dir`, `steps`, `minutes`, and `validation`: mean absolute error in grey levels, the share of codes that
        validation films use, their perplexity.

    Raises:
        ValueError: a bad data set; a used `output_dir`.
    """
    started, run = time.monotonic(), Path(recipe.output_dir)
    check_new(run)
    processor = CXRImageProcessor(**recipe.image_processor)
    training, validation = load_films(recipe.dataset, processor, recipe.max_views)
    run.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, run / "recipe.yaml")
    set_seed(recipe.seed)
    model = TokenizerTraining(
        JanusVQVAE(JanusVQVAEConfig(**recipe.config)).train().to(memory_format=torch.channels_last)
    )
    trainer = TokenizerTrainer(
        model=model,
        args=_arguments(recipe),
        train_dataset=training,
        data_collator=stack_films,
        callbacks=[RunLog(run / "metrics.jsonl", "loss"), RestartUnused(model, recipe.restart_steps)],
    )
    leave_to_run_log(trainer)
    trainer.train()
    model.eval()
    model.vq.save_pretrained(run)
    processor.save_pretrained(run)
    figures = measure(model, validation, recipe.batch_size)
    draw_sheet(model, [validation[i] for i in range(min(SHEET_FILMS, len(validation)))]).save(run / "films.png")
    result = {
        "output_dir": str(run),
        "steps": recipe.max_steps,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "validation": figures,
        "picture": str(run / "films.png"),
    }
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def check_new(run: Path) -> None:
    """Refuse a folder with something in it."""
    if run.exists() and (run.is_file() or any(run.iterdir())):
        raise ValueError(f"`output_dir` `{run}` is not a new or empty folder. Set another one.")


def load_films(dataset: str, processor: CXRImageProcessor, max_views: int) -> tuple[SingleFilms, SingleFilms]:
    """Films to train on and films to validate."""
    training, validation = (
        SingleFilms(load_studies(Path(dataset), split), processor, max_views) for split in ("train", "val")
    )
    return training, validation


def _arguments(recipe: TokenizerRecipe) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(Path(recipe.output_dir) / "checkpoints"),
        seed=recipe.seed,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_steps,
        adam_beta2=0.99,
        weight_decay=0.0,
        max_grad_norm=1.0,
        dataloader_num_workers=recipe.workers,
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=50,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


@torch.inference_mode()
def measure(model: TokenizerTraining, films: torch.utils.data.Dataset, batch_size: int) -> dict[str, float]:
    """How well films come back from their codes, and how many codes they use."""
    device = next(model.parameters()).device
    counts, error, pixels = torch.zeros(model.vq.config.num_embeddings), 0.0, 0
    loader = torch.utils.data.DataLoader(films, batch_size=batch_size, collate_fn=stack_films)
    for batch in track(loader, "measuring", console=Console(stderr=True), transient=True):
        batch = batch["pixel_values"].to(device)
        output = model(batch)
        error += (output["films"] - batch).abs().sum().item()
        pixels += batch.numel()
        counts += torch.bincount(output["ids"].flatten().cpu(), minlength=len(counts))
    return {"error_grey_levels": round(255 * error / pixels, 3), "codes": len(counts)} | describe_codes(counts)


@torch.inference_mode()
def draw_sheet(model: TokenizerTraining, films: list[Tensor]) -> Image.Image:
    """Fig. 6: raw films over their reconstructions over the residuals (grey = none)."""
    raw = torch.stack(films).to(next(model.parameters()).device)
    decoded = model(raw)["films"].clamp(0, 1)
    rows = torch.cat([raw, decoded, ((raw - decoded) + 0.5).clamp(0, 1)], dim=2).mean(1).cpu()  # (n, 3 H, W)
    pixels = np.concatenate(list(rows.numpy()), axis=1)
    return Image.fromarray((255 * pixels).round().astype(np.uint8))
