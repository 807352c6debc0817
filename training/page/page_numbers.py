"""How the page finds the figures of an answer by their flat names, and how it writes them.

Flat names are those of `metrics/study_statistics.py`: "cider", "clinical_14.micro.f1", "label.Edema.f1",
"unit.effusion/left.f1", and besides "meteor", "distinct_reports", "copied_reports". An answer is what `evaluate`
returns of the model or under "beside"; whatever it lacks is None here, and the page leaves it out.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

MODEL = "The model"
ANSWERS = {
    "shuffled_images": "The model, images shuffled",
    "nearest_neighbour": "Nearest neighbour",
    "best_single_report": "Best single report",
    "most_frequent_report": "Commonest report",
}
FIGURES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "clinical_14.micro.f1": "F1 micro, 14",
    "clinical_14.macro.f1": "F1 macro, 14",
    "clinical_5.micro.f1": "F1 micro, 5",
    "clinical_5.macro.f1": "F1 macro, 5",
    "finding_f1.micro": "exam F1 micro",
    "finding_f1.macro": "exam F1 macro",
    "size_accuracy": "size right",
    "place_accuracy": "place right",
    "unreadable_share": "unreadable",
    "distinct_reports": "distinct",
    "copied_reports": "copied",
    "mean_words": "words",
}
PERCENTAGES = {"distinct_reports", "copied_reports", "unreadable_share", "size_accuracy", "place_accuracy"}


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


def look_up(tree: Any, *keys: str) -> Any:
    """tree[key][key]..., None where one is missing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def value_of(answer: dict[str, Any], figure: str) -> float | None:
    """The value of a figure by its flat name, None where the answer has none."""
    head, _, rest = figure.partition(".")
    name, _, measure = rest.rpartition(".")
    if clinical := re.fullmatch(r"clinical_(\d+)", head):
        return look_up(answer, "clinical", "uncertain_positive", clinical[1], name, measure)
    if head == "label":
        return look_up(answer, "clinical", "per_label", name, measure)
    if head == "unit":
        return look_up(answer, "finding_f1", "per_unit", name, measure)
    if head == "finding_f1":
        return look_up(answer, head, rest)
    if head in ("size_accuracy", "place_accuracy"):
        return look_up(answer, head, "accuracy")
    found = look_up(answer, "scores", figure)
    return look_up(answer, figure) if found is None else found


def interval_of(answer: dict[str, Any], figure: str) -> Interval | None:
    """The interval of a figure by its flat name, None where the answer has none."""
    ends = look_up(answer, "intervals", figure)
    return None if ends is None else Interval(*ends)


def answers_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The model and the reports beside it by their names, in the page's order; the best constant units are none."""
    beside = look_up(result, "beside") or {}
    listed = {name: beside[key] for key, name in ANSWERS.items() if beside.get(key)}
    return {MODEL: result} | {name: answer for name, answer in listed.items() if answer.get("scores")}


def show_score(value: float | None) -> str:
    """.512 as the field prints it, 1.48 from one up; a dash for what was not computed."""
    if value is None:
        return "–"  # an en dash is as wide as a digit
    return f"{value:.2f}" if round(value, 3) >= 1 else f"{value:.3f}".removeprefix("0")


def show_percent(share: float) -> str:
    """A share as whole per cents; a tenth more where the whole ones would say none or all."""
    rounded = round(100 * share)
    if rounded in (0, 100) and rounded != 100 * share:
        return f"{min(max(100 * share, 0.1), 99.9):.1f}\u00a0%"
    return f"{rounded}\u00a0%"


def show_figure(figure: str, value: float | None) -> str:
    """A value in the manner of its figure: a percentage, a number of words, a score."""
    if value is None:
        return "–"  # an en dash is as wide as a digit
    if figure in PERCENTAGES:
        return show_percent(value)
    return f"{value:.1f}" if figure == "mean_words" else show_score(value)


def show_interval(figure: str, interval: Interval | None) -> str:
    """A text such as ".260–.331"; empty for none, and for one without width, which says no more than the value."""
    return (
        ""
        if interval is None or interval.low == interval.high
        else "–".join(show_figure(figure, end) for end in interval)
    )
