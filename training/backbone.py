"""`radscribe train backbone_...`: a backbone that knows findings, from one that knows photographs.

MCSAM starts from a visual encoder that MedCLIP trained with the findings of its films (mcsam.md section 1). Whoever
has labelled studies and no such weights makes one here: the last blocks of an ImageNet backbone learn the codes of the
TRAINING studies. Its folder is what a report recipe's `encoder` names; there it stays frozen, and its films are read
once. A run on it has seen labels beside its reports: it is the variant "+ labels", and has to say so.

`pretrain_steps` of a report recipe is the other way: all of the backbone at once, in the run itself, and not frozen.

Shapes: B studies, V views, C channels of the backbone's last map, L labels.
"""

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments, set_seed

from ..modeling.modeling_report import feature_width
from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.image_processing_cxr import CXRImageProcessor
from .build import load_backbone
from .data import StudyFilms
from .image_tokenizer import check_new
from .pretrain import LabelledFilms, label_table, mark_labels
from .readers.studies import load_studies
from .recipe import check_counts, fill_fields, parameters, refuse_unknown, save_recipe
from .trainer import RunLog, leave_to_run_log


@dataclasses.dataclass(kw_only=True)
class BackboneRecipe:
    """How a backbone learns labels; a recipe comments each key it sets."""

    model: str  # "backbone"
    dataset: str  # a folder made by `radscribe prepare`, with labels
    output_dir: str  # the run's folder
    seed: int = 42
    max_steps: int  # optimiser steps
    encoder: str  # pretrained backbone by name or folder
    frozen: list[str] = dataclasses.field(default_factory=list)  # parameters that start so keep their values
    image_processor: dict[str, Any]  # films to pixels, as the report recipe has them
    augmentation: dict[str, Any] | None = None  # train-time changes of a film
    max_views: int = 2  # films of a study that are read, the first ones of its record
    batch_size: int = 16  # studies a step
    learning_rate: float = 1.0e-4  # the backbone
    head_learning_rate: float = 3.0e-4  # the layer that names the labels, and is thrown away
    head_steps: int = 40  # that layer learns alone first: what it says of fresh is noise to the backbone
    warmup_steps: int = 60  # of the backbone, from then on
    dropout: float = 0.3  # before that layer
    keep_films: bool = False  # hold films in memory at the model's size
    workers: int = 1  # processes that read films


