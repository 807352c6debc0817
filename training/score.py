"""`radscribe evaluate`: a file of reports against a data set, beside answers that never looked at a film.

A score never stands alone. The same code scores the most frequent training report given to everyone, the ONE report
that is best on validation, and, where their files are given, the same model on shuffled films and the report of the
nearest training study. Word scores come in a named protocol (protocols.py), clinical ones from a named labeller, and
every figure but METEOR with its bootstrap interval over studies.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .metrics.clinical import clinical_scores, label_written
from .metrics.mesh_observations import is_coded
from .metrics.nlg import NlgScorer
from .metrics.phantom_exam import best_constant_exam, exam
from .metrics.resampling import bootstrap_intervals, paired_randomisation
from .metrics.rule_labeller import OBSERVATIONS, POSITIVE, UNCERTAIN, label_reports
from .metrics.study_statistics import (
    StudyStatistics,
    clinical_statistics,
    exam_statistics,
    figures,
    merge,
    study_figures,
    word_statistics,
)
from .page.page_studies import StudyRow
from .page.write_page import check_page, write_page
from .predictions import match_reports, read_predictions
from .protocols import Truth, choose_protocol, load_truth
from .readers.studies import is_phantom_set
from .readers.summary import NORMAL
from .sheet import check_sheet, draw_sheet
from .trivial import trivial_reports

MIN_RESAMPLES = 100  # the ends of an interval are the 2.5 % rarest of them
WORD_FIGURES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
PART_FIGURES = ("bleu_4", "rouge_l", "cider", "clinical_14.micro.f1")  # of normal and abnormal studies apart
REMOVED = re.compile(r"\bxxxx\b", re.IGNORECASE)  # IU X-ray's reports have it where names and dates were


@dataclass
class Judge:
    """What scores an answer: the truth with its labels, and the tools."""

    truth: Truth
    scorer: NlgScorer
    label: Callable[[list[str]], np.ndarray]
    resamples: int

    def __post_init__(self) -> None:
        self.labels = self.label([study["findings"] for study in self.truth.studies])  # (S, 14)
        self.units = [study["labels"] for study in self.truth.studies]
        self.is_phantom = is_phantom_set(study["study_id"] for study in self.truth.studies)
        self.parts, self.normal_by = self._find_parts()
        self.known = set(self.truth.normalise(self.truth.training))
        self.model: StudyStatistics | None = None  # of the first answer: those after it are paired with it

    def _find_parts(self) -> tuple[dict[str, np.ndarray], str]:
        """Which studies found nothing and which something, (S,) bool each; by their labels, else by their reports.

        A study that nobody coded is neither, where others are coded.
        """
        names = [[row["name"] for row in rows] for rows in self.units]
        if self.is_phantom or any(names):
            coded = np.array([self.is_phantom or is_coded(each) for each in names])
            normal = np.array([not each if self.is_phantom else bool(NORMAL & set(each)) for each in names])
            return {"normal": normal & coded, "abnormal": ~normal & coded}, "labels"
        normal = self.labels[:, OBSERVATIONS.index("No Finding")] == POSITIVE
        return {"normal": normal, "abnormal": ~normal}, "reports"

    def gather(self, texts: list[str], reports: list[str], labels: np.ndarray) -> StudyStatistics:
        """Per-study statistics of reports in the protocol's form and raw, and their labels (S, 14)."""
        words = word_statistics(texts, self.truth.references)
        findings = clinical_statistics(labels, self.labels)
        return merge(words, findings, *([exam_statistics(reports, self.units)] if self.is_phantom else []))

    def score(self, reports: list[str]) -> dict[str, Any]:
        """Everything said about one answer, a raw report a study: words, findings, how it repeats itself."""
        texts, labels = self.truth.normalise(reports), label_written(self.label, reports)
        statistics = self.gather(texts, reports, labels)
        meteor = self.scorer.meteor(texts, self.truth.references)
        answer: dict[str, Any] = {
            "scores": _word_scores(statistics) | ({} if meteor is None else {"meteor": meteor}),
            "clinical": clinical_scores(labels, self.labels),
            "prevalence": _prevalence(labels, self.labels),
            "intervals": self._intervals(statistics),
            "against_model": self._pair_with_model(statistics),
            "distinct_reports": len(set(texts)) / len(texts),
            "copied_reports": sum(text in self.known for text in texts) / len(texts) if self.known else None,
            "empty_reports": sum(not report.strip() for report in reports),
            "word_counts": _count_words(texts),
            "mean_words": float(np.mean(_count_words(texts))),
            "true_words": float(np.mean(_count_words(self.truth.references))),
            "without_xxxx": self._score_without_xxxx(reports),
        }
        for name, chosen in self.parts.items():
            answer[name] = self._score_part(statistics, chosen)
        return answer | (exam(reports, self.units) if self.is_phantom else {})

    def _intervals(self, statistics: StudyStatistics) -> dict[str, tuple[float, float]] | None:
        return bootstrap_intervals(statistics, self.resamples) if self.resamples else None

    def _pair_with_model(self, statistics: StudyStatistics) -> dict[str, float] | None:
        """p of each figure's difference to the model's, uncorrected; None for the model, or without resampling."""
        if self.model is None:
            self.model = statistics
            return None
        if not self.resamples:
            return None
        return {name: row["p"] for name, row in paired_randomisation(self.model, statistics, self.resamples).items()}

    def _score_part(self, statistics: StudyStatistics, chosen: np.ndarray) -> dict[str, Any]:
        """Figures of the chosen (S,) studies and their intervals; CIDEr's weights of words stay those of all."""
        if not chosen.any():
            return {"studies": 0}
        part = StudyStatistics({name: values[chosen] for name, values in statistics.summands.items()})
        values, intervals = figures(part), self._intervals(part)
        found: dict[str, Any] = {"studies": int(chosen.sum())}
        found |= {name: float(values[name][0]) for name in PART_FIGURES}
        return found | {"intervals": intervals and {name: intervals[name] for name in PART_FIGURES}}

    def _score_without_xxxx(self, reports: list[str]) -> dict[str, Any] | None:
        """Word scores but METEOR with that word struck out on both sides; None where no reference has it."""
        truths = [study["findings"] for study in self.truth.studies]
        if not any(REMOVED.search(truth) for truth in truths):
            return None
        # Before the protocol's form, in which the word may be `<unk>` or cut off.
        sides = ([REMOVED.sub("", text) for text in side] for side in (reports, truths))
        statistics = word_statistics(*map(self.truth.normalise, sides))
        intervals = self._intervals(statistics)
        return _word_scores(statistics) | {"intervals": intervals and {name: intervals[name] for name in WORD_FIGURES}}


