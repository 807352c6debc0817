"""The paper-size recipes for a few steps: work, memory and time of one, and what a card would need for all of them.

python -m tests.benchmarks.paper_size [RECIPE ...]

Untrained weights and made-up films and words of the recipe's sizes; each recipe in a process of its own. The estimate
is arithmetic, not a measurement: a card does `UTILISATION` of its bf16 peak, or waits for `LAUNCH` seconds a step,
whichever takes longer; eight cards take 16 studies each, so an eighth of the steps. Reading films is left out.
"""

import json
import resource
import subprocess
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from radscribe.training.build import MODELS
from radscribe.training.recipe import CONFIGS, Recipe, load_recipe

RECIPES = ("mcsam_iu", "mcsam_mimic", "uar_iu", "uar_mimic")
WORDS = {"iu": 761, "mimic": 4335}  # words of R2Gen's vocabularies
STEPS = 3
PEAK, UTILISATION, LAUNCH = 989e12, 0.2, 0.04  # an H100's dense bf16 operations a second; shares and seconds guessed


def build(recipe: Recipe) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """The recipe's model with fresh weights, and a batch for it."""
    kind = "mimic" if recipe.report_style == "mimic" else "iu"
    size, views = recipe.image_processor["size"], recipe.config.get("max_views", 2)
    parts = {"image_size": size} if recipe.model == "uar" else {}
    config = CONFIGS[recipe.model](vocab_size=WORDS[kind], **parts, **recipe.config)
    shape = (recipe.batch_size, views, 3, size, size)
    labels = torch.randint(4, WORDS[kind], (recipe.batch_size, recipe.max_length - 1))
    return MODELS[recipe.model](config).train(), {"pixel_values": torch.rand(shape), "labels": labels}


def measure(name: str) -> dict[str, object]:
    """Operations, peak memory and median seconds of a step of this recipe on this machine."""
    recipe = load_recipe(name)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, batch = build(recipe)
    model, batch = model.to(device), {name: value.to(device) for name, value in batch.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    steps = recipe.max_steps + sum(stage.get("max_steps", 0) for stage in recipe.stages)
    return {
        "recipe": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "operations": counter.get_total_flops(),
        "seconds": sorted(times)[STEPS // 2],
        "gib": torch.cuda.max_memory_allocated() / 2**30
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "steps": steps,
    }


def estimate(row: dict[str, object]) -> tuple[float, float]:
    """Hours on one H100 and on eight."""
    step = max(row["operations"] / (UTILISATION * PEAK), LAUNCH)
    return row["steps"] * step / 3600, row["steps"] / 8 * step / 3600


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] == "--one":
        print(json.dumps(measure(sys.argv[2])))
        return
    head = (
        "recipe | parameters | 10^12 operations a step | s a step here | peak GiB here | steps | 1 H100, h | 8 H100, h"
    )
    print(f"| {head} |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or RECIPES:
        command = [sys.executable, "-m", "tests.benchmarks.paper_size", "--one", name]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        one, eight = estimate(row)
        print(
            f"| `{name}` | {row['parameters'] / 1e6:.0f} M | {row['operations'] / 1e12:.2f} | {row['seconds']:.1f} "
            f"| {row['gib']:.1f} | {row['steps']:,} | {one:.1f} | {eight:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
