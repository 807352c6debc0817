"""What a checkpoint ships of its training set: which films are strange to it, and how common a sentence was.

`training_facts.safetensors` lies beside the weights, and no loader of Transformers looks for it. It holds a Gaussian
of what the training films look like to the model (film_domain.py), and in how many training reports each sentence
stands. Of a sentence 64 bits of a hash are kept and no word. What stands in one report only is left out: it would be
most of the file, and tell who guesses it that this one patient's report was learnt from.

`radscribe train` makes it as a run ends; for a checkpoint that has none:
python -m radscribe.training.facts CHECKPOINT --dataset DIR
"""

import argparse
import hashlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from transformers.utils import cached_file

from ..processing.processing_report import ReportProcessor
from ..processing.processing_text import clean_report
from .build import find_checkpoint, load_checkpoint
from .data import encode_films, load_films
from .errors import one_line
from .film_domain import FilmDomain, films_heard, fit_domain
from .processes import this_process
from .readers.parts import write_whole
from .readers.studies import load_studies
from .recipe import Recipe

FILE = "training_facts.safetensors"
MOST_STUDIES = 1000  # whose films are read; twice as many find no more
MOST_SENTENCES = 50_000  # that are stored: 600 kB


@dataclass(frozen=True)
class TrainingFacts:
    """Facts of the training set of one checkpoint.

    Args:
        reports: training reports that have words.
        hashes: of sentences, uint64 and sorted, (S,).
        counts: reports that hold each, (S,).
        rarer: reports that hold a sentence which is not stored, at most.
        style: cleaning rules of the reports, "iu" or "mimic".
        films: what is usual of a film; None where that could not be told.
    """

    reports: int
    hashes: np.ndarray
    counts: np.ndarray
    rarer: int
    style: str
    films: FilmDomain | None

    @classmethod
    def collect(
        cls, network: Any, processor: ReportProcessor, studies: datasets.Dataset, workers: int = 0
    ) -> "TrainingFacts":
        """Facts of these training studies: all their reports, the films of up to MOST_STUDIES of them.

        Where films cannot be read, their facts are left out and a line on stderr says why.
        """
        counted = count_sentences(studies["findings"], processor.report_style)
        chosen = np.random.default_rng(0).permutation(len(studies))[:MOST_STUDIES]
        try:
            films = _learn_films(network, load_films(network, processor, 32, workers, studies.select(chosen)))
        except (ValueError, OSError, RuntimeError) as error:  # a loading process wraps errors of its own
            print(f"which films are strange cannot be told: {one_line(error)[:300]}", file=sys.stderr)
            films = None
        return cls(*counted, style=processor.report_style, films=films)

    @classmethod
    def load(cls, model: str) -> "TrainingFacts | None":
        """Facts of a run's folder, a shipped checkpoint or a Hub name; None where it has none.

        Raises:
            ValueError: a file that is damaged.
        """
        try:
            found = cached_file(find_checkpoint(model), FILE)
        except OSError:  # so Transformers says that there is no such file
            return None
        try:
            with safe_open(found, framework="np") as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            films = FilmDomain(**{name: tensors.pop(name) for name in TENSORS}) if "mean" in tensors else None
            return cls(**facts, **tensors, films=films)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"`{found}` is damaged ({one_line(error)[:200]}). Remove it, or make it anew.") from error

    def save(self, folder: str | Path) -> Path:
        """Write the file into a checkpoint's folder, and say where it lies."""
        facts: dict[str, Any] = {"reports": self.reports, "rarer": self.rarer, "style": self.style}
        tensors = {"hashes": self.hashes, "counts": self.counts}
        if self.films is not None:
            tensors |= {name: getattr(self.films, name) for name in TENSORS}
        path = Path(folder) / FILE
        # Safetensors takes an array as it lies in memory: one that is turned would come back scrambled.
        content = save(
            {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, {"facts": json.dumps(facts)}
        )
        write_whole(path, lambda part: part.write_bytes(content))
        return path

    def share_of(self, sentence: str) -> float | None:
        """Share of the training reports that hold exactly this sentence, cleaned as they are.

        None where `rarer` reports or fewer do, and for what is not one sentence.
        """
        found = sentences_of(sentence, self.style)
        if len(found) != 1:
            return None
        key = hash_sentence(found[0])
        row = int(np.searchsorted(self.hashes, np.uint64(key)))
        is_known = row < len(self.hashes) and int(self.hashes[row]) == key
        return int(self.counts[row]) / self.reports if is_known else None

    def tell_share(self, sentence: str) -> str:
        """How common a sentence is, in words; "" for what is not one sentence."""
        if len(sentences_of(sentence, self.style)) != 1:
            return ""
        share = self.share_of(sentence)
        if share is None:
            return f"in at most {self.rarer} of {self.reports:,} training reports"
        return f"in {round(share * self.reports):,} of {self.reports:,} training reports ({share:.1%})"

    def strangeness(self, network: Any, batch: dict[str, Any]) -> np.ndarray | None:
        """How far each film lies from the training films: above 1 it is out of domain. Study by study: (films,).

        Args:
            batch: `pixel_values` (B, V, C, H, W) and `view_mask` (B, V), as the processor makes them.

        Returns:
            An array of the films that `view_mask` marks, (V,) for one study; None without facts of films.
        """
        if self.films is None:
            return None
        heard: list[np.ndarray] = []
        with films_heard(network, heard.append), torch.inference_mode():
            encode_films(network, batch)
        return self.films.strangeness(np.concatenate(heard))


TENSORS = [field.name for field in fields(FilmDomain)]


def sentences_of(report: str, style: str) -> list[str]:
    """The sentences of a report, cleaned and without their stops."""
    words = clean_report(report, style).split()
    return [" ".join(sentence) for is_stop, sentence in itertools.groupby(words, ".".__eq__) if not is_stop]


def hash_sentence(sentence: str) -> int:
    """64 bits that are the same on any machine, unlike Python's own hash."""
    return int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=8).digest(), "little")


