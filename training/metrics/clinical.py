"""Clinical precision, recall and F1 over the 14 CheXpert observations, in every convention that papers print as "F1".

Shapes: S studies, R weightings of the studies (resamples; 1 for the plain score), L labels.
Codes are those of `rule_labeller.py` (positive, negative, uncertain, blank), whoever labelled the reports: the rules
or CheXbert. A label counts as present or absent; papers differ in what uncertain is, and the choice moves results:
    uncertain_positive   f1chexbert and RadEval ("rrg"), the habit of 2026
    uncertain_negative   R2Gen's compute_ce.py, which sets blank and -1 to 0
Averages (P = hits / (hits + false alarms), R = hits / (hits + misses), F1 = 2 hits / (2 hits + false alarms + misses),
each 0 where nothing is to divide, as scikit-learn's `zero_division=0`):
    micro    over the hits, false alarms and misses of all labels and studies together
    macro    mean over the labels of the label's P, R and F1; a label that never occurs counts 0
    example  mean over the studies of the study's P, R and F1 (scikit-learn's `average="samples"`). A study without a
             positive label on either side counts 0, though nothing is wrong with it: over the five labels the truth
             itself scores the share of studies that have one of the five, not 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .rule_labeller import BLANK, FIVE, OBSERVATIONS, POSITIVE, UNCERTAIN

POLICIES = ("uncertain_positive", "uncertain_negative")
LABEL_SETS = {"14": list(range(len(OBSERVATIONS))), "5": [OBSERVATIONS.index(name) for name in FIVE]}
MEASURES = ("precision", "recall", "f1")


def label_written(label: Callable[[list[str]], np.ndarray], reports: list[str]) -> np.ndarray:
    """Codes (S, 14) of written reports by `label`; one without a word is blank throughout.

    CheXpert's rule calls it normal, since no finding is in it; a model that writes nothing has found nothing out.
    """
    codes = label(reports)
    codes[[re.search(r"\w", report) is None for report in reports]] = BLANK
    return codes


def count_labels(predicted: np.ndarray, true: np.ndarray, policy: str) -> np.ndarray:
    """Hits, false alarms and misses of each study and label: codes (S, 14) twice -> (S, 14, 3) of 0 and 1."""
    _check_codes(predicted, true)
    if policy not in POLICIES:
        raise ValueError(f"`policy` must be one of {', '.join(POLICIES)}. Got {policy!r}.")
    present = [POSITIVE, UNCERTAIN] if policy == "uncertain_positive" else [POSITIVE]
    stated, present_in_truth = np.isin(predicted, present), np.isin(true, present)
    return np.stack(
        [stated & present_in_truth, stated & ~present_in_truth, ~stated & present_in_truth], axis=-1
    ).astype(float)


def _check_codes(predicted: np.ndarray, true: np.ndarray) -> None:
    shape = (len(true), len(OBSERVATIONS))
    if len(true) == 0 or np.shape(predicted) != shape or np.shape(true) != shape:
        raise ValueError(
            "`predicted` and `true` must be codes (S, 14) of the same studies, one at least. "
            f"Got shapes {np.shape(predicted)} and {np.shape(true)}."
        )


def precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """Hits, false alarms, misses -> precision, recall, F1: (..., 3) -> (..., 3), 0 where nothing is to divide."""
    hits, false_alarms, misses = np.moveaxis(counts, -1, 0)
    above = np.stack([hits, hits, 2 * hits], axis=-1)
    below = np.stack([hits + false_alarms, hits + misses, 2 * hits + false_alarms + misses], axis=-1)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def example_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each study's own precision, recall, F1 over each label set: (S, 14, 3) -> {"14" | "5": (S, 3)}."""
    return {name: precision_recall_f1(counts[:, labels].sum(axis=1)) for name, labels in LABEL_SETS.items()}


def average_scores(counts: np.ndarray, examples: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """All averages of counts that were summed over studies.

    Args:
        counts: (R, 14, 3).
        examples: mean of the studies' own scores a label set, {"14" | "5": (R, 3)}.

    Returns {"14" | "5": {"micro" | "macro" | "example": precision, recall, F1 (R, 3)}}.
    """
    return {
        name: {
            "micro": precision_recall_f1(counts[:, labels].sum(axis=1)),
            "macro": precision_recall_f1(counts[:, labels]).mean(axis=1),
            "example": examples[name],
        }
        for name, labels in LABEL_SETS.items()
    }


def clinical_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Scores of the predicted reports' labels against the true reports', codes (S, 14) each.

    Returns {"uncertain_positive" | "uncertain_negative": {"14" | "5": {"micro" | "macro" | "example": {"precision",
    "recall", "f1"}}}, "per_label": {name: {"precision", "recall", "f1", "support"}}, "labels_without_positives":
    [names]}; the last two with uncertain as positive. Labels without positives pull the macro averages down.
    Raises ValueError unless both are (S, 14) with S >= 1.
    """
    scores: dict[str, Any] = {}
    for policy in POLICIES:
        counts = count_labels(predicted, true, policy)
        examples = {name: each.mean(axis=0)[None] for name, each in example_scores(counts).items()}
        averages = average_scores(counts.sum(axis=0)[None], examples)
        scores[policy] = {
            name: {average: _named(values[0]) for average, values in sets.items()} for name, sets in averages.items()
        }
    summed = count_labels(predicted, true, "uncertain_positive").sum(axis=0)  # (14, 3)
    support = summed[:, 0] + summed[:, 2]
    scores["per_label"] = {
        name: _named(values) | {"support": int(positives)}
        for name, values, positives in zip(OBSERVATIONS, precision_recall_f1(summed), support, strict=True)
    }
    scores["labels_without_positives"] = [
        name for name, positives in zip(OBSERVATIONS, support, strict=True) if positives == 0
    ]
    return scores


def _named(values: np.ndarray) -> dict[str, float]:
    """(3,) -> {"precision", "recall", "f1"}."""
    return dict(zip(MEASURES, values.tolist(), strict=True))
