"""What each study adds to the figures of an answer, so that every figure can be had for any weighting of the studies.

Shapes: S studies, R weightings, L labels, U phantom units. An answer is one report a study.
BLEU, F1 and the like are functions of sums over studies, ROUGE-L, CIDEr and the example averages are means over them.
So the sums of R weightings are one product (R, S) @ (S, columns), and a bootstrap of all figures costs no more:
weights of one are the plain score, a resample's counts the bootstrap, zeros and ones a subset (normal studies).

CIDEr's document frequencies stay those of the whole evaluated reference set under every weighting: a study's CIDEr is
a fixed number. Recounted in each resample, repeated reports would lower the weight of their own words.
METEOR is not here: see `resampling.METEOR_NOTE`.

Figures have flat names:
    bleu_1 ... bleu_4, rouge_l, cider, mean_words (full stops not counted)
    clinical_14.micro.f1: label set 14 or 5, average micro, macro or example, precision, recall or f1; uncertain counts
        as positive; clinical_14_uncertain_negative.micro.f1 is the other policy
    label.Edema.f1: one label, uncertain as positive
    finding_f1.micro, finding_f1.macro, unit.effusion/left.f1, size_accuracy, place_accuracy, unreadable_share: the
        phantom exam's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..readers.phantom_grammar import UNITS
from .clinical import MEASURES, OBSERVATIONS, POLICIES, average_scores, count_labels, example_scores
from .clinical import precision_recall_f1 as score_counts
from .nlg import BLEU_SMALL, BLEU_TINY, report_components
from .phantom_exam import examine

Totals = dict[str, np.ndarray]  # the sums of R weightings, each (R, ...)
_PREFIXES = {"uncertain_positive": "clinical_{}", "uncertain_negative": "clinical_{}_uncertain_negative"}


@dataclass(frozen=True)
class StudyStatistics:
    """The summands of an answer: {name: (S, ...)}; the functions below say which there are."""

    summands: dict[str, np.ndarray]

    @property
    def studies(self) -> int:
        """How many studies there are."""
        return len(next(iter(self.summands.values())))

    def weigh(self, weights: np.ndarray) -> Totals:
        """Weighted sums over the studies: (R, S) -> {name: (R, ...)}."""
        if weights.ndim != 2 or weights.shape[1] != self.studies:
            raise ValueError(f"`weights` must be (R, {self.studies}). Got shape {weights.shape}.")
        weights = weights.astype(float, copy=False)  # a product of integers does without BLAS
        return {name: np.tensordot(weights, values, axes=1) for name, values in self.summands.items()}


def merge(*parts: StudyStatistics) -> StudyStatistics:
    """The statistics of one answer from several sides. Raises ValueError unless all are of as many studies."""
    if len({part.studies for part in parts}) != 1:
        raise ValueError(f"Statistics of one answer must be of the same studies. Got {[p.studies for p in parts]}.")
    return StudyStatistics({name: values for part in parts for name, values in part.summands.items()})


def word_statistics(predictions: list[str], references: list[str]) -> StudyStatistics:
    """Of BLEU, ROUGE-L and CIDEr; both lists in the protocol's form. Raises ValueError as `report_components`."""
    components = report_components(predictions, references)
    words = np.array([sum(word != "." for word in text.split()) for text in predictions], dtype=float)
    return StudyStatistics(components | {"words": words, "studies": np.ones(len(words))})


def clinical_statistics(predicted: np.ndarray, true: np.ndarray) -> StudyStatistics:
    """Of the clinical scores: codes (S, 14) twice. Raises ValueError as `count_labels`."""
    summands = {"studies": np.ones(len(true))}
    for policy in POLICIES:
        counts = count_labels(predicted, true, policy)
        summands[policy] = counts  # (S, 14, 3)
        summands |= {f"{policy}.example_{name}": each for name, each in example_scores(counts).items()}  # (S, 3)
    return StudyStatistics(summands)


