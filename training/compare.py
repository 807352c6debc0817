"""`radscribe compare A.jsonl B.jsonl`: is B better than A on these studies, or could it be chance?

Every figure but METEOR for both, as `radscribe evaluate` computes them, their difference with a p-value of paired
approximate randomisation (`metrics/resampling.py`), and the studies on which the two differ most.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .metrics.clinical import label_written
from .metrics.nlg import NlgScorer
from .metrics.resampling import METEOR_NOTE, paired_randomisation
from .metrics.study_statistics import StudyStatistics, study_figures
from .page.page_numbers import show_score
from .predictions import match_reports, read_predictions
from .protocols import choose_protocol, load_truth
from .score import Judge, choose_labeller
from .score_tables import plain_table, show_protocol

ROUNDS = 10_000
_PER_STUDY = {"cider": "CIDEr", "clinical_14.micro.f1": "clinical F1", "finding_f1.micro": "finding F1 (exam)"}


def compare(
    a: Path,
    b: Path,
    references: Path,
    split: str = "test",
    protocol: str = "r2gen",
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    allow_missing: bool = False,
    chexbert: Path | None = None,
    chexbert_vocabulary: str = "bert-base-uncased",
    max_words: int | None = None,
    min_frequency: int | None = None,
    style: str | None = None,
) -> dict[str, Any]:
    """Hold two predictions files against one split of a prepared data set and against each other.

    Args:
        rounds, seed: of the randomisation.
        others: as in `score.evaluate`.

    Returns {"a", "b" (the paths), "protocol", "labeller", "split", "studies", "rounds", "seed", "figures": {name:
    {"a", "b", "difference" (b - a), "p"}}, "per_study": [{"id", figure: {"a", "b", "difference"}}], "notes": [lines]}.
    Raises ValueError or an OSError with one line for bad input.
    """
    form = choose_protocol(references, protocol, max_words=max_words, min_frequency=min_frequency, style=style)
    read = [(path, read_predictions(path)) for path in (a, b)]
    truth = load_truth(Path(references), split, form)
    answers = [match_reports(reports, truth, path, split, allow_missing) for path, reports in read]
    labeller, label = choose_labeller(chexbert, chexbert_vocabulary)
    judge = Judge(truth, NlgScorer(meteor=False), label, resamples=0)
    one, other = (
        judge.gather(truth.normalise(reports), reports, label_written(label, reports)) for reports in answers
    )
    result: dict[str, Any] = {"a": os.fspath(a), "b": os.fspath(b), "protocol": form.describe(), "labeller": labeller}
    result |= {"split": split, "studies": one.studies, "rounds": rounds, "seed": seed}
    result["figures"] = paired_randomisation(one, other, rounds, seed)
    result["per_study"] = _per_study([study["study_id"] for study in truth.studies], one, other)
    told = [row for row in result["figures"].values() if row["a"] or row["b"]]
    result["notes"] = _notes(len(told), rounds)
    return result


def _per_study(ids: list[str], a: StudyStatistics, b: StudyStatistics) -> list[dict[str, Any]]:
    """CIDEr and clinical or finding F1 of every study, in the split's order."""
    ours, theirs = study_figures(a), study_figures(b)
    names = [name for name in _PER_STUDY if name in ours]
    return [
        {"id": study}
        | {
            name: {
                "a": float(ours[name][i]),
                "b": float(theirs[name][i]),
                "difference": float(theirs[name][i] - ours[name][i]),
            }
            for name in names
        }
        for i, study in enumerate(ids)
    ]


def _notes(number: int, rounds: int) -> list[str]:
    """What must be known to read the table."""
    return [
        f"p: paired approximate randomisation over studies, two-sided, {rounds} rounds, not corrected for the "
        f"number of figures: of the {number} that are not 0 for both about {round(number / 20)} fall below .05 by "
        "chance where A and B are alike.",
        "It speaks of these two files; another training of the same model is another file.",
        METEOR_NOTE,
    ]


def show(result: dict[str, Any], console: Console, studies: int = 5) -> None:
    """Print what `compare` returned: the figures, the notes, the `studies` that differ most, either way."""
    how = show_protocol(result["protocol"])
    console.print(f"A: {escape(result['a'])}\nB: {escape(result['b'])}", highlight=False)
    console.print(
        f"Split {escape(result['split'])}, {result['studies']} studies, protocol {how}, {result['labeller']}\n",
        highlight=False,
    )
    console.print(_figures_table(result["figures"]))
    for note in result["notes"]:
        console.print(note, highlight=False)
    for name, heading in _PER_STUDY.items():
        rows = [{"id": row["id"]} | row[name] for row in result["per_study"] if name in row]
        if differing := sorted((row for row in rows if row["difference"]), key=lambda row: -abs(row["difference"])):
            heading = f"Largest differences in {heading} ({len(differing)} of {len(rows)} studies differ)"
            console.print(f"\n{heading}", highlight=False)
            console.print(_studies_table(differing[:studies]))


def _figures_table(figures: dict[str, dict[str, float]]) -> Table:
    """One row a figure; precision and recall stand in the JSON, as do figures that are 0 for both."""
    table = plain_table(["figure", "A", "B", "B - A", "p"])
    for name, row in figures.items():
        if not name.endswith((".precision", ".recall")) and (row["a"] or row["b"]):
            table.add_row(
                escape(name), show_score(row["a"]), show_score(row["b"]), _change(row["difference"]), _p(row["p"])
            )
    table.caption = "Precision, recall and figures that are 0 for both: --json."
    table.caption_justify = "left"
    return table


def _studies_table(rows: list[dict[str, Any]]) -> Table:
    """One figure of some studies, {"id", "a", "b", "difference"} each."""
    table = plain_table(["study", "A", "B", "B - A"])
    for row in rows:
        table.add_row(escape(row["id"]), show_score(row["a"]), show_score(row["b"]), _change(row["difference"]))
    return table


def _change(value: float) -> str:
    """+.012 with its sign."""
    return f"{value:+.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:+.2f}"


def _p(value: float) -> str:
    """.0001, the least that 10,000 rounds can give, must be told from 0."""
    return f"{value:.4f}".removeprefix("0")
