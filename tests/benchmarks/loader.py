"""Whether films are read as fast as a model learns from them.

    python -m tests.benchmarks.loader --out FILE.json [--films 64] [--workers 2] [--batch 16] [--threads N]
        [--device cpu|cuda]

Three kinds of JPEG film, drawn as noise over a slope so that they compress as films do: 256 pixels (IU X-ray as it is
often passed on), 512, and 2,544 x 3,056 (MIMIC-CXR-JPG). Each is read by the loader that training uses, augmentation
and collating included, from its file and again from memory (`keep_films`), and counted in films a second; beside them
what MCSAM at bench size (ResNet-101 at 224 pixels, two films a study) learns from in a second. `ratio` is the loader's
rate to the model's: below 1 the model waits.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image

from radscribe.processing.augmentation_cxr import CXRAugmentation
from radscribe.processing.image_processing_cxr import CXRImageProcessor
from radscribe.processing.processing_mcsam import MCSAMProcessor
from radscribe.processing.processing_text import build_tokenizer
from radscribe.training.data import StudyFilms, collate_with
from tests.benchmarks.bench import clock, describe_machine, prepare
from tests.benchmarks.bench_models import SETS, make_batch, make_model

FILMS = {"256": (256, 210), "512": (512, 420), "mimic": (3056, 2544)}  # rows, columns
AUGMENTATION = {"degrees": 5.0, "zoom": 0.05, "shift": 0.03, "exposure": 0.1, "contrast": 0.15}
REPORT = "the heart is normal in size . the lungs are clear ."
PASSES = 3  # over the films: the first one fills the memory and is not counted


def draw_films(folder: Path, shape: tuple[int, int], films: int) -> datasets.Dataset:
    """Studies of two films each, of their own pixels."""
    generator = np.random.default_rng(0)
    slope = np.linspace(40, 200, shape[1])[None]
    for film in range(films):
        grain = np.kron(generator.normal(0, 12, (shape[0] // 4 + 1, shape[1] // 4 + 1)), np.ones((4, 4)))
        pixels = (slope + grain[: shape[0], : shape[1]]).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{film}.jpg", quality=90)
    paths = [[str(folder / f"{film}.jpg"), str(folder / f"{film + 1}.jpg")] for film in range(0, films, 2)]
    return datasets.Dataset.from_dict({"images": paths, "findings": [REPORT] * len(paths)})


def loader_rate(studies: datasets.Dataset, keep: bool, given: argparse.Namespace) -> float:
    """Films a second of the training loader, with nobody to wait for."""
    processor = MCSAMProcessor(CXRImageProcessor(), build_tokenizer([REPORT], min_frequency=1))
    fitted = processor.image_processor
    films = StudyFilms(studies, CXRAugmentation(**AUGMENTATION), keep=fitted if keep else None, shrink=2 * fitted.size)
    loader = torch.utils.data.DataLoader(
        films,
        batch_size=given.batch,
        num_workers=given.workers,
        persistent_workers=given.workers > 0,
        collate_fn=collate_with(processor, max_views=2),
    )
    sum(1 for _ in loader)
    begun = time.perf_counter()
    seen = sum(int(batch["view_mask"].sum()) for _ in range(PASSES - 1) for batch in loader)
    return seen / (time.perf_counter() - begun)


def model_rate(given: argparse.Namespace) -> float:
    """Films a second that training MCSAM takes in."""
    size = SETS["iu"]
    inputs = make_batch("mcsam", size, given.batch, given.device)
    step = prepare("train", make_model("mcsam", size).to(given.device), inputs, given.dtype)
    step()
    seconds = min(clock(step, given.device) for _ in range(2))
    return given.batch * size.views / seconds


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """`{"machine": facts, "model_films_a_second": ..., "rows": [{film, kept, films_a_second, ratio}, ...]}`."""
    torch.set_num_threads(given.threads)
    model = model_rate(given)
    answer: dict[str, Any] = {"machine": describe_machine(given.device), "model_films_a_second": model, "rows": []}
    for name, shape in FILMS.items():
        with tempfile.TemporaryDirectory() as folder:
            studies = draw_films(Path(folder), shape, given.films)
            for keep in (False, True):
                rate = loader_rate(studies, keep, given)
                row = {"film": name, "kept": keep, "workers": given.workers, "films_a_second": rate}
                answer["rows"].append(row | {"ratio": rate / model})
                print("{film} kept {kept}: {films_a_second:.0f} films/s, {ratio:.1f} x".format(**answer["rows"][-1]))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(answer, indent=1) + "\n")
    return answer


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--films", type=int, default=64, help="of each kind")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=16, help="studies")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


if __name__ == "__main__":
    measure(make_parser().parse_args())
