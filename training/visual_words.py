"""`radscribe train visual_words_...`: a codebook of what a frozen visual backbone says of films, by k-means.

UAR's own tokenizer is the DALL-E dVAE, which has learnt pictures; the VQ model of image_tokenizer.py learns films, to
draw them again. Both spend their codes on how a place looks. A backbone that has learnt what films show says more of a
finding, and k-means of its features keeps most of that. Nothing here is trained: the films are read once.
The run's folder is what a UAR recipe's `image_tokenizer` names.

Shapes: n films, H = W = `image_processor.size` pixels, C channels of the backbone's last map, L places of a film.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from ..configuration.configuration_image_tokenizer import VisualWordsConfig
from ..modeling.modeling_image_tokenizer import VisualWords
from ..processing.image_processing_cxr import CXRImageProcessor
from .build import load_backbone
from .errors import one_line
from .image_tokenizer import SingleFilms, check_new, describe_codes, load_films, parse_pixels, stack_films
from .processes import this_process
from .recipe import check_counts, fill_fields, save_recipe

PLACES = 100_000  # features at once in memory: half a gigabyte of 1,280 channels
BATCH = 4096  # places a step of k-means


@dataclasses.dataclass(kw_only=True)
class WordsRecipe:
    """How a codebook is found; a recipe comments each key it sets."""

    model: str  # "visual_words"
    dataset: str  # a folder made by `radscribe prepare`
    output_dir: str  # the run's folder
    seed: int = 42
    encoder: str  # pretrained backbone by name or folder
    encoder_mean: list[float]  # what its pixels are normalised by: one number, or one a channel
    encoder_std: list[float]  # likewise
    num_embeddings: int = 1024  # codes K
    iterations: int = 20  # passes of k-means over the features, at most
    image_processor: dict[str, Any]  # films to pixels in [0, 1], see CXRImageProcessor
    max_views: int = 2  # films of a study that are read, the first ones of its record
    batch_size: int = 32  # films the backbone gets at once
    workers: int = 0  # processes that read films


def parse_words_recipe(values: dict[str, Any]) -> WordsRecipe:
    """Check every key of the recipe; whether it fits the backbone shows when that is loaded.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type or one that cannot work.
    """
    recipe = fill_fields(WordsRecipe, values)
    check_counts(recipe, "num_embeddings", "iterations", "max_views", "batch_size")
    parse_pixels(recipe.image_processor)
    return recipe


def find_visual_words(recipe: WordsRecipe) -> dict[str, Any]:
    """Find the codebook and leave weights, image processor and figures in `output_dir`.

    Returns:
        `output_dir`, `films` (how many the codes come from), `minutes`, and `validation`: codes, the share of the
        features' variance that they keep, the share of codes that validation films use, their perplexity.

    Raises:
        ValueError: a bad data set or backbone; a used `output_dir`.
    """
    started, run = time.monotonic(), Path(recipe.output_dir)
    check_new(run)
    processor = CXRImageProcessor(**recipe.image_processor)
    training, validation = load_films(recipe.dataset, processor, recipe.max_views)
    set_seed(recipe.seed)
    model = build_words(recipe, load_backbone(recipe.encoder), processor).to(this_process().device).eval()
    L = (processor.size // model.config.step) ** 2
    chosen = choose_films(training, L)
    places = read_places(model, chosen, recipe)
    if len(places) < recipe.num_embeddings:
        raise ValueError(
            f"`num_embeddings` must be at most {len(places)}, the places of the training films. "
            f"Got {recipe.num_embeddings}."
        )
    run.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, run / "recipe.yaml")
    model.codebook.weight.data.copy_(find_codes(places, recipe))
    model.save_pretrained(run)
    processor.save_pretrained(run)
    result = {
        "output_dir": str(run),
        "films": len(chosen),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "validation": measure_words(model, read_places(model, choose_films(validation, L), recipe)),
    }
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


@torch.no_grad()
def build_words(recipe: WordsRecipe, backbone: PreTrainedModel, processor: CXRImageProcessor) -> VisualWords:
    """The backbone with a codebook that is still to be found, sized by what it says of a blank film.

    Raises:
        ValueError: a backbone that reads other films than the recipe's or gives no feature map.
    """
    channels = getattr(backbone.config, "num_channels", 3)
    if processor.num_channels != channels:
        raise ValueError(
            f"`image_processor.num_channels` must be {channels}, as the backbone reads films. "
            f"Got {processor.num_channels}."
        )
    try:
        blank = torch.zeros(1, channels, processor.size, processor.size)
        shape = backbone.eval()(pixel_values=blank).last_hidden_state.shape
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"`encoder` `{recipe.encoder}` cannot read films of {processor.size} pixels: {one_line(error)[:200]}"
        ) from error
    if len(shape) != 4 or processor.size % shape[-1]:
        raise ValueError(
            "`encoder` must give a feature map (n, C, h, w), as convolutional backbones do, whose side divides "
            f"`image_processor.size` {processor.size}. Got shape {tuple(shape)}."
        )
    try:
        config = VisualWordsConfig(
            encoder=backbone.config,
            num_embeddings=recipe.num_embeddings,
            feature_width=shape[1],
            step=processor.size // shape[-1],
            image_mean=recipe.encoder_mean,
            image_std=recipe.encoder_std,
        )
    except ValueError as error:  # the two fields that the recipe names otherwise
        raise ValueError(str(error).replace("`image_", "`encoder_")) from error
    model = VisualWords(config)
    model.backbone.load_state_dict(backbone.state_dict())
    return model


def choose_films(films: SingleFilms, places: int) -> torch.utils.data.Subset:
    """As many films at random as PLACES features need, at `places` a film; all of them where there are fewer."""
    return torch.utils.data.Subset(films, torch.randperm(len(films))[: -(-PLACES // places)].tolist())


@torch.inference_mode()
def read_places(model: VisualWords, films: torch.utils.data.Dataset, recipe: WordsRecipe) -> Tensor:
    """What the backbone says of each place of these films, on the CPU: (n L, C)."""
    loader = torch.utils.data.DataLoader(films, recipe.batch_size, collate_fn=stack_films, num_workers=recipe.workers)
    places = [
        model.read(batch["pixel_values"].to(model.device)).flatten(2).transpose(1, 2).flatten(0, 1).cpu()
        for batch in track(loader, "reading films", console=Console(stderr=True), transient=True)
    ]
    return torch.cat(places)


def find_codes(places: Tensor, recipe: WordsRecipe) -> Tensor:
    """The centres of k-means: (n L, C) -> (K, C)."""
    from sklearn.cluster import MiniBatchKMeans  # a second to import, which no other run needs

    print(f"k-means: {recipe.num_embeddings} codes of {len(places)} places", file=sys.stderr, flush=True)
    means = MiniBatchKMeans(
        recipe.num_embeddings, max_iter=recipe.iterations, batch_size=BATCH, n_init=1, random_state=recipe.seed
    )
    return torch.from_numpy(means.fit(places.numpy()).cluster_centers_).float()


@torch.inference_mode()
def measure_words(model: VisualWords, places: Tensor) -> dict[str, float]:
    """How much of these features (n L, C) their codes keep, and how many codes they use."""
    codes, variance = model.codebook.weight, places.var(0, correction=0).sum().item()
    counts, error = torch.zeros(len(codes)), 0.0
    for part in places.split(BATCH):
        part = part.to(codes.device)
        ids = model.nearest(part)
        error += (part - codes[ids]).square().sum().item()
        counts += torch.bincount(ids.cpu(), minlength=len(counts))
    kept = 1 - error / len(places) / max(variance, 1e-12)
    return {"codes": len(counts), "variance_kept": round(kept, 4)} | describe_codes(counts)
