"""Answers that never saw a film: one training report for every study. A model below them has learnt nothing.

On IU X-ray the best of them beats the published BLEU-4 of models, so no score is printed without.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from .protocols import Normalise, Truth


def trivial_reports(truth: Truth) -> dict[str, str]:
    """Name and text of the answers that a data set with training reports allows, {} without.

    `best_single_report` is chosen on the validation split where there is one, as a model is; on validation itself it
    is therefore the best that one report can do.
    """
    if not truth.training:
        return {}
    judges = truth.normalise(truth.validation) or truth.references
    return {
        "most_frequent_report": most_frequent_report(truth.training, truth.normalise),
        "best_single_report": best_single_report(truth.training, judges, truth.normalise),
    }


def most_frequent_report(training: list[str], normalise: Normalise) -> str:
    """The training report whose form under the protocol is the commonest (the first of equals)."""
    forms = normalise(training)
    return training[forms.index(Counter(forms).most_common(1)[0][0])]


def best_single_report(training: list[str], references: list[str], normalise: Normalise) -> str:
    """The training report that, given to every study, has the best BLEU-4 on these references."""
    distinct = list(dict.fromkeys(training))
    return distinct[int(constant_bleu4(normalise(distinct), references).argmax())]


def constant_bleu4(candidates: list[str], references: list[str]) -> np.ndarray:
    """Corpus BLEU-4 of each candidate given to every reference: (C,), the same numbers as pycocoevalcap's.

    One answer for everyone lets the clipped matches be summed over the references beforehand: for an n-gram that a
    candidate holds k times they are sum_r min(k, count_r), a table look-up. So all C candidates cost one pass over
    their own words instead of C passes over all references.
    """
    held: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for reference in references:
        for ngram, count in _count_ngrams(reference.split()).items():
            held[ngram].append(count)
    reference_words = sum(len(reference.split()) for reference in references)
    scores = []
    for candidate in candidates:
        words = candidate.split()
        matches = [0] * 4
        for ngram, count in _count_ngrams(words).items():
            matches[len(ngram) - 1] += sum(min(count, other) for other in held.get(ngram, ()))
        total = len(references)
        precision = [hits / max(1, total * (len(words) - n)) for n, hits in enumerate(matches)]
        brevity = min(1.0, float(np.exp(1 - reference_words / max(1, total * len(words)))))
        scores.append(brevity * float(np.prod(precision)) ** 0.25)
    return np.array(scores)


def _count_ngrams(words: list[str]) -> Counter[tuple[str, ...]]:
    """How often each 1- to 4-gram occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))
