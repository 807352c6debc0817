"""`radscribe ablate RECIPE`: the same recipe with one part changed at a time, each scored on studies it never saw."""

import dataclasses
import json
import re
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

# The parts that MCSAM's abstract claims a gain for, and the rivals of the memory's initialisation.
MCSAM_ARMS = {
    "full": [],
    "memory random": ["memory_init=random"],
    "memory k-means": ["memory_init=kmeans"],
    "no SAM": ["config.sam_layers=0"],
    "no semantic embedding": ["config.semantic_embedding=false"],
    "no prompts": ["config.num_prompts=0"],
    "no memory": ["config.memory_size=0"],
}

# BLEU-4 and CIDEr of UAR's Tables 2, 3 and 4, on IU X-ray. Row (a)'s BLEU-4 contradicts the paper's own text.
UAR_PAPER = {
    "Base": (0.144, 0.271),
    "(a) LSU": (0.177, 0.295),
    "(d) CRA": (0.158, 0.393),
    "(e) LSU, CRA": (0.193, 0.410),
    "(f) LSU, CRA, TIR, one stage": (0.182, 0.460),
    "UAR": (0.200, 0.501),
    "basis uniform": (0.158, 0.428),
    "basis normal": (0.155, 0.427),
    "no gate": (0.155, 0.405),
    "addition": (0.167, 0.376),
}


def list_arms(recipe: Recipe) -> dict[str, list[str]]:
    """Each arm's name and what it sets in the recipe."""
    return MCSAM_ARMS if recipe.model == "mcsam" else _uar_arms(recipe)


def _uar_arms(recipe: Recipe) -> dict[str, list[str]]:
    """The rows of UAR's Tables 2 to 4. Those of one stage train as many steps as both stages have."""
    steps = recipe.max_steps + sum(stage.get("max_steps", recipe.max_steps) for stage in recipe.stages)
    one_stage = ["stages=[]", f"max_steps={steps}"]
    # Paper: an ImageNet ResNet-101 where there is no LSU. This one is small and fresh, as all else in these runs is.
    backbone = (
        "encoder={model_type: resnet, layer_type: basic, embedding_size: 16, hidden_sizes: [16, 32, 64, 128], "
        f"depths: [1, 1, 2, 1], num_channels: {recipe.image_processor.get('num_channels', 3)}}}"
    )
    no_lsu = ["image_tokenizer=null", backbone, f"encoder_learning_rate={recipe.learning_rate}", "film_copies=0"]
    no_cra = ["config.basis_size=0", "config.alignment_weight=0"]
    return {
        "Base": [*one_stage, *no_lsu, *no_cra],
        "(a) LSU": [*one_stage, *no_cra],
        "(d) CRA": [*one_stage, *no_lsu],
        "(e) LSU, CRA": one_stage,
        "(f) LSU, CRA, TIR, one stage": [*one_stage, "config.refine=true"],
        "UAR": [],
        "basis uniform": ["config.basis=uniform"],
        "basis normal": ["config.basis=normal"],
        "no gate": ["config.fusion=none"],
        "addition": ["config.fusion=addition"],
    }


def ablate(recipe: str, overrides: list[str]) -> dict[str, Any]:
    """Train and score every arm, each in a folder of its own; arms that are done already are not trained again.

    The folders lie under `output_dir`, or beside it (`..._ablation`) where that is the recipe's own, which belongs to
    `radscribe train`.

    Returns:
        `recipe`, `split` and `rows`, one an arm: finding F1 micro (phantoms only), BLEU-4, CIDEr, share of distinct
        reports, minutes of training; for UAR also BLEU-4 and CIDEr as the paper has them on IU X-ray.

    Raises:
        ValueError: what `load_recipe`, `train` and `generate` say; no test split; an arm done with other settings.
    """
    settings = load_recipe(recipe, overrides)
    load_studies(Path(settings.dataset), "test")  # not there: said before an arm is trained, not after
    is_own = any(override.startswith("output_dir=") for override in overrides)
    folder = Path(settings.output_dir if is_own else f"{settings.output_dir}_ablation")
    arms = list_arms(settings)
    rows = []
    for number, (arm, change) in enumerate(arms.items(), start=1):
        print(f"arm {number}/{len(arms)}: {arm}", file=sys.stderr, flush=True)
        run = folder / re.sub(r"\W+", "_", arm).strip("_")
        row = _finish_arm(arm, recipe, [*overrides, f"output_dir={run}", *change], run)
        rows.append(row | _paper_figures(settings.model, arm))
    result = {"recipe": recipe, "split": "test", "rows": rows}
    (folder / "ablation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _paper_figures(model: str, arm: str) -> dict[str, float]:
    if model != "uar":
        return {}
    bleu_4, cider = UAR_PAPER[arm]
    return {"paper_bleu_4": bleu_4, "paper_cider": cider}


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
