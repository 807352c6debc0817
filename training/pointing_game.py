"""Does the heat of a finding lie where the finding is? Measured on phantoms, whose findings have known boxes.

    python -m radscribe.training.pointing_game MODEL --dataset data/phantom [--split test] [--shuffle-images SEED]

The model reads each study's true report, so that all models are asked for the same findings. For each sentence that
states a finding: the share of its heat that lies inside the finding's boxes, and whether its hottest pixel does (the
pointing game of Zhang et al., IJCV 2018), the same for the decoder's attention, and the share of the films that the
boxes cover, which is what a map without any sense would reach. With shuffled films the maps are those of another
study's films: what is left then is knowledge of where such findings usually are.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from .build import load_checkpoint
from .data import shuffled_films
from .errors import one_line
from .explain import Explanation, explain_study
from .readers.phantom_grammar import read_report
from .readers.studies import is_phantom_set, load_studies

SCORES = ("heat_inside", "heat_hit", "attention_inside", "attention_hit", "chance")


def play(
    model: str, dataset: Path, split: str = "test", shuffle_images: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Play for all findings of a split of phantoms.

    Returns:
        `findings`, their number, and the means over them of SCORES; `rows` has the same for each kind of finding.

    Raises:
        ValueError: no phantoms, no such checkpoint or split, a model that has not learnt phantoms' words.
    """
    studies = load_studies(dataset, split)
    if not is_phantom_set(studies["study_id"]):
        raise ValueError(f"The findings of `{dataset}` have no boxes: only phantoms do (`radscribe prepare phantom`).")
    studies = studies.select(range(min(len(studies), limit or len(studies))))
    network, processor = load_checkpoint(model)
    films = list((studies if shuffle_images is None else shuffled_films(studies, shuffle_images))["images"])
    played: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for study, images in zip(track(studies, "pointing", console=Console(stderr=True)), films, strict=True):
        seen = images[: network.config.max_views]
        explanation = explain_study(network.eval(), processor, seen, study["findings"])
        for kind, scores in _score(explanation, study["labels"]):
            played[kind].append(scores)
    if not played:
        raise ValueError(f"`{model}` can read no finding of these reports: its vocabulary is not that of phantoms.")
    everything = [scores for rows in played.values() for scores in rows]
    rows = [{"kind": kind, **_mean(played[kind])} for kind in sorted(played)]
    return _mean(everything) | {"rows": rows}


def _score(explanation: Explanation, labels: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Kind and scores of each finding that a sentence states and a film shows."""
    for sentence in explanation.sentences:
        words = range(sentence.start, sentence.stop)
        heat = explanation.on_films(explanation.heat_of(words))
        attention = explanation.on_films(explanation.attention_of(words))
        for finding in read_report(sentence.text).findings:
            inside = _inside(explanation, [label for label in labels if label["name"] == finding.name])
            if any(mask.any() for mask in inside):
                mask = np.concatenate([part.ravel() for part in inside])
                yield finding.kind, (*_compare(heat, mask), *_compare(attention, mask), float(mask.mean()))


def _inside(explanation: Explanation, labels: list[dict[str, Any]]) -> list[np.ndarray]:
    """Which pixels of each film (H, W) lie in a box of these labels."""
    inside = [np.zeros(film.shape, bool) for film in explanation.films]
    for label in labels:
        if 0 <= label["image"] < len(inside):
            left, top, right, bottom = (int(round(edge)) for edge in label["box"])
            inside[label["image"]][top:bottom, left:right] = True
    return inside


def _compare(maps: list[np.ndarray], inside: np.ndarray) -> tuple[float, float]:
    """Share of the maps' sum that lies inside, and whether their highest pixel does; all views' pixels are one row."""
    pixels = np.concatenate([part.ravel() for part in maps])
    return float(pixels[inside].sum() / max(pixels.sum(), 1e-12)), float(inside[pixels.argmax()])


def _mean(scores: list[tuple[float, ...]]) -> dict[str, Any]:
    return {"findings": len(scores)} | dict(zip(SCORES, np.mean(scores, axis=0).round(4).tolist(), strict=True))


def main() -> None:
    """The command of the module's head; one JSON document on stdout."""
    parser = argparse.ArgumentParser(description="Share of a finding's heat inside its box, on phantoms.")
    parser.add_argument("model")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--shuffle-images", type=int, metavar="SEED")
    parser.add_argument("--studies", type=int, help="the first so many; all where left out")
    a = parser.parse_args()
    try:
        print(json.dumps(play(a.model, a.dataset, a.split, a.shuffle_images, a.studies)))
    except (ValueError, OSError) as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
