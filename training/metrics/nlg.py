"""The field's word-overlap scores through pycocoevalcap: BLEU-1..4, ROUGE-L, CIDEr, METEOR.

Inputs are already in a protocol's form (single-spaced words); nothing is tokenised here. BLEU is corpus level, ROUGE-L
(F with beta 1.2) and CIDEr (CIDEr-D, idf from the evaluated references) are means over reports, METEOR is the jar's
aggregate. The jar needs Java and reads a paraphrase table for some seconds when it starts: one `NlgScorer` starts it
once, scores any number of answers and closes it. `report_components` has what each study adds to the other scores.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from types import TracebackType
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

# Constants of pycocoevalcap's BleuScorer: precision = (correct + tiny) / (guess + small), the length ratio likewise.
BLEU_TINY, BLEU_SMALL = 1e-15, 1e-9


class NlgScorer:
    """Scores lists of reports; a context manager, because METEOR is a Java process that must end.

    `meteor=False` leaves METEOR out silently; without Java it is left out with one line on stderr. It is never
    replaced by another implementation: those are different numbers.
    """

    def __init__(self, meteor: bool = True) -> None:
        self.wants_meteor = meteor
        self._jar: Any = None

    def __enter__(self) -> NlgScorer:
        if self.wants_meteor and shutil.which("java") is None:
            _say("METEOR is left out: it runs in Java and there is no `java` on the path.")
        elif self.wants_meteor:
            self._jar = Meteor()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        """End the Java process and its pipes now; the package does so only when the object is collected."""
        if self._jar is None:
            return
        jar, self._jar = self._jar, None
        process = jar.meteor_p
        if jar.lock.locked():  # it died while scoring; the package's own destructor would wait for ever
            jar.lock.release()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def score(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        """Scores of N predictions against N references, one each: bleu_1..bleu_4, rouge_l, cider, meteor.

        An empty prediction scores 0. Raises ValueError where the two lists differ in length or hold nothing.
        """
        hypotheses, truths = _pair(predictions, references)
        bleu, _ = Bleu(4).compute_score(truths, hypotheses, verbose=0)
        scores = {f"bleu_{n}": float(value) for n, value in enumerate(bleu, start=1)}
        scores["rouge_l"] = float(Rouge().compute_score(truths, hypotheses)[0])
        scores["cider"] = float(Cider().compute_score(truths, hypotheses)[0])
        meteor = self.meteor(predictions, references)
        return scores if meteor is None else scores | {"meteor": meteor}

    def meteor(self, predictions: list[str], references: list[str]) -> float | None:
        """METEOR alone; None where it is off or the jar has died (too little memory, a broken Java), with one line."""
        if self._jar is None:
            return None
        hypotheses, truths = _pair(predictions, references)
        try:
            return float(self._jar.compute_score(truths, hypotheses)[0])
        except (OSError, ValueError):
            _say("METEOR is left out: its Java process died (it asks for 2 GB of memory).")
            self._close()
            return None


def report_components(predictions: list[str], references: list[str]) -> dict[str, np.ndarray]:
    """What each of S studies adds to BLEU, ROUGE-L and CIDEr, by pycocoevalcap's own counting.

    Returns `bleu_correct` and `bleu_guess` (S, 4): matched and stated 1- to 4-grams; `test_length` and
    `reference_length` (S,) in words; `rouge_l` and `cider` (S,), whose means are the scores. CIDEr's document
    frequencies are those of these references. Raises ValueError as `NlgScorer.score`.
    """
    hypotheses, truths = _pair(predictions, references)
    counter = BleuScorer(n=4)
    for i, hypothesis in hypotheses.items():
        counter += (hypothesis[0], truths[i])
    counts = counter.ctest
    return {
        "bleu_correct": np.array([one["correct"] for one in counts], dtype=float),
        "bleu_guess": np.array([one["guess"] for one in counts], dtype=float),
        "test_length": np.array([one["testlen"] for one in counts], dtype=float),
        "reference_length": np.array([one["reflen"][0] for one in counts], dtype=float),  # one reference a study
        "rouge_l": np.asarray(Rouge().compute_score(truths, hypotheses)[1], dtype=float),
        "cider": np.asarray(Cider().compute_score(truths, hypotheses)[1], dtype=float),
    }


def _pair(predictions: list[str], references: list[str]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """(hypotheses, truths) as pycocoevalcap takes them. Raises ValueError where they differ in number or are none."""
    if len(predictions) != len(references) or not references:
        raise ValueError(
            "Scores need one prediction a reference and at least one. "
            f"Got {len(predictions)} predictions and {len(references)} references."
        )
    hypotheses = {i: [_one_line(text)] for i, text in enumerate(predictions)}
    return hypotheses, {i: [_one_line(text)] for i, text in enumerate(references)}


def _one_line(text: str) -> str:
    """Single-spaced and free of METEOR's own separator, which would split the line it is sent in."""
    return " ".join(text.replace("|||", " ").split())


def _say(line: str) -> None:
    """A note to the user; stderr, because stdout may carry JSON."""
    print(f"Note: {line}", file=sys.stderr)


def nlg_scores(predictions: list[str], references: list[str], meteor: bool = True) -> dict[str, float]:
    """`NlgScorer.score` for a single call."""
    with NlgScorer(meteor) as scorer:
        return scorer.score(predictions, references)
