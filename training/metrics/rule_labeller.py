"""A rule labeller for CheXpert's 14 observations: mention, negation, uncertainty; tables in `rule_phrases.py`.

Not the CheXpert labeller and not CheXbert: it needs no parser and no weights. How far it agrees with the human coding
of IU X-ray says `label_agreement.py`. Every sentence is read alone. In it a phrase is a mention; cues before and after
it, as far as nothing ends their reach, make it denied or doubted. The mentions of a report are put together as
CheXpert's aggregation does: positive beats uncertain beats negative; heart failure makes cardiomegaly uncertain; No
Finding is positive where no observation but devices is positive or uncertain, else blank. An empty report thus is
"No Finding", as CheXpert has it.

Shapes: S reports, 14 observations.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .mesh_observations import OBSERVATIONS
from .rule_phrases import (
    DENIED_AFTER,
    DENIED_BEFORE,
    DOUBTED_AFTER,
    DOUBTED_ALWAYS,
    DOUBTED_BEFORE,
    ENDS,
    FALSE_CUES,
    PHRASES,
    STRUCTURES,
    UNSAID_BEFORE,
    Structure,
)

FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
POSITIVE, NEGATIVE, UNCERTAIN, BLANK = 1, 0, -1, -2

_STRENGTH = {BLANK: 0, NEGATIVE: 1, UNCERTAIN: 2, POSITIVE: 3}
_SENTENCE = re.compile(r"(?:[^.;!?\n]|\n(?!\s*\n)|[.](?=\d))+")  # a line may break in a sentence; 1.5 is one word
_FAILURE = re.compile(r"chf|failure|congestive")


class Mention(NamedTuple):
    """Characters `start` to `end` of a report speak of `observation`; `status` is positive, negative or uncertain."""

    start: int
    end: int
    observation: str
    status: int


def label_reports(reports: Sequence[str]) -> np.ndarray:
    """Codes of the 14 observations: (S, 14) int8 of POSITIVE, NEGATIVE, UNCERTAIN, BLANK."""
    codes = np.full((len(reports), len(OBSERVATIONS)), BLANK, dtype=np.int8)
    for row, report in zip(codes, reports, strict=True):
        for mention in find_mentions(report):
            column = OBSERVATIONS.index(mention.observation)
            row[column] = max(row[column], mention.status, key=lambda code: _STRENGTH[int(code)])
        findings = row[[name not in ("No Finding", "Support Devices") for name in OBSERVATIONS]]
        if not np.isin(findings, (POSITIVE, UNCERTAIN)).any():
            row[OBSERVATIONS.index("No Finding")] = POSITIVE
    return codes


def find_mentions(report: str) -> list[Mention]:
    """All mentions, in the order of the text. Works on raw and on cleaned reports."""
    lower = report.lower()
    if len(lower) != len(report):  # a few letters grow in lower case, and the places must be the report's
        lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in report)
    return [
        Mention(sentence.start() + start, sentence.start() + end, observation, status)
        for sentence in _SENTENCE.finditer(lower)
        for start, end, observation, status in _read_sentence(sentence.group())
    ]


@lru_cache(maxsize=100_000)  # reports repeat sentences, word for word
def _read_sentence(sentence: str) -> tuple[Mention, ...]:
    """Mentions of a lower-case sentence."""
    text = FALSE_CUES.sub(lambda found: " " * len(found.group()), sentence)
    phrases = set(_read_phrases(text))
    taken = {(one.observation, place) for one in phrases for place in range(one.start, one.end)}
    structures = {
        one
        for one in _read_structures(text)
        if not any((one.observation, place) in taken for place in (one.start, one.end - 1))
    }
    return tuple(sorted(one for one in phrases | structures if one.status != BLANK))


def _read_phrases(text: str) -> Iterator[Mention]:
    for observation, phrases in PHRASES.items():
        for found in phrases.finditer(text):
            status = _judge(text, found.start(), found.end())
            yield Mention(*found.span(), observation, status)
            if status in (POSITIVE, UNCERTAIN) and _FAILURE.search(found.group()):
                yield Mention(*found.span(), "Cardiomegaly", UNCERTAIN)


def _read_structures(text: str) -> Iterator[Mention]:
    for structure in STRUCTURES:
        for part in structure.part.finditer(text):
            if word := _nearest_word(structure, text, part):
                start, end = min(part.start(), word.start()), max(part.end(), word.end())
                # "no effusion heart enlarged": what stands before the part is not said of its size
                first = part.start() if part.start() < word.start() else 0
                normal = word.re is structure.normal
                status = NEGATIVE if normal else _judge(text[first:], word.start() - first, word.end() - first)
                yield Mention(start, end, structure.observation, status)


def _nearest_word(structure: Structure, text: str, part: re.Match[str]) -> re.Match[str] | None:
    """The word of state that stands nearest to the part in its clause; an abnormal one only up to the next comma."""
    first, last = _clause(text, part.start(), part.end())
    comma, next_comma = text.rfind(",", first, part.start()) + 1, text.find(",", part.end(), last)
    words = [
        *structure.abnormal.finditer(text, max(first, comma), last if next_comma < 0 else next_comma),
        *structure.normal.finditer(text, first, last),
    ]
    return min(words, key=lambda word: max(word.start() - part.end(), part.start() - word.end()), default=None)


def _clause(text: str, start: int, end: int) -> tuple[int, int]:
    """First and last character that cues may stand at which concern text[start:end]."""
    first = max((found.end() for found in ENDS.finditer(text, 0, start)), default=0)
    last = ENDS.search(text, end)
    return first, last.start() if last else len(text)


def _judge(text: str, start: int, end: int) -> int:
    """POSITIVE, NEGATIVE or UNCERTAIN for text[start:end]; BLANK where it is spoken of and nothing said."""
    first, last = _clause(text, start, end)
    before, after = text[first:start], text[end:last]
    if DOUBTED_ALWAYS.search(before) or DOUBTED_ALWAYS.search(after):
        return UNCERTAIN
    if UNSAID_BEFORE.search(text, 0, start):  # "if there is concern for": their reach has no end
        return BLANK
    if DENIED_BEFORE.search(before) or DENIED_AFTER.search(after):
        return NEGATIVE
    return UNCERTAIN if DOUBTED_BEFORE.search(before) or DOUBTED_AFTER.search(after) else POSITIVE