def _word_scores(statistics: StudyStatistics) -> dict[str, float]:
    """BLEU-1..4, ROUGE-L and CIDEr of all studies."""
    values = figures(statistics)
    return {name: float(values[name][0]) for name in WORD_FIGURES}


def _count_words(texts: list[str]) -> list[int]:
    """Words of each report, full stops not counted."""
    return [sum(word != "." for word in text.split()) for text in texts]


def _prevalence(predicted: np.ndarray, true: np.ndarray) -> dict[str, dict[str, float]]:
    """Share of studies with each observation, uncertain ones included, in truth and answer: (S, 14) each."""
    shares = [np.isin(labels, (POSITIVE, UNCERTAIN)).mean(0).tolist() for labels in (true, predicted)]
    return {name: {"true": one, "predicted": other} for name, one, other in zip(OBSERVATIONS, *shares, strict=True)}


def choose_labeller(weights: Path | None, vocabulary: str) -> tuple[str, Callable[[list[str]], np.ndarray]]:
    """Name and function of the labeller: CheXbert where its weights are given, else the rules."""
    if weights is None:
        return "rule labeller", label_reports
    from .metrics.chexbert import CheXbertLabeller

    return "CheXbert", CheXbertLabeller(weights, vocabulary).label_reports


def evaluate(
    predictions: Path,
    references: Path,
    split: str = "test",
    protocol: str = "r2gen",
    *,
    control: Path | None = None,
    neighbours: Path | None = None,
    allow_missing: bool = False,
    resamples: int = 1000,
    chexbert: Path | None = None,
    chexbert_vocabulary: str = "bert-base-uncased",
    sheet: Path | None = None,
    html: Path | None = None,
    samples: int = 3,
    max_words: int | None = None,
    min_frequency: int | None = None,
    style: str | None = None,
) -> dict[str, Any]:
    """Score the predictions file against one split of a prepared data set.

    Args:
        protocol: r2gen, full or coco (protocols.py); `max_words`, `min_frequency` and `style` replace the values that
            `prepare` stored with the data set.
        control, neighbours: predictions of the same model on shuffled films, and of the nearest training studies.
        allow_missing: studies without a prediction count as empty reports instead of ending the call.
        resamples: of the bootstrap, and rounds of the paired randomisation of each answer beside the model against
            it; 0 for neither.
        chexbert, chexbert_vocabulary: its checkpoint, and folder, file or Hub name of its words; else the rules label.
        sheet, html: a PNG of the samples, and the whole evaluation as one page, to be written.

    Returns {"protocol", "predictions", "split", "studies", "without_findings", "labeller", "normal_by", the model's
    answer (`Judge.score`), "beside": {name: answer}, "samples": [...]}.
    Raises ValueError or an OSError with one line for bad input.
    """
    _check_orders(resamples, sheet, samples, html)
    form = choose_protocol(references, protocol, max_words=max_words, min_frequency=min_frequency, style=style)
    files = {"model": predictions, "shuffled_images": control, "nearest_neighbour": neighbours}
    read = {name: read_predictions(path) for name, path in files.items() if path is not None}
    truth = load_truth(Path(references), split, form)
    _say_what_is_missing(control, neighbours, truth)
    answers = {
        name: match_reports(reports, truth, Path(str(files[name])), split, allow_missing)
        for name, reports in read.items()
    }
    labeller, label = choose_labeller(chexbert, chexbert_vocabulary)
    with NlgScorer() as scorer:
        judge = Judge(truth, scorer, label, resamples)
        result: dict[str, Any] = {"protocol": form.describe(), "predictions": os.fspath(predictions), "split": split}
        result |= {"studies": len(truth.studies), "without_findings": len(truth.unscored)}
        result |= {"labeller": labeller, "normal_by": judge.normal_by} | judge.score(answers["model"])
        result["beside"] = _score_beside(judge, answers)
    result["samples"] = pick_samples(truth.studies, answers["model"], samples)
    if sheet is not None:
        result["sheet"] = os.fspath(draw_sheet(result["samples"], sheet))
    if html is not None:
        result["html"] = os.fspath(write_page(result, study_rows(judge, answers["model"]), html))
    return result


