"""`radscribe ablate RECIPE`: the same recipe with one part changed at a time, each scored on studies it never saw."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from ..processing.processing_text import clean_report
from .generate import generate
from .metrics.nlg import nlg_scores
from .metrics.phantom_exam import exam
from .readers.studies import is_phantom_set, load_studies
from .recipe import Recipe, load_recipe
from .train import train

# MCSAM: the parts that the paper's abstract claims a gain for, and the rivals of the memory's initialisation.
ARMS: dict[str, dict[str, str]] = {
    "mcsam": {
        "full": "",
        "memory random": "memory_init=random",
        "memory k-means": "memory_init=kmeans",
        "no SAM": "config.sam_layers=0",
        "no semantic embedding": "config.semantic_embedding=false",
        "no prompts": "config.num_prompts=0",
        "no memory": "config.memory_size=0",
    }
}


def ablate(recipe: str, overrides: list[str]) -> dict[str, Any]:
    """Train and score every arm, each in a folder of its own; arms that are done already are not trained again.

    The folders lie under `output_dir`, or beside it (`..._ablation`) where that is the recipe's own, which belongs to
    `radscribe train`.

    Returns:
        `recipe`, `split` and `rows`, one an arm: finding F1 micro (phantoms only), BLEU-4, CIDEr, share of distinct
        reports, minutes of training.

    Raises:
        ValueError: what `load_recipe`, `train` and `generate` say; no test split; an arm done with other settings.
    """
    settings = load_recipe(recipe, overrides)
    load_studies(Path(settings.dataset), "test")  # not there: said before an arm is trained, not after
    is_own = any(override.startswith("output_dir=") for override in overrides)
    folder = Path(settings.output_dir if is_own else f"{settings.output_dir}_ablation")
    arms = ARMS[settings.model]
    rows = []
    for number, (arm, change) in enumerate(arms.items(), start=1):
        print(f"arm {number}/{len(arms)}: {arm}", file=sys.stderr, flush=True)
        run = folder / arm.replace(" ", "_")
        rows.append(_finish_arm(arm, recipe, [*overrides, f"output_dir={run}", *([change] if change else [])], run))
    result = {"recipe": recipe, "split": "test", "rows": rows}
    (folder / "ablation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _finish_arm(arm: str, recipe: str, overrides: list[str], run: Path) -> dict[str, Any]:
    """The row of one arm: found, gone on with where it was cut off, or trained and scored from the start."""
    settings, scores, trained = load_recipe(recipe, overrides), run / "ablation.json", run / "result.json"
    if scores.exists():
        done = json.loads(scores.read_text())
        if done["recipe"] != dataclasses.asdict(settings):
            raise ValueError(f"`{run}` holds an arm made with other settings. Remove it or set another `output_dir`.")
        return done["row"]
    if not trained.exists():
        minutes = train(recipe, overrides, resume=(run / "recipe.yaml").is_file())["minutes"]
    else:
        minutes = json.loads(trained.read_text())["minutes"]
    row = _score(arm, run, settings) | {"minutes": minutes}
    scores.write_text(json.dumps({"row": row, "recipe": dataclasses.asdict(settings)}))
    return row


def _score(arm: str, run: Path, recipe: Recipe) -> dict[str, Any]:
    """Reports of the test split against the truth; word scores over cleaned reports, nothing cut or replaced."""
    dataset = Path(recipe.dataset)
    studies = load_studies(dataset, "test")
    reports = [line["report"] for line in generate([], dataset, "test", None, str(run), run / "reports.jsonl")]
    row: dict[str, Any] = {"arm": arm}
    if is_phantom_set(studies["study_id"]):
        row["finding_f1"] = exam(reports, list(studies["labels"]))["finding_f1"]["micro"]
    cleaned, truth = (
        [clean_report(text, recipe.report_style) for text in texts] for texts in (reports, studies["findings"])
    )
    scores = nlg_scores(cleaned, truth, meteor=False)
    return row | {"bleu_4": scores["bleu_4"], "cider": scores["cider"], "distinct": len(set(cleaned)) / len(cleaned)}
