"""How sure a figure is: bootstrap intervals over studies, and paired approximate randomisation between two answers.

Shapes: S studies, R resamples or rounds.
Both resample whole studies and compute every figure from the studies' summands (`study_statistics.py`), R rows at a
time in one matrix product; memory is bounded by working in chunks, whose size does not change the numbers.

Bootstrap: Efron's percentile interval. Averages over labels (macro) lean low under it: a rare label can vanish from a
resample and counts 0 there. It says how the figure varies over studies, not over trainings of the model.
Approximate randomisation: Noreen, "Computer-Intensive Methods for Testing Hypotheses" (1989); under the hypothesis
that the two systems are alike it does not matter which of them wrote which of a study's two answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .study_statistics import StudyStatistics, figures, figures_of_totals

METEOR_NOTE = (
    "METEOR has no interval and no p-value: its Java process hands back one aggregate of the whole set "
    "and would have to run again for every resample."
)
_CELLS = 2_000_000  # weights held at a time: 16 MB
_ROUNDING = 1e-10  # sums in another order differ by this much at most; equal differences must count as equal


def bootstrap_intervals(
    statistics: StudyStatistics, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of every figure: {figure: (low, high)}; METEOR has none (`METEOR_NOTE`).

    A resample draws as many studies as there are, with replacement: multinomial weights.
    Raises ValueError for no resamples or a level outside (0, 1).
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"`resamples` must be >= 1 and `level` within (0, 1). Got {resamples} and {level}.")
    random, studies = np.random.default_rng(seed), statistics.studies
    equal = np.full(studies, 1 / studies)
    chunks = [figures(statistics, random.multinomial(studies, equal, rows)) for rows in _chunks(resamples, studies)]
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {}
    for name in chunks[0]:
        low, high = np.quantile(np.concatenate([chunk[name] for chunk in chunks]), tails)
        intervals[name] = (float(low), float(high))
    return intervals


def paired_randomisation(
    a: StudyStatistics, b: StudyStatistics, rounds: int = 10_000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Two answers to the same studies: {figure: {"a", "b", "difference" (b - a), "p" (two-sided)}}.

    In each round a study's two answers change sides with probability 1/2. p = (1 + rounds whose difference is at
    least as large as the one seen) / (rounds + 1), so never 0. p-values are not corrected for the number of figures.
    Raises ValueError unless both have the same summands of the same studies, and for no rounds.
    """
    _check_pair(a, b, rounds)
    one = np.ones((1, a.studies))
    totals_a, totals_b = a.weigh(one), b.weigh(one)
    figures_a, figures_b = figures_of_totals(totals_a), figures_of_totals(totals_b)
    seen = {name: abs(float(figures_b[name][0] - figures_a[name][0])) for name in figures_a}
    as_large = dict.fromkeys(seen, 0)
    # What a side gains when a study's answers change places; the other side loses as much.
    change = StudyStatistics({name: b.summands[name] - values for name, values in a.summands.items()})
    random = np.random.default_rng(seed)
    for rows in _chunks(rounds, a.studies):
        moved = change.weigh(random.random((rows, a.studies)) < 0.5)
        swapped_a = figures_of_totals({name: totals_a[name] + gain for name, gain in moved.items()})
        swapped_b = figures_of_totals({name: totals_b[name] - gain for name, gain in moved.items()})
        for name, difference in seen.items():
            far = np.abs(swapped_b[name] - swapped_a[name]) >= difference - _ROUNDING
            as_large[name] += int(far.sum())
    return {
        name: {
            "a": float(figures_a[name][0]),
            "b": float(figures_b[name][0]),
            "difference": float(figures_b[name][0] - figures_a[name][0]),
            "p": (1 + as_large[name]) / (rounds + 1),
        }
        for name in seen
    }


def _chunks(rows: int, studies: int) -> Iterator[int]:
    """`rows` in parts small enough that their weights fit: the size of each."""
    size = max(1, _CELLS // studies)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _check_pair(a: StudyStatistics, b: StudyStatistics, rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"`rounds` must be >= 1. Got {rounds}.")
    if a.studies != b.studies or a.summands.keys() != b.summands.keys():
        raise ValueError(
            "`a` and `b` must be statistics of the same kind and of the same studies. "
            f"Got {a.studies} and {b.studies} studies, {', '.join(a.summands)} and {', '.join(b.summands)}."
        )
