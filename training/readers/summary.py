"""The facts of a prepared data set that explain its scores, one row a split.

A split whose reports stand in the training split word for word can be recited; one whose studies are mostly normal is
won by the normal report. Counted on cleaned reports (evaluation.md 2.2) in one pass; memory holds a number for each
distinct report and nothing else.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...processing.processing_text import clean_report
from .habits import Habits, load_habits
from .studies import is_phantom_set, load_splits

NORMAL = {"normal", "No Finding"}  # how IU X-ray's and CheXpert's labels say that nothing was found


def describe(path: Path) -> list[dict[str, Any]]:
    """A row of facts for each split of the data set at `path`, counted by the habits stored with it.

    Returns rows with `split`, `studies`, `films`, `words` (mean a report, full stops counted), `vocabulary` (words, of
    the training split alone), `in_earlier` (share of reports that a split above has too), `films_in_earlier` (films
    that a split above has too), `repeated` (share of reports that an earlier study of the split has) and `normal`
    (share of studies labelled so; None without labels and for phantoms).
    """
    reports: set[int] = set()
    films: set[int] = set()
    habits = load_habits(path)
    return [_describe(name, split, habits, (reports, films)) for name, split in load_splits(path).items()]


def _describe(name: str, split: Dataset, habits: Habits, earlier: tuple[set[int], set[int]]) -> dict[str, Any]:
    """One row; reports and films of the split are then added to those of earlier splits, as hashes."""
    own_reports: set[int] = set()
    own_films: set[int] = set()
    counts: Counter[str] = Counter()
    films = words = in_earlier = repeated = normal = labelled = 0
    for batch in split.iter(batch_size=1000):
        for report, images, labels in zip(batch["findings"], batch["images"], batch["labels"], strict=True):
            tokens = clean_report(report, habits.style).split()
            text = hash(tuple(tokens))
            repeated += text in own_reports
            in_earlier += text in earlier[0]
            own_reports.add(text)
            own_films.update(map(hash, images))
            if name == "train":
                counts.update(tokens)
            films, words = films + len(images), words + len(tokens)
            labelled += bool(labels)
            normal += any(label["name"] in NORMAL for label in labels)
    shared = len(own_films & earlier[1])
    earlier[0].update(own_reports)
    earlier[1].update(own_films)
    return {
        "split": name,
        "studies": len(split),
        "films": films,
        "words": round(words / len(split), 1),
        "vocabulary": sum(count >= habits.min_frequency for count in counts.values()) if name == "train" else None,
        "in_earlier": round(in_earlier / len(split), 3),
        "films_in_earlier": shared,
        "repeated": round(repeated / len(split), 3),
        "normal": round(normal / len(split), 3) if labelled and not is_phantom_set(split["study_id"]) else None,
    }