class LabelNamer(nn.Module):
    """The views' mean features side by side, brought to one scale, and a linear layer: one logit a label."""

    def __init__(self, backbone: PreTrainedModel, max_views: int, labels: Tensor, dropout: float) -> None:
        super().__init__()
        self.backbone, self.max_views = backbone, max_views
        width = max_views * feature_width(backbone)
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(width, labels.shape[1])
        nn.init.zeros_(self.classify.weight)
        with torch.no_grad():
            self.classify.bias.copy_(torch.logit(labels.mean(0), eps=1e-4))

    def train(self, mode: bool = True) -> "LabelNamer":
        """The backbone's batch statistics stay those of its ImageNet training: a batch here is small."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, pixel_values: Tensor, view_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, V, channels, H, W), (B, V) and labels (B, L) of 0 and 1 -> `loss` and `logits` (B, L)."""
        valid = view_mask.flatten().bool()
        maps = self.backbone(pixel_values=pixel_values.flatten(0, 1)[valid]).last_hidden_state
        # A grid (n, C, h, w) or tokens (n, N, C), as `VisualTokens` takes them.
        means = maps.mean((-1, -2)) if maps.dim() == 4 else maps.mean(1)  # (n, C)
        views = means.new_zeros(len(valid), means.shape[1])
        views[valid] = means
        features = F.pad(views.view(len(view_mask), -1), (0, self.norm.num_features - views.numel() // len(view_mask)))
        logits = self.classify(self.dropout(self.norm(features)))
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def parse_backbone_recipe(values: dict[str, Any]) -> BackboneRecipe:
    """Check every key of the recipe.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type or one that cannot work.
    """
    recipe = fill_fields(BackboneRecipe, values)
    check_counts(recipe, "max_steps", "max_views", "batch_size")
    refuse_unknown(recipe.image_processor, parameters(CXRImageProcessor), "image_processor")
    refuse_unknown(recipe.augmentation or {}, parameters(CXRAugmentation), "augmentation")
    slow = recipe.head_steps + recipe.warmup_steps
    if slow >= recipe.max_steps:
        raise ValueError(
            f"`max_steps` must exceed `head_steps` and `warmup_steps` together, {slow}. Got {recipe.max_steps}."
        )
    return recipe


def train_backbone(recipe: BackboneRecipe) -> dict[str, Any]:
    """Train the backbone and leave it, the recipe and its figures in `output_dir`.

    Returns:
        `output_dir`, `steps`, `minutes`, `labels`: how many were learned, and `validation`: loss and mean AUC.

    Raises:
        ValueError: a bad data set, one without labels, no such backbone; a used `output_dir`.
    """
    started, run = time.monotonic(), Path(recipe.output_dir)
    check_new(run)
    processor = CXRImageProcessor(**recipe.image_processor)
    training, validation = (load_studies(Path(recipe.dataset), split) for split in ("train", "val"))
    names, table = label_table(training["labels"])
    if not names:
        raise ValueError(f"`dataset` {recipe.dataset} has no label that a hundredth of its training studies have.")
    set_seed(recipe.seed)
    backbone = load_backbone(recipe.encoder).to(memory_format=torch.channels_last)
    freeze(backbone, recipe.frozen)
    keep = processor if recipe.keep_films else None
    augmentation = None if recipe.augmentation is None else CXRAugmentation(**recipe.augmentation)
    model = LabelNamer(backbone, recipe.max_views, table, recipe.dropout)
    run.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, run / "recipe.yaml")
    trainer = Trainer(
        model=model,
        args=_arguments(recipe),
        train_dataset=LabelledFilms(StudyFilms(training, augmentation, keep), table),
        eval_dataset=LabelledFilms(StudyFilms(validation), mark_labels(validation["labels"], names)),
        data_collator=_collate_with(processor, recipe.max_views),
        compute_metrics=lambda found: {
            "auc": mean_auc(torch.tensor(found.predictions), torch.tensor(found.label_ids))
        },
        callbacks=[RunLog(run / "metrics.jsonl", "auc")],
        optimizers=_optimizer(model, recipe),
    )
    leave_to_run_log(trainer)
    trainer.train()
    figures = trainer.evaluate()
    backbone.requires_grad_(True)
    backbone.save_pretrained(run)
    result = {
        "output_dir": str(run),
        "steps": recipe.max_steps,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "labels": len(names),
        "validation": {name: round(figures[f"eval_{name}"], 4) for name in ("loss", "auc")},
    }
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def freeze(backbone: PreTrainedModel, prefixes: Sequence[str]) -> None:
    """Let parameters whose names start so keep their values. Raises ValueError for a prefix that is none's."""
    names = [name for name, _ in backbone.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"`frozen`: no parameter starts with {prefix!r}; they are {names[0]} ... {names[-1]}.")
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(prefixes)))


def mean_auc(logits: Tensor, labels: Tensor) -> float:
    """Mean area under the ROC curve of the labels that some studies have and some do not: (S, L) twice."""
    from sklearn.metrics import roc_auc_score  # a second to import, which no other run needs

    told = labels.bool().any(0) & ~labels.bool().all(0)
    if not told.any():
        return 0.0
    return float(roc_auc_score(labels[:, told].numpy(), logits[:, told].numpy(), average="macro"))


def _collate_with(processor: CXRImageProcessor, max_views: int) -> Any:
    def collate(studies: list[dict[str, Any]]) -> dict[str, Any]:
        films = processor([study["images"][:max_views] for study in studies], return_tensors="pt")
        return dict(films) | {"labels": torch.stack([study["labels"] for study in studies])}

    return collate


def _optimizer(model: LabelNamer, recipe: BackboneRecipe) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW and cosine schedules: the head from the first step, the backbone after `head_steps` with a warm-up."""
    learned = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    groups = [
        {"params": learned, "lr": recipe.learning_rate},
        {"params": list(model.classify.parameters()), "lr": recipe.head_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)

    def cosine(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.max_steps)))

    def late(step: int) -> float:
        return min(1.0, max(0, step - recipe.head_steps) / max(1, recipe.warmup_steps)) * cosine(step)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, [late, cosine])


def _arguments(recipe: BackboneRecipe) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(Path(recipe.output_dir) / "checkpoints"),
        seed=recipe.seed,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        max_grad_norm=1.0,
        dataloader_num_workers=recipe.workers,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        logging_steps=min(50, recipe.max_steps),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
