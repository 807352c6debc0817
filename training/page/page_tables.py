"""The tables of the page as rows of text: what `evaluate` returned, told figure by figure.

A table without rows or columns is not shown; a column that no answer has a value for is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .page_numbers import (
    FIGURES,
    MODEL,
    answers_of,
    interval_of,
    look_up,
    show_figure,
    show_interval,
    show_percent,
    show_score,
    value_of,
)

WORDS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
FINDINGS = ("clinical_14.micro.f1", "clinical_14.macro.f1", "clinical_5.micro.f1", "clinical_5.macro.f1")
HABITS = ("distinct_reports", "copied_reports", "mean_words")
EXAM = ("finding_f1.micro", "finding_f1.macro", "size_accuracy", "place_accuracy", "unreadable_share")
PART = ("bleu_4", "rouge_l", "cider")
POLICIES = {"uncertain_positive": "uncertain as positive", "uncertain_negative": "uncertain as negative"}
AVERAGES = ("micro", "macro", "example")


@dataclass
class Row:
    """A heading and its cells, each (text, small print); `strong` is the model's."""

    name: str
    cells: list[tuple[str, str]]
    strong: bool = False


@dataclass
class Table:
    """Rows below headings; `groups` are headings above them, (text, columns it spans)."""

    title: str
    corner: str
    columns: list[str]
    rows: list[Row]
    note: str = ""
    groups: list[tuple[str, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows and self.columns)


def plain_row(name: str, *texts: str, strong: bool = False) -> Row:
    """A row without small print."""
    return Row(name, [(text, "") for text in texts], strong)


def figures_table(title: str, answers: dict[str, dict[str, Any]], figures: Sequence[str], note: str = "") -> Table:
    """One row an answer, one column a figure that at least one of them has, intervals as small print."""
    shown = [name for name in figures if any(value_of(answer, name) is not None for answer in answers.values())]
    rows = [
        Row(
            name,
            [(show_figure(f, value_of(answer, f)), show_interval(f, interval_of(answer, f))) for f in shown],
            strong=name == MODEL,
        )
        for name, answer in answers.items()
    ]
    return Table(title, "Answer", [FIGURES[name] for name in shown], rows, note)


def answer_tables(result: dict[str, Any]) -> list[Table]:
    """Word scores, and what the reports say: the model and the answers beside it."""
    answers = answers_of(result)
    labeller = result.get("labeller") or "labeller"
    clinical = f"Clinical F1 by the {labeller}, uncertain counted as positive."
    if without := look_up(result, "clinical", "labels_without_positives"):
        clinical += f" {len(without)} of 14 labels never occur in these references and count 0 in macro."
    copied = " Distinct: share of different texts. Copied: share that stands word for word in the training split."
    resampled = "Small print: 95\u00a0% bootstrap interval over studies." if result.get("intervals") else ""
    unsaid = " METEOR has none." if resampled and value_of(result, "meteor") is not None else ""
    return [
        figures_table("Words: how like the references", answers, WORDS, resampled + unsaid),
        figures_table(
            "Findings, and how the reports repeat themselves", answers, FINDINGS + HABITS, clinical + copied
        ),
    ]


def parts_table(result: dict[str, Any]) -> Table:
    """Normal and abnormal studies apart; empty unless there are both."""
    counts = {part: look_up(result, part, "studies") for part in ("normal", "abnormal")}
    if not all(counts.values()):
        return Table("", "", [], [])
    by = f"Normal: as the {result['normal_by']} of the study say." if result.get("normal_by") else ""
    groups = {part: f"{count} {part} studies" for part, count in counts.items()}
    return _grouped_table("Normal and abnormal studies apart", result, groups, (*PART, FINDINGS[0]), by)


def removed_table(result: dict[str, Any]) -> Table:
    """Word scores with and without the word that stands where names and dates were; empty where none does."""
    if not result.get("without_xxxx"):
        return Table("", "", [], [])
    note = "IU X-ray has “xxxx” where names and dates were removed; a model that writes it gains from it."
    groups = {"scores": "as scored", "without_xxxx": "without xxxx"}
    return _grouped_table("With and without xxxx", result, groups, PART, note)


def _grouped_table(
    title: str, result: dict[str, Any], groups: dict[str, str], figures: Sequence[str], note: str
) -> Table:
    """One row an answer, the same figures below each group {key of the answer: heading}."""
    shown = [name for name in figures if all(look_up(result, key, name) is not None for key in groups)]
    rows = []
    for name, answer in answers_of(result).items():
        values = [show_score(look_up(answer, key, figure)) for key in groups for figure in shown]
        rows.append(plain_row(name, *values, strong=name == MODEL))
    headings = [FIGURES[name] for name in shown] * len(groups)
    return Table(title, "Answer", headings, rows, note, [(text, len(shown)) for text in groups.values()])


def labels_table(result: dict[str, Any]) -> Table:
    """The observations one by one, with their shares of studies in truth and reports."""
    per_label = look_up(result, "clinical", "per_label") or {}
    shares = result.get("prevalence") or {}
    rows = [
        Row(name, _measures(result, f"label.{name}") + [(f"{scores['support']:.0f}", "")] + _shares(shares.get(name)))
        for name, scores in per_label.items()
    ]
    columns = ["precision", "recall", "F1", "studies", "share in truth", "share in reports"]
    return Table("Each observation in numbers", "Observation", columns, rows, "Uncertain counted as positive.")


def _measures(answer: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    """Precision, recall and F1 of a label or unit with their intervals."""
    names = [f"{prefix}.{measure}" for measure in ("precision", "recall", "f1")]
    return [(show_score(value_of(answer, f)), show_interval(f, interval_of(answer, f))) for f in names]


def _shares(share: dict[str, float] | None) -> list[tuple[str, str]]:
    return [(show_percent(share[side]) if share else "–", "") for side in ("true", "predicted")]


def conventions_table(result: dict[str, Any]) -> Table:
    """All the figures that papers print as clinical F1, of the model."""
    clinical = result.get("clinical") or {}
    rows = []
    for policy, named in POLICIES.items():
        for labels, averages in (clinical.get(policy) or {}).items():
            for average in (name for name in AVERAGES if averages.get(name)):
                values = (averages[average].get(measure) for measure in ("precision", "recall", "f1"))
                rows.append(plain_row(f"{labels} labels, {average}, {named}", *map(show_score, values)))
    note = "Papers print each of these as “clinical F1”. Example, 5 labels: a study without any counts 0."
    return Table("Clinical scores of the model in every convention", "Convention", ["P", "R", "F1"], rows, note)


def exam_tables(result: dict[str, Any]) -> list[Table]:
    """The phantom exam's figures and units; none on real studies."""
    per_unit = look_up(result, "finding_f1", "per_unit")
    if not per_unit:
        return []
    answers = answers_of(result)
    if constant := look_up(result, "beside", "best_constant"):
        answers |= {"Best constant units": constant}
    note = "The exam shows that the pipeline uses the image, not that it reads real films."
    rows = [
        Row(unit, _measures(result, f"unit.{unit}") + [(f"{s['support']:.0f}", "")]) for unit, s in per_unit.items()
    ]
    return [
        figures_table("Phantom exam", answers, EXAM, note),
        Table("Each unit of the exam in numbers", "Unit", ["precision", "recall", "F1", "studies"], rows),
    ]
