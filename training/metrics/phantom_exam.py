"""The phantom exam: does a report say what its images show?

A report is read back by the grammar that writes phantom reports (`phantom_grammar.py`) into (kind, side) units, the
labels of the study give the true ones, and the two are compared.

Definitions. A unit stated and true is a true positive, stated and not true a false positive, true and not stated a
false negative. A unit stated twice counts once. A report that states a unit and also denies it ("no pneumothorax"
beside "left pneumothorax") has not answered: the unit is a false positive, and a false negative where it is true.
Every sentence that cannot be read is one false positive of no unit: it enters the micro figures only.
precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN), each 0 where nothing is to divide.
micro: over the sums of all units; macro: mean F1 over the units that are true or stated at least once.
A high score proves that the pipeline uses the image; it says nothing about real films.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..readers.phantom_grammar import BLANK, UNITS, Finding, read_report


@dataclass
class Count:
    """True positives, false positives and false negatives of a unit, or of all."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0

    def scores(self) -> dict[str, float]:
        """precision, recall, f1 and support (how often the unit is true)."""
        stated, true = self.hits + self.false_alarms, self.hits + self.misses
        return {
            "precision": self.hits / stated if stated else 0.0,
            "recall": self.hits / true if true else 0.0,
            "f1": 2 * self.hits / (stated + true) if stated + true else 0.0,
            "support": float(true),
        }


@dataclass
class StudyExam:
    """One report held against its study: units rightly stated, wrongly stated and missed; what could not be read.

    marks: for each found unit that has a "size" or "place" whether it is right.
    """

    hits: set[str]
    false_alarms: set[str]
    misses: set[str]
    marks: dict[str, list[bool]]
    sentences: int
    unreadable: int

    @property
    def units(self) -> tuple[set[str], set[str], set[str]]:
        """Hits, false alarms, misses."""
        return self.hits, self.false_alarms, self.misses


def examine(report: str, rows: Iterable[dict]) -> StudyExam:
    """Examine the report of one study against its label rows."""
    read, truth = read_report(report), true_findings(rows)
    stated = {finding.unit for finding in read.findings}
    contradicted = stated.intersection(read.denied)
    answered = stated - contradicted
    found = [one for one in read.findings if one.unit in truth and one.unit in answered]
    return StudyExam(
        hits=answered & truth.keys(),
        false_alarms=stated - (answered & truth.keys()),
        misses=truth.keys() - answered,
        marks={aspect: _mark(found, truth, aspect) for aspect in ("size", "place")},
        sentences=read.sentences,
        unreadable=len(read.unreadable),
    )


def exam(reports: Sequence[str], labels: Sequence[Sequence[dict]]) -> dict:
    """Examine one report a study against the studies' labels (rows of the study record; only `name` is read).

    Returns `finding_f1` {micro, macro, per_unit: {unit: {precision, recall, f1, support}}}, `size_accuracy` and
    `place_accuracy` {accuracy, count} over the correctly found units that have a size or place (right only if every
    mention of the unit is right), `unreadable_share` of all sentences. Raises ValueError where the numbers differ.
    """
    if len(reports) != len(labels):
        raise ValueError(f"`reports` and `labels` must be of one length. Got {len(reports)} and {len(labels)}.")
    studies = [examine(report, rows) for report, rows in zip(reports, labels, strict=True)]
    counts = {unit: Count() for unit in UNITS}
    for study in studies:
        _count(counts, *study.units)
    sentences, unreadable = sum(one.sentences for one in studies), sum(one.unreadable for one in studies)
    return {
        "finding_f1": _summarise(counts, unreadable),
        "size_accuracy": _accuracy([right for one in studies for right in one.marks["size"]]),
        "place_accuracy": _accuracy([right for one in studies for right in one.marks["place"]]),
        "unreadable_share": unreadable / sentences if sentences else 0.0,
    }


def best_constant_exam(labels: Sequence[Sequence[dict]]) -> dict:
    """The best score that one answer for every study can reach: a ceiling for models that do not look.

    Chosen on these very studies, so it is an upper bound. For a given number of units the commonest ones hit most
    often, so the best set is among as many candidates as there are units. Returns `units` and `finding_f1`.
    """
    truths = [set(true_findings(rows)) for rows in labels]
    support = {unit: sum(unit in truth for truth in truths) for unit in UNITS}
    ranked = sorted(UNITS, key=lambda unit: -support[unit])
    answers = [ranked[: size + 1] for size in range(len(ranked))]
    results = [(_score_constant(set(answer), truths), answer) for answer in answers]
    best, units = max(results, key=lambda result: result[0]["micro"])
    return {"units": units, "finding_f1": best}


def true_findings(rows: Iterable[dict]) -> dict[str, Finding]:
    """Label rows of one study (a row a view) -> {unit: finding}. Raises ValueError for a name that is no phantom's."""
    truth = {}
    for row in rows:
        parts = row["name"].split("/")
        if len(parts) != 4 or "/".join(parts[:2]) not in UNITS:
            raise ValueError(f"`labels` must name phantom findings (kind/side/size/place). Got {row['name']!r}.")
        finding = Finding(*parts)
        truth[finding.unit] = finding
    return truth


def _score_constant(answer: set[str], truths: Sequence[set[str]]) -> dict:
    counts = {unit: Count() for unit in UNITS}
    for truth in truths:
        _count(counts, answer & truth, answer - truth, truth - answer)
    return _summarise(counts, unreadable=0)


def _count(counts: dict[str, Count], hits: set[str], false_alarms: set[str], misses: set[str]) -> None:
    """Add one study to the counts of every unit."""
    for unit, count in counts.items():
        count.hits += unit in hits
        count.false_alarms += unit in false_alarms
        count.misses += unit in misses


def _mark(found: Sequence[Finding], truth: dict[str, Finding], aspect: str) -> list[bool]:
    """Right or wrong for each found unit that has this aspect ("size" or "place")."""
    right: dict[str, bool] = {}
    for finding in found:
        true = getattr(truth[finding.unit], aspect)
        if true != BLANK:
            right[finding.unit] = right.get(finding.unit, True) and getattr(finding, aspect) == true
    return list(right.values())


def _summarise(counts: dict[str, Count], unreadable: int) -> dict:
    """Micro, macro and per-unit scores of the counts; unreadable sentences are false positives of the micro score."""
    total = Count(
        sum(count.hits for count in counts.values()),
        sum(count.false_alarms for count in counts.values()) + unreadable,
        sum(count.misses for count in counts.values()),
    )
    per_unit = {unit: count.scores() for unit, count in counts.items()}
    seen = [per_unit[unit]["f1"] for unit, one in counts.items() if one.hits + one.false_alarms + one.misses]
    return {
        "micro": total.scores()["f1"],
        "macro": sum(seen) / len(seen) if seen else 0.0,
        "per_unit": per_unit,
    }


def _accuracy(right: Sequence[bool]) -> dict[str, float]:
    return {"accuracy": sum(right) / len(right) if right else 0.0, "count": float(len(right))}
