"""Protocols: the form that reports are brought into before they are compared. They move results more than most
papers' gains, so the one used is printed with every number.

    r2gen  R2Gen's cleaning on both sides; both cut, words outside the vocabulary `<unk>`, the full stop a word.
           R2Gen decodes its references from the model's own ids; with only text at hand the vocabulary is built
           from the data set's training reports, whatever the model's own was.
    full   R2Gen's cleaning on both sides, nothing cut, nothing replaced.
    coco   raw text through the PTB tokenizer of pycocoevalcap (Java), punctuation dropped.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..processing.processing_text import clean_report
from .readers.habits import OWN_HABITS, load_habits
from .readers.studies import load_splits, load_studies

PROTOCOLS = ("r2gen", "full", "coco")
Normalise = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Protocol:
    """A protocol with the values it depends on; those of IU X-ray unless the data set was prepared with others."""

    name: str = "r2gen"
    style: str = OWN_HABITS.style  # cleaning rules, iu or mimic: r2gen and full
    max_words: int = OWN_HABITS.max_words  # r2gen
    min_frequency: int = OWN_HABITS.min_frequency  # r2gen: words seen less often in training are <unk>

    def describe(self) -> dict[str, Any]:
        """The name with the values that matter to it."""
        keys = {"r2gen": ("style", "max_words", "min_frequency"), "full": ("style",), "coco": ()}[self.name]
        return {"name": self.name} | {key: getattr(self, key) for key in keys}


def choose_protocol(references: Path, name: str, **values: Any) -> Protocol:
    """The protocol `name` with the values that `prepare` stored at `references`, or those given where not None.

    Raises ValueError for a name that is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}. Got {name!r}.")
    habits = load_habits(references)
    stored = Protocol(name, habits.style, habits.max_words, habits.min_frequency)
    return replace(stored, **{key: value for key, value in values.items() if value is not None})


@dataclass
class Truth:
    """What answers are held against: the studies of one split, and the training reports beside them."""

    studies: list[dict[str, Any]]
    training: list[str]  # findings of the training split, [] where the data set has none
    validation: list[str]  # findings of the validation split, [] likewise
    references: list[str]  # findings of `studies` in the protocol's form
    normalise: Normalise
    unscored: set[str]  # ids of the split whose findings are empty: nothing to compare with


def load_truth(references: Path, split: str, protocol: Protocol) -> Truth:
    """The split's studies that have findings, the training reports, and the normaliser built from them.

    Raises ValueError where no study of the split has findings, and as `load_studies` does.
    """
    rows = list(load_studies(references, split))
    studies = [study for study in rows if study["findings"].strip()]
    if not studies:
        raise ValueError(f"No study of split {split!r} of {references} has findings to compare with.")
    unscored = {study["study_id"] for study in rows} - {study["study_id"] for study in studies}
    splits = load_splits(references)
    training, validation = (
        [text for text in splits[name]["findings"] if text.strip()] if name in splits else []
        for name in ("train", "val")
    )
    normalise = choose_normaliser(protocol, training)
    texts = normalise([study["findings"] for study in studies])
    return Truth(studies, training, validation, texts, normalise, unscored)


def choose_normaliser(protocol: Protocol, training: list[str]) -> Normalise:
    """The function that brings reports into the protocol's form."""
    if protocol.name == "r2gen":
        return r2gen_normaliser(training, protocol.max_words, protocol.min_frequency, protocol.style)
    if protocol.name == "full":
        return lambda reports: [_single_spaced(report, protocol.style) for report in reports]
    return tokenize_coco


def _single_spaced(report: str, style: str) -> str:
    return " ".join(clean_report(report, style).split())


def r2gen_normaliser(training: list[str], max_words: int, min_frequency: int, style: str = "iu") -> Normalise:
    """Cleaning, cut and `<unk>` as R2Gen's decoding does them; the vocabulary comes from the training reports.

    Without training reports no word is replaced. The cut and `<unk>` fall on predictions too. R2Gen's own can hold no
    word outside the vocabulary, but one word more than its references: here both are cut alike.
    """
    counts = Counter(word for report in training for word in clean_report(report, style).split())
    known = {word for word, count in counts.items() if count >= min_frequency}

    def normalise(reports: list[str]) -> list[str]:
        cut = [clean_report(report, style).split()[:max_words] for report in reports]
        return [" ".join(word if word in known or not training else "<unk>" for word in words) for words in cut]

    return normalise


def tokenize_coco(reports: list[str]) -> list[str]:
    """Raw reports through the PTB tokenizer of the MS-COCO evaluation: lower case, punctuation dropped."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    if shutil.which("java") is None:
        raise ValueError("The protocol `coco` needs Java for its tokenizer and there is no `java` on the path.")
    # an empty line would be lost between the lines the tokenizer hands back
    captions = {i: [{"caption": " ".join(report.split()) or "."}] for i, report in enumerate(reports)}
    tokenized = PTBTokenizer().tokenize(captions)
    texts = [tokenized[i][0] for i in range(len(reports)) if i in tokenized]
    # A process that died hands back fewer lines than it got, of one report an empty one.
    if len(texts) < len(reports) or (any(map(str.strip, reports)) and not any(texts)):
        raise ValueError("The protocol `coco` needs Java for its tokenizer, and that process died.")
    return texts
