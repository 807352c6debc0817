"""What `radscribe evaluate` prints: one row an answer, the findings one by one, samples beside the truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .page.page_numbers import show_percent, show_score

# Headings as narrow as that the table stands in 80 columns.
_COLUMNS = {"bleu_1": "BLEU", "bleu_2": "2", "bleu_3": "3", "bleu_4": "4"}
_COLUMNS |= {"meteor": "METEOR", "rouge_l": "ROUGE", "cider": "CIDEr"}
_ANSWERS = {
    "shuffled_images": "shuffled images",
    "nearest_neighbour": "nearest neighbour",
    "most_frequent_report": "commonest report",
    "best_single_report": "best single report",
    "best_constant": "best constant",
}


def plain_table(headings: list[str]) -> Table:
    """A table without frames, the first column at the left, numbers at the right."""
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    return table


def _word_row(name: str, answer: dict[str, Any]) -> list[str]:
    """One row of the word scores."""
    return [name, *(show_score(answer["scores"].get(key)) for key in _COLUMNS)]


def _words_table(result: dict[str, Any]) -> Table:
    """Word scores of the model, with the ends of their intervals, and of the answers beside it."""
    table = plain_table(["words", *_COLUMNS.values()])
    table.add_row(*_word_row("the model", result), style="bold")
    if intervals := result["intervals"]:
        for end, title in enumerate(_ENDS):
            table.add_row(title, *(show_score(intervals[key][end] if key in intervals else None) for key in _COLUMNS))
    for key, answer in _beside(result):
        table.add_row(*_word_row(_ANSWERS[key], answer))
    if without := result["without_xxxx"]:
        table.add_row(*_word_row("without `xxxx`", {"scores": without}))
    return table


def _beside(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answers that are reports (the best constant units are none)."""
    return ((key, answer) for key, answer in result["beside"].items() if "scores" in answer)


_ENDS = ("95 % from", "     to")
_PARTS = ("normal", "abnormal")
_FINDINGS = {"F1": ("14", "micro"), "macro": ("14", "macro"), "five": ("5", "micro")}


def _finding_row(name: str, answer: dict[str, Any], with_exam: bool) -> list[str]:
    """One row on what the reports say and how they repeat themselves."""
    averages = answer["clinical"]["uncertain_positive"]
    row = [name, *(show_score(averages[labels][average]["f1"]) for labels, average in _FINDINGS.values())]
    row += [show_score(answer[part].get("cider")) for part in _PARTS]
    row += [_percent(answer["distinct_reports"]), _percent(answer["copied_reports"]), f"{answer['mean_words']:.0f}"]
    return row + ([show_score(answer["finding_f1"]["micro"])] if with_exam else [])


def _finding_ends(result: dict[str, Any], end: int, with_exam: bool) -> list[str]:
    """The low (0) or high (1) ends of the intervals in the table of findings."""
    intervals = result["intervals"]
    ends = [intervals[f"clinical_{labels}.{average}.f1"][end] for labels, average in _FINDINGS.values()]
    ends += [(result[part].get("intervals") or {}).get("cider", (None, None))[end] for part in _PARTS]
    exam = [show_score(intervals["finding_f1.micro"][end])] if with_exam else []
    return [*map(show_score, ends), "", "", "", *exam]


def _percent(share: float | None) -> str:
    return "–" if share is None else show_percent(share)


def _findings_table(result: dict[str, Any]) -> Table:
    """Clinical scores of all answers, normal and abnormal studies apart, how far reports repeat themselves."""
    with_exam = "finding_f1" in result
    parts = [f"CIDEr of {result[part]['studies']} {part}" for part in _PARTS]
    headings = ["findings", *_FINDINGS, *parts, "distinct", "copied", "words", *(["exam"] if with_exam else [])]
    table = plain_table(headings)
    for column in table.columns[1:]:
        column.no_wrap = False  # two headings name numbers of studies
    table.add_row(*_finding_row("the model", result, with_exam), style="bold")
    if result["intervals"]:
        for end, title in enumerate(_ENDS):
            table.add_row(title, *_finding_ends(result, end, with_exam))
    for key, answer in _beside(result):
        table.add_row(*_finding_row(_ANSWERS[key], answer, with_exam))
    if with_exam:
        constant = show_score(result["beside"]["best_constant"]["finding_f1"]["micro"])
        table.add_row(_ANSWERS["best_constant"], *["–"] * (len(headings) - 2), constant)
    return table


def _units_table(per_unit: dict[str, dict[str, float]], heading: str) -> Table:
    """Precision, recall and F1 of each unit or finding."""
    table = plain_table([heading, "precision", "recall", "F1", "studies"])
    for unit, row in per_unit.items():
        table.add_row(unit, *(show_score(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:.0f}")
    return table


def show_protocol(protocol: dict[str, Any]) -> str:
    """The name with the values it depends on in brackets."""
    details = ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "name")
    return f"{protocol['name']} ({details})" if details else protocol["name"]


def _heading(result: dict[str, Any]) -> str:
    """What was scored and how, in one line."""
    how = show_protocol(result["protocol"])
    unscored = f" ({result['without_findings']} more have no findings)" if result["without_findings"] else ""
    return f"{result['predictions']}: split {result['split']}, {result['studies']} studies{unscored}, protocol {how}"


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
    console.print(_units_table(f1["per_unit"], "unit"))


def _show_clinical(result: dict[str, Any], console: Console) -> None:
    """Each of the 14 observations, by which labeller and convention."""
    absent = result["clinical"]["labels_without_positives"]
    never = f"; {', '.join(absent)} never occur in the truth and count 0 in macro" if absent else ""
    console.print(
        f"\nF1: micro over 14 observations, macro, and micro over five, by the {result['labeller']}, uncertain as "
        f"positive{never}. Normal: as the studies' "
        f"{result['normal_by']} say.\n",
        highlight=False,
    )
    console.print(_units_table(result["clinical"]["per_label"], "observation"))


def show_result(result: dict[str, Any], console: Console) -> None:
    """Print what `evaluate` returned: the answers, the exam, the samples beside the truth."""
    console.print(escape(_heading(result)) + "\n", highlight=False)
    console.print(_words_table(result))
    console.print()
    console.print(_findings_table(result))
    if chosen := result["beside"].get("best_single_report", {}).get("chosen_on"):
        console.print(f"\nThe best single report was chosen by BLEU-4 on {chosen}.", highlight=False)
    if "finding_f1" in result:
        _show_exam(result, console)
    else:
        _show_clinical(result, console)
    for sample in result["samples"]:
        console.print(f"\n[bold]{escape(sample['id'])}[/bold]")
        console.print(f"  report: {escape(sample['report'])}", highlight=False)
        console.print(f"  truth:  {escape(sample['truth'])}", highlight=False)
    for key, title in (("sheet", "Picture of these studies"), ("html", "The whole evaluation as a page")):
        if key in result:
            console.print(f"\n{title}: {escape(result[key])}", highlight=False)