def _check_orders(resamples: int, sheet: Path | None, samples: int, html: Path | None) -> None:
    """Raise for what cannot be done, before the long work."""
    if 0 < resamples < MIN_RESAMPLES:
        raise ValueError(f"`resamples` must be 0, for no intervals, or at least {MIN_RESAMPLES}. Got {resamples}.")
    if sheet is not None:
        check_sheet(sheet, samples)
    if html is not None:
        check_page(html)


def _say_what_is_missing(control: Path | None, neighbours: Path | None, truth: Truth) -> None:
    """What would put the model into proportion and is not there, on stderr."""
    for file, option, tells in (
        (control, "shuffle-images 1", "whether the model uses the image (--control)"),
        (neighbours, "nearest-neighbour", "whether it writes better than a look-up (--neighbours)"),
    ):
        if file is None:
            print(
                f"Note: nothing here tells {tells}; `radscribe generate --{option}` makes the file.", file=sys.stderr
            )
    if not truth.training:
        print("Note: there is no training split: no trivial answers, and no word becomes <unk>.", file=sys.stderr)


def _score_beside(judge: Judge, answers: dict[str, list[str]]) -> dict[str, Any]:
    """The answers that put the model's into proportion."""
    beside: dict[str, Any] = {name: judge.score(reports) for name, reports in answers.items() if name != "model"}
    for name, report in trivial_reports(judge.truth).items():
        beside[name] = {"report": report} | judge.score([report] * len(judge.truth.studies))
    if "best_single_report" in beside:
        beside["best_single_report"]["chosen_on"] = "val" if judge.truth.validation else "the scored studies"
    if judge.is_phantom:
        beside["best_constant"] = best_constant_exam(judge.units)
    return beside


def study_rows(judge: Judge, reports: list[str]) -> list[StudyRow]:
    """One row a study for the page; `reports` are the model's, which the judge has scored."""
    assert judge.model is not None
    labels = label_written(judge.label, reports)
    each = study_figures(judge.model)
    return [
        StudyRow(
            study_id=study["study_id"],
            images=list(study["images"]),
            reference=study["findings"],
            report=report,
            cider=float(each["cider"][i]),
            clinical_f1=float(each["clinical_14.micro.f1"][i]),
            true=judge.labels[i],
            predicted=labels[i],
        )
        for i, (study, report) in enumerate(zip(judge.truth.studies, reports, strict=True))
    ]


def pick_samples(studies: list[dict[str, Any]], reports: list[str], count: int) -> list[dict[str, Any]]:
    """`count` studies spread evenly over the split, not chosen by how well they went."""
    if count < 1:
        return []
    chosen = np.unique(np.linspace(0, len(studies) - 1, count).round().astype(int))
    return [
        {
            "id": studies[i]["study_id"],
            "report": reports[i],
            "truth": studies[i]["findings"],
            "images": list(studies[i]["images"]),
        }
        for i in map(int, chosen)
    ]
