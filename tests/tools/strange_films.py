"""How often a checkpoint calls films strange: real ones of a split, these changed, phantoms, photographs, noise.

python -m tests.tools.strange_films MODEL --dataset DIR [--split val]

Prints the README's table. Photographs are those that come with scikit-learn and, where it is installed, scikit-image.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from PIL import Image, ImageOps

from radscribe.processing.image_processing_cxr import read_grey
from radscribe.training.build import load_checkpoint
from radscribe.training.data import load_films
from radscribe.training.facts import TrainingFacts
from radscribe.training.readers.phantom import write_phantoms
from radscribe.training.readers.studies import load_studies

CHANGED = 75  # studies whose films are changed
DRAWN = 20  # of each kind of noise
SIDE = 256
PHOTOGRAPHS = (
    "astronaut.png brick.png camera.png cell.png chelsea.png coffee.png coins.png grass.png gravel.png "
    "hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png page.png retina.jpg rocket.jpg text.png"
).split()


def quarter(film: Image.Image, x: float, y: float) -> Image.Image:
    """A quarter of a film's area, its corner at this share of the sides."""
    left, top = int(x * film.width), int(y * film.height)
    return film.crop((left, top, left + film.width // 2, top + film.height // 2))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "turned by 90 degrees": lambda film: film.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda film: film.transpose(Image.Transpose.ROTATE_180),
    "inverted": ImageOps.invert,
    "a quarter, the upper left": lambda film: quarter(film, 0, 0),
    "a quarter, the middle": lambda film: quarter(film, 0.25, 0.25),
    "turned by 15 degrees": lambda film: film.rotate(15),
    "left and right swapped": ImageOps.mirror,
}


def photographs() -> Iterator[Image.Image]:
    paths = [Path(name) for name in sklearn.datasets.load_sample_images().filenames]
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        print("scikit-image is not installed: two photographs are all there are", file=sys.stderr)
    else:
        paths += [Path(found.origin).parent / "data" / name for name in PHOTOGRAPHS]
    yield from map(read_grey, paths)


def noise() -> dict[str, Iterable[np.ndarray]]:
    random = np.random.default_rng(0)
    return {
        "noise, uniform": [random.uniform(0, 256, (SIDE, SIDE)) for _ in range(DRAWN)],
        "noise, Gaussian": [random.normal(128, 40, (SIDE, SIDE)).clip(0, 255) for _ in range(DRAWN)],
        "one grey": [np.full((SIDE, SIDE), grey) for grey in np.linspace(0, 255, DRAWN)],
    }


def drawn_films() -> Iterator[tuple[str, Iterable[Image.Image]]]:
    """Films that show no patient, by their kind."""
    yield "photographs", photographs()
    for kind, films in noise().items():
        yield kind, [Image.fromarray(film.astype(np.uint8)) for film in films]
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "set", 50, 9)
        paths = [path for films in load_studies(Path(folder) / "set", "train")["images"] for path in films]
        yield "phantoms", [read_grey(path).copy() for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description="How often a checkpoint calls films strange.")
    parser.add_argument("model")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    facts, studies = TrainingFacts.load(arguments.model), load_studies(arguments.dataset, arguments.split)
    if facts is None or facts.films is None:
        sys.exit(f"Error: `{arguments.model}` ships no facts of its training films: radscribe.training.facts.")
    network, processor = load_checkpoint(arguments.model)
    network.eval()

    def measure(batches: Iterable[dict[str, Any]]) -> np.ndarray:
        return np.concatenate([facts.strangeness(network, batch) for batch in batches])

    def one_by_one(films: Iterable[Image.Image]) -> Iterator[dict[str, Any]]:
        for film in films:
            yield processor(images=[[film]], return_tensors="pt")

    views = [min(len(paths), network.config.max_views) for paths in studies["images"]]
    known = measure(load_films(network, processor, 32, 0, studies))
    of_study = [part.max() for part in np.split(known, np.cumsum(views)[:-1])]
    print("| films | number | called strange | median strangeness |\n|---|---|---|---|")
    show(f"{arguments.split}, as they are", known)
    show("the same by study: its strangest film", np.array(of_study))
    paths = [path for row in studies["images"][:CHANGED] for path in row[: network.config.max_views]]
    for kind, change in CHANGES.items():
        show(f"{arguments.split}, {kind}", measure(one_by_one(change(read_grey(path)) for path in paths)))
    for kind, films in drawn_films():
        show(kind, measure(one_by_one(films)))


def show(kind: str, found: np.ndarray) -> None:
    share = (found > 1).mean()
    print(
        f"| {kind} | {len(found)} | {100 * share:.{0 if share in (0, 1) else 1}f} % | {np.median(found):.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
