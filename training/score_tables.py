"""What `radscribe evaluate` prints: one row an answer, the phantom exam unit by unit, samples beside the truth."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Headings as narrow as that the table stands in 80 columns.
_COLUMNS = {"bleu_1": "BLEU", "bleu_2": "2", "bleu_3": "3", "bleu_4": "4"}
_COLUMNS |= {"meteor": "METEOR", "rouge_l": "ROUGE", "cider": "CIDEr"}
_ANSWERS = {
    "shuffled_images": "images shuffled",
    "most_frequent_report": "commonest report",
    "best_single_report": "best single report",
    "best_constant": "best constant units",
}


def _share(value: float | None) -> str:
    """.512 as the field prints it, 1.48 from one up; a dash for what was not computed."""
    if value is None:
        return "-"
    return f"{value:.2f}" if round(value, 3) >= 1 else f"{value:.3f}".removeprefix("0")


def _plain_table(headings: list[str]) -> Table:
    """A table without frames, the first column at the left, numbers at the right."""
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    return table


def _answer_row(name: str, answer: dict[str, Any], with_exam: bool) -> list[str]:
    """One row of the table of answers."""
    scores = answer.get("scores", {})
    row = [name, *(_share(scores.get(key)) for key in _COLUMNS)]
    row.append(f"{100 * answer['distinct_reports']:.0f} %" if "distinct_reports" in answer else "-")
    row.append(f"{answer['mean_words']:.0f}" if "mean_words" in answer else "-")
    return row + [_share(answer.get("finding_f1", {}).get("micro"))] if with_exam else row


def _answers_table(result: dict[str, Any]) -> Table:
    """The model and the answers beside it, one row each."""
    with_exam = "finding_f1" in result
    table = _plain_table(["answer", *_COLUMNS.values(), "distinct", "words", *(["F1"] if with_exam else [])])
    table.add_row(*_answer_row("the model", result, with_exam), style="bold")
    for key, answer in result["beside"].items():
        table.add_row(*_answer_row(_ANSWERS[key], answer, with_exam))
    return table


def _units_table(per_unit: dict[str, dict[str, float]]) -> Table:
    """The phantom exam unit by unit."""
    table = _plain_table(["unit", "precision", "recall", "F1", "studies"])
    for unit, row in per_unit.items():
        table.add_row(unit, *(_share(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:.0f}")
    return table


def _heading(result: dict[str, Any]) -> str:
    """What was scored and how, in one line."""
    protocol = dict(result["protocol"])
    details = ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "name")
    how = f"{protocol['name']} ({details})" if details else protocol["name"]
    return f"{result['predictions']}: split {result['split']}, {result['studies']} studies, protocol {how}"


def _show_exam(result: dict[str, Any], console: Console) -> None:
    """The exam's figures, and what they do not say."""
    f1, size, place = result["finding_f1"], result["size_accuracy"], result["place_accuracy"]
    console.print(
        f"\nPhantom exam: finding F1 micro {f1['micro']:.3f}, macro {f1['macro']:.3f}. Of the found units the size is "
        f"right in {size['accuracy']:.3f} ({size['count']:.0f}), the place in {place['accuracy']:.3f} "
        f"({place['count']:.0f}). Unreadable sentences: {result['unreadable_share']:.3f}.\n"
        "It shows that the pipeline uses the image, not that it reads real films.\n",
        highlight=False,
    )
    console.print(_units_table(f1["per_unit"]))


def show_result(result: dict[str, Any], console: Console) -> None:
    """Print what `evaluate` returned: the answers, the exam, the samples beside the truth."""
    console.print(escape(_heading(result)) + "\n", highlight=False)
    console.print(_answers_table(result))
    if "finding_f1" in result:
        _show_exam(result, console)
    for sample in result["samples"]:
        console.print(f"\n[bold]{escape(sample['id'])}[/bold]")
        console.print(f"  report: {escape(sample['report'])}", highlight=False)
        console.print(f"  truth:  {escape(sample['truth'])}", highlight=False)
    if "sheet" in result:
        console.print(f"\nPicture of these studies: {escape(result['sheet'])}", highlight=False)