def exam_statistics(reports: Sequence[str], labels: Sequence[Sequence[dict]]) -> StudyStatistics:
    """Of the phantom exam: a raw report a study, and the studies' label rows."""
    exams = [examine(report, rows) for report, rows in zip(reports, labels, strict=True)]
    units = [[[unit in found for found in one.units] for unit in UNITS] for one in exams]
    marks = {name: [(sum(one.marks[name]), len(one.marks[name])) for one in exams] for name in ("size", "place")}
    return StudyStatistics(
        {
            "units": np.array(units, dtype=float),  # (S, U, 3) hits, false alarms, misses
            "unreadable": np.array([one.unreadable for one in exams], dtype=float),
            "sentences": np.array([one.sentences for one in exams], dtype=float),
        }
        | {name: np.array(pairs, dtype=float) for name, pairs in marks.items()}  # (S, 2) right, of so many
    )


def figures(statistics: StudyStatistics, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Every figure for every weighting of the studies: weights (R, S) -> {figure: (R,)}; None is one row of ones."""
    return figures_of_totals(statistics.weigh(np.ones((1, statistics.studies)) if weights is None else weights))


def study_figures(statistics: StudyStatistics) -> dict[str, np.ndarray]:
    """Every figure of each study alone: {figure: (S,)}; the sums over one study are its summands."""
    return figures_of_totals(statistics.summands)


def figures_of_totals(totals: Totals) -> dict[str, np.ndarray]:
    """Every figure that the sums allow: {name: (R, ...)} -> {figure: (R,)}."""
    found: dict[str, np.ndarray] = {}
    if "cider" in totals:
        found |= _word_figures(totals)
    if POLICIES[0] in totals:
        found |= _clinical_figures(totals)
    if "units" in totals:
        found |= _exam_figures(totals)
    return found


def _share(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, 0 where nothing is to divide."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _word_figures(totals: Totals) -> dict[str, np.ndarray]:
    """pycocoevalcap's corpus BLEU, its two small constants included, and the means over reports."""
    precision = (totals["bleu_correct"] + BLEU_TINY) / (totals["bleu_guess"] + BLEU_SMALL)  # (R, 4)
    bleu = precision.cumprod(axis=1) ** (1 / np.arange(1, 5))
    ratio = (totals["test_length"] + BLEU_TINY) / (totals["reference_length"] + BLEU_SMALL)
    bleu *= np.exp(np.minimum(0, 1 - 1 / ratio))[:, None]
    found = {f"bleu_{n}": bleu[:, n - 1] for n in range(1, 5)}
    found |= {name: _share(totals[name], totals["studies"]) for name in ("rouge_l", "cider")}
    return found | {"mean_words": _share(totals["words"], totals["studies"])}


def _clinical_figures(totals: Totals) -> dict[str, np.ndarray]:
    """All averages under both policies, and each label with uncertain as positive."""
    found: dict[str, np.ndarray] = {}
    for policy, prefix in _PREFIXES.items():
        key = f"{policy}.example_"
        examples = {
            name.removeprefix(key): _share(values, np.broadcast_to(totals["studies"][:, None], values.shape))
            for name, values in totals.items()
            if name.startswith(key)
        }
        for labels, averages in average_scores(totals[policy], examples).items():
            for average, values in averages.items():
                found |= _named(f"{prefix.format(labels)}.{average}", values)
    each = score_counts(totals[POLICIES[0]])  # (R, 14, 3)
    for position, name in enumerate(OBSERVATIONS):
        found |= _named(f"label.{name}", each[:, position])
    return found


def _exam_figures(totals: Totals) -> dict[str, np.ndarray]:
    """The phantom exam's figures as `phantom_exam.exam` defines them."""
    units = totals["units"]  # (R, U, 3)
    summed = units.sum(axis=1)
    summed[:, 1] += totals["unreadable"]
    each = score_counts(units)
    seen = units.sum(axis=2) > 0
    found = {
        "finding_f1.micro": score_counts(summed)[:, 2],
        "finding_f1.macro": _share((each[..., 2] * seen).sum(axis=1), seen.sum(axis=1).astype(float)),
        "unreadable_share": _share(totals["unreadable"], totals["sentences"]),
    }
    found |= {f"{name}_accuracy": _share(totals[name][:, 0], totals[name][:, 1]) for name in ("size", "place")}
    for position, unit in enumerate(UNITS):
        found |= _named(f"unit.{unit}", each[:, position])
    return found


def _named(prefix: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """(R, 3) -> {"<prefix>.precision" | recall | f1: (R,)}."""
    return {f"{prefix}.{measure}": values[:, column] for column, measure in enumerate(MEASURES)}
