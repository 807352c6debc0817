"""How far does the rule labeller agree with people? Its answers against the MeSH coding of IU X-ray.

    python -m radscribe.training.metrics.label_agreement DATASET [--split val]

The labeller reads findings and impression, as the coders did. An observation is present to the labeller where it is
positive or uncertain, and to the coders as `mesh_observations.py` says, which was written before any rule was tuned.
The rules were tuned on the training split; another split measures them. Studies that nobody coded are left out and
counted. No Finding follows from the other observations on both sides, so a second micro row leaves it out.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from ..errors import one_line
from ..readers.studies import is_phantom_set, load_studies
from ..score_tables import plain_table
from .clinical import MEASURES, precision_recall_f1
from .mesh_observations import OBSERVATIONS, is_coded, observe, unmapped
from .rule_labeller import POSITIVE, UNCERTAIN, label_reports

_AVERAGES = {"micro": "micro, 14 labels", "micro_findings": "micro, without No Finding", "macro": "macro, 14 labels"}


def measure_agreement(dataset: Path, split: str = "val") -> dict[str, Any]:
    """Agreement on one split of a prepared data set.

    Returns `split`, `studies` (compared), `uncoded` (left out), the scores of `score_agreement`, and `unmapped`
    {head: count}: heads of terms that the tables do not know.

    Raises:
        ValueError: no such data set or split, or one without a study that has MeSH terms.
    """
    studies = load_studies(dataset, split)
    terms = [[label["name"] for label in labels] for labels in studies["labels"]]
    coded = [number for number, names in enumerate(terms) if is_coded(names)]
    heads = Counter(name.split("/")[0].strip() for names in terms for name in names)
    unknown = {head: heads[head] for head in sorted(unmapped(heads), key=lambda head: -heads[head])}
    # Phantoms have labels of the same form, with some of the same words, which no coder gave.
    if not coded or len(unknown) == len(heads) or is_phantom_set(studies["study_id"]):
        raise ValueError(
            f"Agreement needs MeSH terms as IU X-ray has them. The split `{split}` of {dataset} has none."
        )
    findings, impressions = list(studies["findings"]), list(studies["impression"])
    reports = [f"{findings[number]}\n\n{impressions[number]}" for number in coded]
    stated = np.isin(label_reports(reports), (POSITIVE, UNCERTAIN))
    true = np.array([observe(terms[number]) for number in coded], dtype=bool)
    counts = {"split": split, "studies": len(coded), "uncoded": len(terms) - len(coded)}
    return counts | score_agreement(stated, true) | {"unmapped": unknown}


def score_agreement(stated: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 of present-or-absent answers: (S, 14), (S, 14) bool.

    Returns `per_label` {name: {precision, recall, f1, support}}, `micro` over all labels' counts together,
    `micro_findings` over all but No Finding, and `macro`, the mean over the labels. 0 where nothing is to divide.
    """
    counts = np.stack([(stated & true).sum(0), stated.sum(0), true.sum(0)])  # (3, 14): hits, stated, true
    rows = [_divide(*column) for column in counts.T]
    return {
        "per_label": {
            name: row | {"support": int(support)}
            for name, row, support in zip(OBSERVATIONS, rows, counts[2], strict=True)
        },
        "micro": _divide(*counts.sum(1)),
        "micro_findings": _divide(*counts[:, np.array(OBSERVATIONS) != "No Finding"].sum(1)),
        "macro": {name: float(np.mean([row[name] for row in rows])) for name in MEASURES},
    }


def _divide(hits: int, stated: int, true: int) -> dict[str, float]:
    """Precision, recall and F1 of counts."""
    scores = precision_recall_f1(np.array([hits, stated - hits, true - hits], dtype=float))
    return dict(zip(MEASURES, scores.tolist(), strict=True))


def show_agreement(result: dict[str, Any], console: Console) -> None:
    """Print what `measure_agreement` returned."""
    table = plain_table(["observation", "precision", "recall", "F1", "coded"])
    for name, row in result["per_label"].items():
        table.add_row(name, *_cells(row), str(row["support"]))
    table.add_section()
    for key, name in _AVERAGES.items():
        table.add_row(name, *_cells(result[key]), "")
    heading = f"Rule labeller against MeSH: split {result['split']}, {result['studies']} studies"
    console.print(escape(f"{heading}, {result['uncoded']} without MeSH terms left out\n"), highlight=False)
    console.print(table)
    unknown = ", ".join(f"{head} ({count})" for head, count in result["unmapped"].items())
    console.print(escape(f"\nMeSH heads that the tables do not know: {unknown or 'none'}"), highlight=False)


def _cells(row: dict[str, float]) -> list[str]:
    """The three measures with three digits."""
    return [f"{row[name]:.3f}" for name in MEASURES]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of the module's head."""
    parser = argparse.ArgumentParser(description="Agreement of the rule labeller with the MeSH coding of IU X-ray.")
    parser.add_argument("dataset", type=Path, help="an IU X-ray data set written by `radscribe prepare`")
    parser.add_argument("--split", default="val")
    given = parser.parse_args(arguments)
    try:
        show_agreement(measure_agreement(given.dataset, given.split), Console())
    except (ValueError, OSError) as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