def count_sentences(reports: Iterable[str], style: str) -> tuple[int, np.ndarray, np.ndarray, int]:
    """Reports with words, hashes (S,) and counts (S,) of what stands in more than `rarer` of them, and `rarer`."""
    held = [set(sentences) for report in reports if (sentences := sentences_of(report, style))]
    counts = Counter(itertools.chain.from_iterable(held))
    ordered = sorted(counts.values(), reverse=True)
    rarer = max(1, ordered[MOST_SENTENCES]) if len(ordered) > MOST_SENTENCES else 1
    rows = sorted((hash_sentence(sentence), count) for sentence, count in counts.items() if count > rarer)
    hashes, numbers = zip(*rows, strict=True) if rows else ((), ())
    return len(held), np.array(hashes, np.uint64), np.array(numbers, np.int32), rarer


@torch.inference_mode()
def _learn_films(network: Any, loader: Any) -> FilmDomain:
    """What is usual of the films of these batches."""
    features: list[np.ndarray] = []
    views: list[int] = []
    with films_heard(network, features.append):
        for batch in track(loader, "reading training films", console=Console(stderr=True), transient=True):
            encode_films(network, batch)
            views += batch["view_mask"].sum(1).tolist()
    return fit_domain(np.concatenate(features), np.repeat(np.arange(len(views)), views))


def write_facts(checkpoint: str, dataset: Path, out: str | Path, workers: int = 1) -> Path:
    """Facts of a checkpoint and the set it was trained on, written into the folder `out`.

    Raises:
        ValueError: no checkpoint or data set there.
    """
    network, processor = load_checkpoint(checkpoint)  # anew: that of a run may be spread over processes
    network = network.to(this_process().device).eval()
    path = TrainingFacts.collect(network, processor, load_studies(dataset, "train"), workers).save(out)
    print(f"facts of the training set: {path} ({path.stat().st_size / 1e3:.0f} kB)", file=sys.stderr)
    return path


def add_facts(recipe: Recipe) -> None:
    """As a run ends, by its main process: the facts of what it has learnt from, beside its weights."""
    if this_process().is_main_process:
        write_facts(recipe.output_dir, Path(recipe.dataset), recipe.output_dir, recipe.workers)
    this_process().wait_for_everyone()


def main() -> None:
    parser = argparse.ArgumentParser(description="Facts of the training set, for a checkpoint that has none.")
    parser.add_argument("checkpoint", help="a run's folder, a Hub name, or one that comes with the package")
    parser.add_argument("--dataset", type=Path, required=True, help="the prepared data set that it was trained on")
    parser.add_argument("--out", type=Path, help="folder; left out: the checkpoint's own")
    arguments = parser.parse_args()
    out = arguments.out or Path(find_checkpoint(arguments.checkpoint))
    try:
        if not out.is_dir():
            raise NotADirectoryError(f"There is no folder `{out}` to write to: name one by `--out`.")
        write_facts(arguments.checkpoint, arguments.dataset, out)
    except (ValueError, OSError) as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
