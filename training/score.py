"""`radscribe evaluate`: a file of generated reports against a data set, beside answers that never looked at a film.

Protocols (they move results more than most papers' gains, so the one used is always printed):
    r2gen  R2Gen's cleaning on both sides; both cut to 59 words, words outside the vocabulary `<unk>`. R2Gen decodes
           its references from the model's own ids; with only text at hand the vocabulary is rebuilt from the data
           set's training reports (3 occurrences or more, the IU X-ray habit).
    full   R2Gen's cleaning on both sides, nothing cut, nothing replaced.
    coco   raw text through the PTB tokenizer of pycocoevalcap (Java), punctuation dropped.

A score never stands alone: the same code scores the most frequent training report given to everyone, the ONE training
report that has the best BLEU-4 on these very studies, and, where it is given, a control made from shuffled images.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.processing_text import clean_report
from .metrics.nlg import NlgScorer
from .readers.studies import is_phantom_set, load_splits, load_studies
from .sheet import check_sheet, draw_sheet

PROTOCOLS = ("r2gen", "full", "coco")
MAX_WORDS = 59  # R2Gen on IU X-ray: max_seq_length 60 less the start mark
MIN_FREQUENCY = 3  # R2Gen on IU X-ray: words seen less often in training are <unk>
Normalise = Callable[[list[str]], list[str]]


@dataclass
class Truth:
    """What the answers are held against: the studies of one split, and the training reports beside them."""

    studies: list[dict[str, Any]]
    training: list[str]  # findings of the training split, [] where the data set has none
    references: list[str]  # findings of `studies` in the protocol's form
    normalise: Normalise
    unscored: set[str]  # ids of the split whose findings are empty: nothing to compare with

    @property
    def is_phantom(self) -> bool:
        """Whether every study is a phantom, so that the exam can read its report back."""
        return is_phantom_set(study["study_id"] for study in self.studies)


def read_predictions(path: Path) -> dict[str, str]:
    """Read JSON lines {"id": str, "report": str} into {id: report}.

    Raises FileNotFoundError or IsADirectoryError for what is no file, ValueError naming the line that is not JSON,
    lacks a field or repeats an id, and for an empty file.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"Predictions are a file of JSON lines. Got the folder {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"The predictions {path} do not exist; make them with `radscribe generate --out`.")
    reports: dict[str, str] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, report = _parse_prediction(line, f"{path} line {number}")
        if name in reports:
            raise ValueError(f"{path} line {number}: the id {name!r} occurred before; one report a study is expected.")
        reports[name] = report
    if not reports:
        raise ValueError(f"The predictions {path} are empty; make them with `radscribe generate --out`.")
    return reports


def _read_text(path: Path) -> str:
    """A file's text; a picture or an archive in its place is one clear line, not a codec's traceback."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text; predictions are a file of JSON lines.") from error


def _parse_prediction(line: str, where: str) -> tuple[str, str]:
    """(id, report) of one line."""
    expected = 'expected {"id": "...", "report": "..."}'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error.msg}); {expected}.") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "report")):
        raise ValueError(f"{where}: {expected}. Got {line.strip()[:80]}.")
    return row["id"], row["report"]


def match_reports(predictions: dict[str, str], truth: Truth, path: Path, split: str) -> list[str]:
    """The predicted reports in the order of the studies. Raises ValueError unless the two sets of ids are the same."""
    ids = [study["study_id"] for study in truth.studies]
    missing = [name for name in ids if name not in predictions]
    if len(missing) == len(ids):
        raise ValueError(
            f"{path} holds none of the studies of split {split!r}; it was made from another data set or split: "
            "name that one with --references and --split."
        )
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} of the {len(ids)} studies of split {split!r}, the first is {missing[0]!r}; "
            "generate the whole split."
        )
    extra = sorted(set(predictions) - set(ids) - truth.unscored)
    if extra:
        raise ValueError(
            f"{path} holds {len(extra)} ids that are not in split {split!r}, the first is {extra[0]!r}; "
            "name the split they were made from with --split."
        )
    return [predictions[name] for name in ids]


def r2gen_normaliser(training: list[str], max_words: int, min_frequency: int, style: str = "iu") -> Normalise:
    """Cleaning, cut and `<unk>` as R2Gen's decoding does them; the vocabulary comes from the training reports.

    Without training reports no word is replaced. The cut and `<unk>` fall on predictions too: R2Gen's own can hold
    neither a 60th word nor one outside the vocabulary.
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
    return [tokenized[i][0] for i in range(len(reports))]


def choose_normaliser(
    protocol: str, training: list[str], max_words: int, min_frequency: int, style: str = "iu"
) -> Normalise:
    """The function that brings reports into a protocol's form."""
    if protocol == "r2gen":
        return r2gen_normaliser(training, max_words, min_frequency, style)
    if protocol == "full":
        return lambda reports: [clean_report(report, style) for report in reports]
    if protocol == "coco":
        return tokenize_coco
    raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}. Got {protocol!r}.")


