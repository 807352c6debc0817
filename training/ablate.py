"""`radscribe ablate RECIPE`: the same recipe with one part changed at a time, each scored on studies it never saw."""

import json
import sys
from pathlib import Path
from typing import Any

from ..processing.processing_text import clean_report
from .generate import generate
from .metrics.nlg import nlg_scores
from .metrics.phantom_exam import exam
from .readers.studies import load_studies
from .recipe import load_recipe
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
    """Train and score every arm under `output_dir`; arms that are done already are not trained again.

    Returns:
        `recipe`, `split` and `rows`, one an arm: finding F1 micro (phantoms only), BLEU-4, CIDEr, share of distinct
        reports, minutes of training.

    Raises:
        ValueError: what `load_recipe`, `train` and `generate` say.
    """
    settings = load_recipe(recipe, overrides)
    arms = ARMS[settings.model]
    rows = []
    for number, (arm, change) in enumerate(arms.items(), start=1):
        run = Path(settings.output_dir) / arm.replace(" ", "_")
        scores = run / "ablation.json"
        if not scores.exists():
            print(f"arm {number}/{len(arms)}: {arm}", file=sys.stderr, flush=True)
            resume = (run / "checkpoints").is_dir() and any((run / "checkpoints").iterdir())
            changed = [*overrides, f"output_dir={run}", *([change] if change else [])]
            done = train(recipe, changed, resume=resume)
            scores.write_text(json.dumps(_score(arm, run, Path(settings.dataset)) | {"minutes": done["minutes"]}))
        rows.append(json.loads(scores.read_text()))
    result = {"recipe": recipe, "split": "test", "rows": rows}
    (Path(settings.output_dir) / "ablation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _score(arm: str, run: Path, dataset: Path) -> dict[str, Any]:
    """Reports of the test split against the truth."""
    studies = load_studies(dataset, "test")
    lines = generate([], dataset, "test", None, str(run), run / "reports.jsonl")
    reports = [line["report"] for line in lines]
    row: dict[str, Any] = {"arm": arm}
    if all(name.startswith("phantom-") for name in studies["study_id"]):
        row["finding_f1"] = exam(reports, list(studies["labels"]))["finding_f1"]["micro"]
    cleaned = [clean_report(report) for report in reports]
    scores = nlg_scores(cleaned, [clean_report(text) for text in studies["findings"]], meteor=False)
    return row | {"bleu_4": scores["bleu_4"], "cider": scores["cider"], "distinct": len(set(cleaned)) / len(cleaned)}
