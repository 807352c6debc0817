"""The language of the phantoms: a table of sentences that writes a report and reads one back.

A phantom's report states exactly what was drawn. One table of templates serves both directions: `write_report` picks
from it, `read_report` looks a sentence up among all sentences the table can produce. Writer and reader cannot drift
apart, and a sentence that no template produces is unreadable by definition.

A finding is (kind, side, size, place), "-" for what does not apply; its unit is (kind, side). The order of a report is
fixed: heart, lungs, pleura, bones, devices; left before right; upper before lower kinds as listed in `KINDS`. A region
without findings gets one normal statement (devices get none), so that picture and report fix each other but for the
choice of words. Words are those that the R2Gen cleaning leaves alone: no digits, hyphens or brackets.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np

BLANK = "-"


class Finding(NamedTuple):
    """One thing drawn: kind, side ("left", "right"), size and place, "-" where the kind has none."""

    kind: str
    side: str = BLANK
    size: str = BLANK
    place: str = BLANK

    @property
    def unit(self) -> str:
        """The part that the exam counts, as in label names: "effusion/left"."""
        return f"{self.kind}/{self.side}"

    @property
    def name(self) -> str:
        """The label name of the study record: "effusion/left/large/-"."""
        return "/".join(self)


class Kind(NamedTuple):
    """What a kind of finding may be: its sides, sizes and places, each in the order in which reports name them."""

    region: str
    sides: tuple[str, ...] = ("left", "right")
    sizes: tuple[str, ...] = (BLANK,)
    places: tuple[str, ...] = (BLANK,)


_ZONES = ("upper", "middle", "lower")

# In the order of a report.
KINDS: dict[str, Kind] = {
    "cardiomegaly": Kind("heart", sides=(BLANK,), sizes=("mild", "marked")),
    "consolidation": Kind("lungs", places=_ZONES),
    "nodule": Kind("lungs", sizes=("small", "large"), places=_ZONES),
    "pneumothorax": Kind("pleura", sizes=("small", "large")),
    "effusion": Kind("pleura", sizes=("small", "moderate", "large")),
    "fracture": Kind("bones", places=("upper", "lower")),
    "pacemaker": Kind("devices", sides=("left",)),
}
REGIONS: tuple[str, ...] = tuple(dict.fromkeys(kind.region for kind in KINDS.values()))
UNITS: tuple[str, ...] = tuple(f"{name}/{side}" for name, kind in KINDS.items() for side in kind.sides)

# Telegraphic, as radiologists dictate: at most seven words a finding and four a normal statement. Short reports cost
# little to learn, and what the exam asks for is the picture. {size}ly spells "mildly" and "markedly".
_FINDING_TEMPLATES: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "{size} cardiomegaly.",
        "The heart is {size}ly enlarged.",
        "{size} cardiac enlargement.",
        "Cardiac shadow {size}ly widened.",
    ),
    "consolidation": (
        "{side} {place} zone consolidation.",
        "Airspace opacity in {side} {place} zone.",
        "Consolidated {side} {place} zone.",
        "{side} {place} zone air bronchograms.",
    ),
    "nodule": (
        "{size} {side} {place} zone nodule.",
        "{size} nodule in {side} {place} zone.",
        "{side} {place} zone holds {size} nodule.",
        "{size} round {side} {place} zone density.",
    ),
    "pneumothorax": (
        "{size} {side} pneumothorax.",
        "{size} pneumothorax on the {side}.",
        "{size} {side} apical pneumothorax.",
        "Pleural line of {size} {side} pneumothorax.",
    ),
    "effusion": (
        "{size} {side} pleural effusion.",
        "{size} effusion on the {side}.",
        "{size} {side} pleural fluid.",
        "{side} angle blunted by {size} effusion.",
    ),
    "fracture": (
        "Displaced {side} {place} rib fractures.",
        "Fractures of {side} {place} ribs.",
        "{side} {place} ribs are broken.",
        "Broken {side} {place} ribs.",
    ),
    "pacemaker": (
        "{side} chest wall pacemaker.",
        "{side} sided cardiac pacemaker.",
        "Pacemaker on the {side}.",
    ),
}

# A normal statement denies every unit of its region.
_NORMAL_TEMPLATES: dict[str, tuple[str, ...]] = {
    "heart": (
        "Heart size is normal.",
        "Normal heart size.",
        "Heart not enlarged.",
        "Unremarkable cardiac silhouette.",
        "No cardiomegaly.",
    ),
    "lungs": (
        "Lungs are clear.",
        "Clear lungs.",
        "No focal opacity.",
        "Lungs well aerated.",
        "No consolidation or nodule.",
    ),
    "pleura": (
        "No effusion or pneumothorax.",
        "No pneumothorax or effusion.",
        "Pleural spaces are clear.",
        "No pleural abnormality.",
        "Sharp costophrenic angles.",
    ),
    "bones": (
        "Bones are intact.",
        "Intact bones.",
        "No acute fracture.",
        "Osseous structures unremarkable.",
        "Ribs appear normal.",
    ),
}


class Statement(NamedTuple):
    """What one sentence says: either a finding, or that every unit of some region is absent."""

    finding: Finding | None
    denied: tuple[str, ...]


@dataclass
class ReadReport:
    """A report as the grammar understands it.

    findings: every finding stated, in order, repetitions kept; denied: units that a normal statement excludes;
    unreadable: the sentences, cleaned, that no template produces; sentences: how many sentences there were.
    """

    findings: list[Finding] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    sentences: int = 0


def all_findings(kind: str) -> list[Finding]:
    """Every finding of one kind, in the order of a report."""
    facts = KINDS[kind]
    return [Finding(kind, *rest) for rest in itertools.product(facts.sides, facts.sizes, facts.places)]


def write_report(findings: Iterable[tuple[str, str, str, str]], rng: np.random.Generator) -> str:
    """State the findings in varied sentences and fixed order.

    A region without findings gets one normal statement, so that nothing is left unsaid but the absence of devices.
    Raises ValueError for a finding that does not exist and for two findings of one unit.
    """
    ordered = sort_findings(findings)
    sentences = []
    for region in REGIONS:
        present = [finding for finding in ordered if KINDS[finding.kind].region == region]
        sentences += [_spell(_choose(_FINDING_TEMPLATES[finding.kind], rng), finding) for finding in present]
        if not present and region in _NORMAL_TEMPLATES:
            sentences.append(_choose(_NORMAL_TEMPLATES[region], rng))
    return " ".join(sentences)


def sort_findings(findings: Iterable[tuple[str, str, str, str]]) -> list[Finding]:
    """The findings in the order of a report; ValueError for an impossible finding or a unit given twice."""
    order = _finding_order()
    known = [Finding(*finding) for finding in findings]
    for finding in known:
        if finding not in order:
            raise ValueError(
                f"`findings` must be (kind, side, size, place) as `KINDS` lists them. Got {finding.name}."
            )
    units = [finding.unit for finding in known]
    if len(set(units)) < len(units):
        raise ValueError(f"`findings` must hold each (kind, side) once. Got {', '.join(sorted(units))}.")
    return sorted(known, key=order.__getitem__)


def read_report(report: str) -> ReadReport:
    """Read a report sentence by sentence; raw, restored and cleaned texts read alike.

    Case and punctuation do not matter; a full stop ends a sentence.
    """
    meanings = _sentence_meanings()
    read = ReadReport()
    for sentence in filter(None, map(_normalise, report.split("."))):
        read.sentences += 1
        statement = meanings.get(sentence)
        if statement is None:
            read.unreadable.append(sentence)
        elif statement.finding is not None:
            read.findings.append(statement.finding)
        else:
            read.denied += [unit for unit in statement.denied if unit not in read.denied]
    return read


def _choose(templates: tuple[str, ...], rng: np.random.Generator) -> str:
    return templates[int(rng.integers(len(templates)))]


def _spell(template: str, finding: Finding) -> str:
    """Fill a template in and begin it with a capital."""
    sentence = template.format(side=finding.side, size=finding.size, place=finding.place)
    return sentence[0].upper() + sentence[1:]


def _normalise(sentence: str) -> str:
    """Lower case, words only, single spaces: the form in which sentences are compared."""
    return " ".join(re.sub(r"[^a-z0-9<>]+", " ", sentence.lower()).split())


@cache
def _finding_order() -> dict[Finding, int]:
    """Rank of every possible finding within a report."""
    return {finding: rank for rank, finding in enumerate(itertools.chain.from_iterable(map(all_findings, KINDS)))}


@cache
def _sentence_meanings() -> dict[str, Statement]:
    """Every sentence that the table can produce, normalised, with what it says.

    A few hundred entries: a look-up is exact where a pattern could accept more than the writer writes.
    """
    meanings = {}
    for finding in _finding_order():
        for template in _FINDING_TEMPLATES[finding.kind]:
            meanings[_normalise(_spell(template, finding))] = Statement(finding, ())
    for region, templates in _NORMAL_TEMPLATES.items():
        units = tuple(unit for unit in UNITS if KINDS[unit.split("/")[0]].region == region)
        meanings |= {_normalise(template): Statement(None, units) for template in templates}
    return meanings
