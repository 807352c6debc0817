"""The studies that the page shows: which, their films as data URLs, and their texts with the findings marked.

An observation counts as stated when its code is positive or uncertain, as in the F1 beside it. Of a study it is
matched (stated by both), missed (by the reference alone) or invented (by the report alone). The codes are the
evaluation's, whichever labeller made them; the words to mark are found by the rules, so with CheXbert an observation
can be listed without a mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..metrics.rule_labeller import OBSERVATIONS, POSITIVE, UNCERTAIN, find_mentions
from ..sheet import jpeg_url, load_thumbnail

SHOWN = 5  # studies a group
FILMS = 4  # of a study
THUMBNAIL = 320  # pixels of the longer side
JPEG_QUALITY = 80
MATCHED, MISSED, INVENTED = "matched", "missed", "invented"


@dataclass
class StudyRow:
    """One study of an evaluation; `true` and `predicted` are codes (14,) of reference and report."""

    study_id: str
    images: list[str]
    reference: str
    report: str
    cider: float
    clinical_f1: float
    true: np.ndarray
    predicted: np.ndarray


@dataclass
class Piece:
    """A stretch of text; `kind` is "" where nothing is marked, `title` says which observations and how."""

    text: str
    kind: str = ""
    title: str = ""


@dataclass
class Film:
    """A picture as data URL, or the name of a file that could not be read (`url` is empty)."""

    name: str
    url: str


def choose_studies(studies: Sequence[StudyRow], count: int = SHOWN) -> dict[str, list[StudyRow]]:
    """The best, the worst and the most typical (nearest to the median) by CIDEr, ties broken by clinical F1.

    No study stands in two groups; of few studies each group gets a third, one at least while they last.
    """
    count = min(count, max(1, len(studies) // 3))
    ranked = sorted(studies, key=lambda study: (study.cider, study.clinical_f1), reverse=True)
    best, rest = ranked[:count], ranked[count:]
    worst, rest = rest[::-1][:count], rest[: max(0, len(rest) - count)]
    middle = np.median([(study.cider, study.clinical_f1) for study in studies], axis=0) if studies else (0, 0)
    rest.sort(key=lambda study: (abs(study.cider - middle[0]), abs(study.clinical_f1 - middle[1])))
    return {"best": best, "typical": rest[:count], "worst": worst}


def sort_observations(study: StudyRow) -> dict[str, list[str]]:
    """Names of the matched, missed and invented observations of a study."""
    true, stated = (np.isin(codes, (POSITIVE, UNCERTAIN)) for codes in (study.true, study.predicted))
    sides = {MATCHED: true & stated, MISSED: true & ~stated, INVENTED: ~true & stated}
    return {
        kind: [name for name, one in zip(OBSERVATIONS, chosen, strict=True) if one] for kind, chosen in sides.items()
    }


def mark_text(text: str, kinds: dict[str, str]) -> list[Piece]:
    """The text in pieces; mentions of the observations in `kinds` {name: kind} are marked unless they are denied.

    Where mentions overlap the piece names all of them and looks like the one that is no match.
    """
    mentions = [m for m in find_mentions(text) if m.observation in kinds and m.status in (POSITIVE, UNCERTAIN)]
    ends = sorted({0, len(text), *(m.start for m in mentions), *(m.end for m in mentions)})
    pieces: list[Piece] = []
    for start, end in zip(ends, ends[1:], strict=False):
        names = dict.fromkeys(m.observation for m in mentions if m.start <= start and end <= m.end)
        found = {kinds[name] for name in names}
        kind = next(iter(found - {MATCHED} or found), "")
        piece = Piece(text[start:end], kind, ", ".join(f"{kinds[name]}: {name}" for name in names))
        if pieces and (pieces[-1].kind, pieces[-1].title) == (piece.kind, piece.title):
            piece = Piece(pieces.pop().text + piece.text, piece.kind, piece.title)
        pieces.append(piece)
    return pieces


def mark_study(study: StudyRow) -> tuple[list[Piece], list[Piece]]:
    """Reference and report in pieces: matched and missed in the one, matched and invented in the other."""
    found = sort_observations(study)
    kinds = {kind: dict.fromkeys(names, kind) for kind, names in found.items()}
    return (
        mark_text(study.reference, kinds[MATCHED] | kinds[MISSED]),
        mark_text(study.report, kinds[MATCHED] | kinds[INVENTED]),
    )


def load_films(paths: Sequence[str]) -> Iterator[Film]:
    """The first FILMS pictures of a study; what cannot be read is named, not raised."""
    for path in paths[:FILMS]:
        try:
            yield Film(Path(path).name, jpeg_url(load_thumbnail(path, THUMBNAIL), JPEG_QUALITY))
        except (OSError, ValueError):
            yield Film(Path(path).name, "")