def _count_ngrams(words: list[str]) -> Counter[tuple[str, ...]]:
    """How often each 1- to 4-gram occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


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


def most_frequent_report(training: list[str], normalise: Normalise) -> str:
    """The training report whose form under the protocol is the commonest (the first of equals)."""
    forms = normalise(training)
    return training[forms.index(Counter(forms).most_common(1)[0][0])]


def best_single_report(training: list[str], references: list[str], normalise: Normalise) -> str:
    """The training report that, given to every study, has the best BLEU-4 on these references."""
    distinct = list(dict.fromkeys(training))
    return distinct[int(constant_bleu4(normalise(distinct), references).argmax())]


def score_answer(reports: list[str], truth: Truth, scorer: NlgScorer) -> dict[str, Any]:
    """Everything said about one answer (a report a study): word scores, how much it repeats itself, the exam."""
    texts = truth.normalise(reports)
    answer: dict[str, Any] = {
        "scores": scorer.score(texts, truth.references),
        "distinct_reports": len(set(texts)) / len(texts),
        "mean_words": float(np.mean([sum(word != "." for word in text.split()) for text in texts])),
    }
    if truth.is_phantom:
        from .metrics.phantom_exam import exam

        answer |= exam(reports, [study["labels"] for study in truth.studies])
    return answer


def _trivial_answers(truth: Truth, scorer: NlgScorer) -> dict[str, Any]:
    """What can be had without looking: one training report for everyone, and on phantoms the best constant units."""
    answers: dict[str, Any] = {}
    if truth.training:
        everyone = len(truth.studies)
        frequent = most_frequent_report(truth.training, truth.normalise)
        single = best_single_report(truth.training, truth.references, truth.normalise)
        answers["most_frequent_report"] = {"report": frequent} | score_answer([frequent] * everyone, truth, scorer)
        answers["best_single_report"] = {"report": single} | score_answer([single] * everyone, truth, scorer)
    if truth.is_phantom:
        from .metrics.phantom_exam import best_constant_exam

        answers["best_constant"] = best_constant_exam([study["labels"] for study in truth.studies])
    return answers


def _load_truth(references: Path, split: str, protocol: str, max_words: int, min_frequency: int, style: str) -> Truth:
    """The split's studies with findings, the training reports, and the protocol's normaliser built from them."""
    rows = list(load_studies(references, split))
    studies = [study for study in rows if study["findings"].strip()]
    if not studies:
        raise ValueError(f"No study of split {split!r} of {references} has findings to compare with.")
    unscored = {study["study_id"] for study in rows} - {study["study_id"] for study in studies}
    splits = load_splits(references)
    training = [text for text in splits["train"]["findings"] if text.strip()] if "train" in splits else []
    normalise = choose_normaliser(protocol, training, max_words, min_frequency, style)
    return Truth(studies, training, normalise([study["findings"] for study in studies]), normalise, unscored)


def evaluate(
    predictions: Path,
    references: Path,
    split: str = "test",
    protocol: str = "r2gen",
    control: Path | None = None,
    sheet: Path | None = None,
    samples: int = 3,
    max_words: int = MAX_WORDS,
    min_frequency: int = MIN_FREQUENCY,
    style: str = "iu",
) -> dict[str, Any]:
    """Score the predictions file against one split of a prepared data set.

    Returns {"protocol", "split", "studies", "scores", "distinct_reports", "mean_words", "beside": {answer: ...},
    "samples": [...]}, on phantom sets also the exam's keys (`finding_f1.micro` ...); each answer under "beside" has
    the same keys as the model. `control` is a predictions file made from shuffled images. `sheet` is a PNG to be
    written: the films of the samples with report and truth. `max_words` and `min_frequency` concern r2gen alone,
    `style` (the cleaning rules, iu or mimic) r2gen and full.
    Raises ValueError or an OSError with one line for bad input.
    """
    if protocol not in PROTOCOLS:  # before any file is read: the cheapest mistake first
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}. Got {protocol!r}.")
    if sheet is not None:
        check_sheet(sheet, samples)
    reports = {"model": read_predictions(predictions)}
    if control is not None:
        reports["shuffled_images"] = read_predictions(control)
    truth = _load_truth(Path(references), split, protocol, max_words, min_frequency, style)
    matched = match_reports(reports["model"], truth, predictions, split)
    result: dict[str, Any] = {"protocol": describe_protocol(protocol, truth, max_words, min_frequency, style)}
    result |= {"predictions": os.fspath(predictions), "split": split, "studies": len(matched)}
    result |= {"without_findings": len(truth.unscored)}
    with NlgScorer() as scorer:
        result |= score_answer(matched, truth, scorer)
        result["beside"] = {}
        if control is not None:
            shuffled = match_reports(reports["shuffled_images"], truth, control, split)
            result["beside"]["shuffled_images"] = score_answer(shuffled, truth, scorer)
        result["beside"] |= _trivial_answers(truth, scorer)
    result["samples"] = pick_samples(truth.studies, matched, samples)
    if sheet is not None:
        result["sheet"] = os.fspath(draw_sheet(result["samples"], sheet))
    return result


def describe_protocol(protocol: str, truth: Truth, max_words: int, min_frequency: int, style: str) -> dict[str, Any]:
    """The protocol with what it depends on, to be printed and saved beside every score."""
    described: dict[str, Any] = {"name": protocol}
    if protocol == "r2gen":
        described |= {
            "style": style,
            "max_words": max_words,
            "min_frequency": min_frequency,
            "unk": bool(truth.training),
        }
    return described


def pick_samples(studies: list[dict[str, Any]], reports: list[str], count: int) -> list[dict[str, Any]]:
    """`count` studies spread evenly over the split, not chosen by how well they went."""
    if count < 1:
        return []
    chosen = np.unique(np.linspace(0, len(studies) - 1, count).round().astype(int))
    return [
        {
            "id": studies[i]["study_id"],
            "report": reports[i],
            "truth": studies[i]["findings"],
            "images": list(studies[i]["images"]),
        }
        for i in map(int, chosen)
    ]
