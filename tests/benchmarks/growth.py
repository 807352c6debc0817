"""How the time of decoding grows with words, views, beams, rows of the bank and studies at once.

    python -m tests.benchmarks.growth --out FILE.json [--models mcsam uar] [--axes words views beams bank batch]
        [--repeats 5] [--threads N] [--device cpu|cuda]

One thing grows at a time; the others stay at one study of IU X-ray: two films, 60 words, beam 3, the model's own bank.
The decoder is of bench size with random weights, and what it reads is random too: films are not looked at. The values
of an axis take turns, after one round that is thrown away; figures are medians. A step is one word of all studies and
beams; `ratio` is its time to that of the axis's first value. FILE.png shows both models beside FILE.json.
`word_share` is what MCSAM's memory and UAR's aligner take of decoding: the time in `embed_words`, the first report
(which computes their tables) not counted.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from radscribe.modeling.modeling_report import ReportEncoderOutput
from tests.benchmarks.bench import MODELS, clock, describe_machine, take_turns, write
from tests.benchmarks.bench_models import SETS, Size, make_model

AXES = {
    "words": [30, 60, 120, 240],
    "views": [1, 2, 3, 4],
    "beams": [1, 2, 4, 8],
    "bank": [64, 512, 2048, 8192],
    "batch": [1, 4, 16, 64],
}
LABELS = {
    "words": "words of a report",
    "views": "films of a study",
    "beams": "beams",
    "bank": "rows of the bank",
    "batch": "studies at once",
}
PLACES = {"mcsam": 49, "uar": 196}  # visual tokens of a film: 7 x 7 of ResNet, 14 x 14 of the tokenizer
# Nothing reads films here, so what would is small.
BLIND = {"layer_type": "basic", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
BASE = replace(SETS["iu"], backbone=BLIND, tokenizer={"hidden_size": 4})


def prepare(name: str, size: Size, beams: int, batch: int, device: str) -> Callable[[], Any]:
    """The decoding of `batch` studies, to be timed."""
    return prepare_decoding(make_model(name, size).eval().to(device), name, size, beams, batch, device)


def prepare_decoding(model: Any, name: str, size: Size, beams: int, batch: int, device: str) -> Callable[[], Any]:
    """The same, by this model."""
    generator = torch.Generator().manual_seed(0)
    N, D = size.views * PLACES[name], size.width
    states = torch.randn(batch, N, D, generator=generator).to(device)
    mask = torch.ones(batch, N, dtype=torch.long, device=device)

    @torch.no_grad()
    def run() -> None:
        # Made anew: generate() repeats a study's tensors for its beams in place.
        encoded = ReportEncoderOutput(last_hidden_state=states, visual_mask=mask)
        write(model, size.words, beams, encoder_outputs=encoded)

    return run


def measure_word_share(name: str, given: argparse.Namespace) -> float:
    """Share of decoding one study that words spend in the memory or the aligner."""
    model, inside = make_model(name, BASE).eval().to(given.device), [0.0]
    embed = model.embed_words

    def timed(ids: torch.Tensor) -> torch.Tensor:
        rows: list[torch.Tensor] = []
        inside[0] += clock(lambda: rows.append(embed(ids)), given.device)
        return rows[0]

    model.embed_words = timed
    run = prepare_decoding(model, name, BASE, 3, 1, given.device)
    run()
    inside[0] = 0.0
    whole = sum(clock(run, given.device) for _ in range(given.repeats))
    return inside[0] / whole


def measure_axis(name: str, axis: str, values: list[int], given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each value of the axis."""
    acts, words = {}, {}
    for value in values:
        size = replace(BASE, **{axis: value}) if axis in ("words", "views", "bank") else BASE
        beams, batch = value if axis == "beams" else 3, value if axis == "batch" else 1
        acts[value], words[value] = prepare(name, size, beams, batch, given.device), size.words
    seconds = take_turns(acts, given.repeats, given.device)
    steps = {value: 1000 * seconds[value] / words[value] for value in values}
    return [
        {"model": name, "axis": axis, "value": value, "seconds": seconds[value]}
        | {"ms_a_step": steps[value], "ratio": steps[value] / steps[values[0]]}
        for value in values
    ]


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """One panel an axis, one line a model: milliseconds of a step."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3 * len(axes), 3), layout="constrained")
    for place, (panel, axis) in enumerate(zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True)):
        for name in dict.fromkeys(row["model"] for row in rows):
            points = [(row["value"], row["ms_a_step"]) for row in rows if (row["model"], row["axis"]) == (name, axis)]
            panel.plot(*zip(*points, strict=True), marker="o", label=name)
        values = sorted({row["value"] for row in rows if row["axis"] == axis})
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.set_xlabel(LABELS[axis])
        if place == 0:
            panel.set_ylabel("ms a word")
            panel.legend()
    figure.savefig(out, dpi=150)


def grow(given: argparse.Namespace, values: dict[str, list[int]] = AXES) -> dict[str, Any]:
    """Measure the axes asked for; the JSON is written anew after each, the figure at the end."""
    torch.set_num_threads(given.threads)
    shares = {name: measure_word_share(name, given) for name in given.models}
    answer: dict[str, Any] = {"machine": describe_machine(given.device), "word_share": shares, "rows": []}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for axis in given.axes:
        for name in given.models:
            answer["rows"] += measure_axis(name, axis, values[axis], given)
            given.out.write_text(json.dumps(answer, indent=1) + "\n")
            print(f"{name} {axis}: last to first {answer['rows'][-1]['ratio']:.2f}", file=sys.stderr)
    draw(answer["rows"], given.out.with_suffix(".png"))
    return answer


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


if __name__ == "__main__":
    grow(make_parser().parse_args())
