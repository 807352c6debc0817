"""The backbone learns the labels of its films first: what MedCLIP's weights are to MCSAM (mcsam.md section 1).

MCSAM starts from a visual encoder that MedCLIP trained with the findings of its films. Whoever has labelled studies
and no such weights gets one here: a linear layer over the mean of a study's visual tokens, binary cross-entropy over
the labels. The layer is thrown away. A run that starts so has seen labels beside its reports, and has to say so.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from ..modeling.modeling_report import VisualTokens
from .data import StudyFilms
from .trainer import RunLog, leave_to_run_log

LEAST_SHARE = 0.01  # of the studies must have a label that is learned


class LabelProbe(nn.Module):
    """Visual tokens, their mean and a linear layer: one logit a label."""

    def __init__(self, visual: VisualTokens, labels: int) -> None:
        super().__init__()
        self.visual = visual
        self.classify = nn.Linear(visual.norm.normalized_shape[0], labels)

    def forward(self, pixel_values: Tensor, view_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W), (B, V) and labels (B, L) of 0 and 1 -> `loss` and `logits` (B, L)."""
        tokens, mask = self.visual(pixel_values, view_mask)  # (B, N, D), (B, N)
        pooled = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits = self.classify(pooled)
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


class LabelledFilms(torch.utils.data.Dataset):
    """The items of `StudyFilms` with `labels` (L,), 1 where the study has the label."""

    def __init__(self, films: StudyFilms, labels: Tensor) -> None:
        self.films, self.labels = films, labels

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.films[index] | {"labels": self.labels[index]}


def label_names(labels: Sequence[dict]) -> set[str]:
    """What a study has and where, without its size: "effusion/left/large" is "effusion/left"."""
    return {"/".join(label["name"].split("/")[:2]) for label in labels}


def label_table(records: Sequence[Sequence[dict]]) -> tuple[list[str], Tensor]:
    """Labels of studies as names (L) and a table (studies, L) of 0.0 and 1.0.

    A name is a slash path; what something is and where make a label, its size does not ("effusion/left/large" counts
    as "effusion/left"). Labels of less than `LEAST_SHARE` of the studies are left out: nothing is learned from a few.
    """
    counts = Counter(name for labels in records for name in label_names(labels))
    names = sorted(name for name, count in counts.items() if count >= LEAST_SHARE * len(records))
    return names, mark_labels(records, names)


def mark_labels(records: Sequence[Sequence[dict]], names: list[str]) -> Tensor:
    """1.0 where a study has the label, 0.0 elsewhere: (studies, L)."""
    return torch.tensor([[float(name in own) for name in names] for own in map(label_names, records)])


def pretrain_backbone(
    model: PreTrainedModel,
    films: StudyFilms,
    records: Sequence[Sequence[dict]],
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    arguments: TrainingArguments,
    log: Path,
) -> None:
    """Train `model.encoder.visual` in place on the labels of training studies; the rest of the model stays as it is.

    Args:
        films: the training studies' films.
        records: the labels of each of these studies, as the study record has them.
        collate: the collator of films and reports; its reports give way to the labels here.
        arguments: steps, batches and rates of this stage.
        log: JSON lines of its losses.

    Raises:
        ValueError: no label is frequent enough.
    """
    names, table = label_table(records)
    if not names:
        raise ValueError("`pretrain_steps` needs labels; no label occurs in a hundredth of the studies. Set it to 0.")
    print(
        f"backbone: learns {len(names)} labels of {len(table)} studies for {arguments.max_steps} steps",
        file=sys.stderr,
    )
    log.unlink(missing_ok=True)  # of a run that was cut off before its first checkpoint

    def collate_labels(studies: list[dict[str, Any]]) -> dict[str, Any]:
        return collate(studies) | {"labels": torch.stack([study["labels"] for study in studies])}

    trainer = Trainer(
        model=LabelProbe(model.encoder.visual, len(names)),
        args=arguments,
        train_dataset=LabelledFilms(films, table),
        data_collator=collate_labels,
        callbacks=[RunLog(log, "loss")],
    )
    leave_to_run_log(trainer)
    trainer.train()
