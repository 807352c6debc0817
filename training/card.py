"""The model card of an export: what the model is and is not, how it was trained, its scores, how to load it.

Everything in it comes from the checkpoint, from the files of its run (recipe.yaml, environment.json, result.json) and,
where given, from what `radscribe evaluate --json` printed. Paths of the machine stay out of it.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from .card_scores import METRICS, clinical, describe_results

NAMES = {"mcsam": "MCSAM", "uar": "UAR"}
TITLES = {
    "mcsam": "Memory-based Cross-modal Semantic Alignment",
    "uar": "Unify, Align and Refine",
}
SOURCES = {
    "mcsam": "after the paper's published abstract and secondary summaries (its full text was not available to us)",
    "uar": "after the paper's main text (its appendix and code were not available to us)",
}
PARTS = {
    "mcsam": "A visual backbone, a memory bank that films and words retrieve from, a siamese BERT that aligns both, "
    "and a decoder with learnable prompt tokens.",
    "uar": "A frozen tokenizer turns films into discrete tokens, one orthonormal basis aligns tokens and words, and a "
    "decoder writes with a learnt mask in its cross-attention.",
}
SOURCE_NAMES = {"phantom": "radscribe-phantoms", "mimic": "mimic-cxr-jpg", "iu": "iu-xray"}
# Weights inherit the terms of what they were trained on: IU X-ray is CC BY-NC-ND 4.0, MIMIC-CXR credentialed.
LICENCES: dict[str | None, dict[str, Any]] = {
    "radscribe-phantoms": {"license": "apache-2.0"},
    "iu-xray": {"license": "cc-by-nc-4.0"},
    "mimic-cxr-jpg": {
        "license": "other",
        "license_name": "physionet-credentialed-health-data-1.5.0",
        "license_link": "https://physionet.org/content/mimic-cxr-jpg/view-license/2.1.0/",
    },
    None: {"license": "unknown"},
}
# What a recipe may name by a path or a name of the Hub. The dataset and the run's folder are never named.
PLACES = ("encoder", "encoder_weights", "image_tokenizer", "init_from")
UNNAMED = ("dataset", "output_dir", "stages")
TASK = "image-to-text"

CITATIONS = """@article{tao2024mcsam,
  title = {Memory-based Cross-modal Semantic Alignment Network for Radiology Report Generation},
  author = {Tao and Ma and Yu and Zhang},
  journal = {IEEE Journal of Biomedical and Health Informatics},
  year = {2024},
  note = {arXiv:2404.00588}
}

@inproceedings{li2023uar,
  title = {Unify, Align and Refine: Multi-Level Semantic Alignment for Radiology Report Generation},
  author = {Li and Yang and Cheng and Zhu and Li and Zou},
  booktitle = {ICCV},
  pages = {2863--2874},
  year = {2023},
  note = {arXiv:2303.15932}
}"""


def write_card(run: Path, model: PreTrainedModel, out: Path, results: Path | None = None) -> None:
    """Write `out`/README.md for a model of the run's folder `run` (a folder without a run's files will do).

    Args:
        results: file with the one JSON document that `radscribe evaluate --json` printed.

    Raises:
        FileNotFoundError: no file at `results`.
        ValueError: `results` is no such document.
    """
    scores = None if results is None else _read_results(results)
    build_card(_read_run(run), model, scores).save(out / "README.md")


def build_card(run: dict[str, Any], model: PreTrainedModel, scores: dict[str, Any] | None) -> ModelCard:
    """The card. `run` holds what `_read_run` found: "recipe", "environment", "result"."""
    kind = model.config.model_type
    parts = [
        f"# {NAMES[kind]}: findings of a chest X-ray report",
        f"An implementation of **{NAMES[kind]}** ({TITLES[kind]}) {SOURCES[kind]}. {PARTS[kind]} "
        f"{model.num_parameters():,} parameters. No figure of the paper is claimed.",
        "**Not a medical device.** For research on report generation alone: do not diagnose, triage or document a "
        "patient with what it writes.",
        _describe_tokenizer(model),
        _describe_backbone(model),
        _describe_observations(model),
        "## How to load",
        _describe_loading(model),
        "## How it was trained",
        _describe_training(run),
        "## Results",
        describe_results(scores),
        "## Where it fails",
        _describe_failures(run, scores),
        _describe_terms(run),
        "## Citation",
        "The papers; this repository is the work of neither's authors.",
        f"```bibtex\n{CITATIONS}\n```",
    ]
    text = "\n\n".join(part for part in parts if part)
    return ModelCard(f"---\n{_metadata(kind, run, scores).to_yaml()}\n---\n\n{text}\n", ignore_metadata_errors=False)


def _metadata(kind: str, run: dict[str, Any], scores: dict[str, Any] | None) -> ModelCardData:
    results = None if scores is None else _eval_results(run, scores)
    tags = ["radscribe", kind, "chest-x-ray", "radiology", "report-generation", "medical"]
    dataset = _dataset(run)
    return ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag=TASK,
        tags=tags,
        datasets=[dataset] if dataset else None,
        metrics=["bleu", "meteor", "rouge"] if results else None,
        model_name=NAMES[kind] if results else None,
        eval_results=results,
        **LICENCES[dataset],
    )


def _dataset(run: dict[str, Any]) -> str | None:
    """The source of the run's studies as `prepare` stored it, else as its data set's name tells; a path is never told.

    A name that tells of two sources, or of none, tells nothing.
    """
    if stored := run.get("environment", {}).get("data"):
        return stored
    words = re.findall("[a-z]+", Path(str(run.get("recipe", {}).get("dataset", ""))).name.lower())
    told = {source for start, source in SOURCE_NAMES.items() if start in words or f"{start}s" in words}
    return told.pop() if len(told) == 1 else None


def _eval_results(run: dict[str, Any], scores: dict[str, Any]) -> list[EvalResult]:
    """One entry a metric: protocol and split stand with it."""
    protocol = {key: value for key, value in scores["protocol"].items() if isinstance(value, (str, int, float))}
    dataset = _dataset(run) or "chest-x-rays"
    figures = {METRICS.get(name, name): (name, value) for name, value in scores["scores"].items()}
    figures |= {f"clinical F1 {name}": (f"clinical_f1_{name}", value) for name, value in clinical(scores).items()}
    if "finding_f1" in scores:
        figures["finding F1 (phantom exam)"] = ("finding_f1", scores["finding_f1"]["micro"])
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=scores["split"],
            dataset_args={"studies": scores["studies"]} | protocol,
            metric_type=name,
            metric_name=title,
            metric_value=round(value, 4),
        )
        for title, (name, value) in figures.items()
        if value is not None
    ]


def _describe_tokenizer(model: PreTrainedModel) -> str:
    tokenizer = getattr(model.config, "image_tokenizer", None)
    if tokenizer is None:
        return ""
    if tokenizer.model_type == "janus_vqgan":
        return (
            f"Its image tokenizer is **not the paper's DALL-E dVAE** but a VQ model of ours with "
            f"{tokenizer.num_embeddings} codes, trained on films alone (`radscribe train image_tokenizer_...`)."
        )
    if tokenizer.model_type == "visual_words":
        return (
            f"Its image tokenizer is **not the paper's DALL-E dVAE** but visual words of ours with "
            f"{tokenizer.num_embeddings} codes: k-means of a frozen backbone's features (`radscribe train "
            "visual_words_...`). Backbone and codes are part of the checkpoint. Where that backbone has learnt labels "
            'of training studies (`radscribe train backbone_...`), this is the variant "+ labels".'
        )
    return (
        "Its image tokenizer is the DALL-E dVAE's architecture, as in the paper. We could test this path on random "
        "weights only."
    )


def _describe_backbone(model: PreTrainedModel) -> str:
    backbone = getattr(model.config, "encoder", None)
    if backbone is None:
        return ""
    name = getattr(backbone, "architecture", backbone.model_type)
    paper = "MedCLIP's ResNet-50" if model.config.model_type == "mcsam" else "a tokenizer, not a backbone"
    return f"Its films are read by `{name}`; the paper has {paper}."


def _describe_observations(model: PreTrainedModel) -> str:
    if not model.config.observations:
        return ""
    return (
        f'The variant **"+ labels"**: it names {len(model.config.observations)} of CheXpert\'s observations from the '
        "films and tells them to its decoder, which the paper has not. It has learnt them from what rules read off "
        "the training reports, the rules of the labeller that `radscribe evaluate` scores with. Logits are in "
        "`model.encoder(**inputs).observation_logits`; `model.generate(**inputs, observations=...)` tells it others."
    )


def _describe_loading(model: PreTrainedModel) -> str:
    side = f"{model.config.max_views} views of one study" if model.config.max_views > 1 else "one view of a study"
    kind = type(model).__name__
    return f"""It reads up to {side}. `NAME` is this repository or its folder. Pin `revision=` to a commit.

With the `radscribe` package, by one line:

```python
import radscribe
from transformers import pipeline

pipeline("image-to-text", model="NAME")("frontal.png")
```

With the package, part by part:

```python
from radscribe import {kind}
from transformers import AutoProcessor

model, processor = {kind}.from_pretrained("NAME").eval(), AutoProcessor.from_pretrained("NAME")
inputs = processor(images=[["frontal.png"]], return_tensors="pt")
print(processor.batch_decode(model.generate(**inputs)))
```

With Transformers alone (5.x or 4.57), by the code in this repository, which you should read before you trust it:

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("NAME", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("NAME", trust_remote_code=True)
inputs = processor(images=[["frontal.png"]], return_tensors="pt")
print(processor.batch_decode(model.generate(**inputs)))
```"""


def _describe_training(run: dict[str, Any]) -> str:
    recipe, environment, result = (run.get(name, {}) for name in ("recipe", "environment", "result"))
    if not recipe:
        return "The exported folder says nothing of it."
    versions = environment.get("versions", {})
    facts = {
        "data": _dataset(run),
        "seed": recipe.get("seed"),
        "optimiser steps": result.get("steps", recipe.get("max_steps")),
        "studies a step": recipe.get("batch_size", 1) * recipe.get("accumulation", 1),
        "hardware": environment.get("device"),
        "time": f"{result['minutes']} minutes" if "minutes" in result else None,
        "commit of the code": environment.get("commit"),
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers") if name in versions),
    }
    rows = "\n".join(f"- {name}: {value}" for name, value in facts.items() if value not in (None, ""))
    page = yaml.safe_dump(_without_places(recipe), sort_keys=False, allow_unicode=True).strip()
    return f"{rows}\n\n<details><summary>Recipe</summary>\n\n```yaml\n{page}\n```\n\n</details>"


def _without_places(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without folders and files of the machine; a name of the Hub ("user/name") stays."""
    kept = {key: value for key, value in recipe.items() if key not in UNNAMED}
    for key in PLACES:
        value = kept.get(key)
        if isinstance(value, str) and not _is_hub_name(value, recipe):
            kept[key] = "(a local file or folder)"
    if recipe.get("stages"):
        kept["stages"] = recipe["stages"]
    return kept


def _is_hub_name(value: str, recipe: dict[str, Any]) -> bool:
    """ "user/name", and neither a folder here nor beside the run's own: "runs/x" looks the same."""
    parts = value.split("/")
    local = {".", "..", "~", "runs", "data"}
    local |= {Path(str(recipe.get(key) or ".")).parts[0] for key in ("dataset", "output_dir") if recipe.get(key)}
    return len(parts) == 2 and all(parts) and parts[0] not in local and not Path(value).exists()


def _describe_failures(run: dict[str, Any], scores: dict[str, Any] | None) -> str:
    failures = [
        "It writes in the manner of its training reports and names only what they name: rare findings are missed.",
        "It may state what the films do not show, or the wrong side; n-gram scores hardly notice either.",
        "It knows nothing of earlier studies, the patient or the question asked.",
        "Films of another kind than it was trained on (children, photographs, other machines) are not refused.",
    ]
    if _dataset(run) == "radscribe-phantoms":
        failures.insert(0, "It was trained on synthetic phantoms alone: what it writes of a real film means nothing.")
    text = "\n".join(f"- {failure}" for failure in failures)
    # True reports of real studies are not ours to publish: MIMIC's licence forbids it.
    if scores is not None and "finding_f1" in scores and (samples := scores.get("samples")):
        lines = (
            f"- `{sample['id']}`\n  - written: {sample['report']}\n  - true: {sample['truth']}" for sample in samples
        )
        text += "\n\nSome of its reports beside the true ones:\n\n" + "\n".join(lines)
    return text


def _describe_terms(run: dict[str, Any]) -> str:
    """What the licence of the training studies means for the weights."""
    if _dataset(run) != "iu-xray":
        return ""
    return (
        "## Terms\n\nResearch only. Trained on IU X-ray (Open-i), which is CC BY-NC-ND 4.0; the weights are given "
        "under CC BY-NC 4.0. Whether weights are an adaptation that ND forbids to share is an open question: ask your "
        "own counsel. No image and no report is stored in these files; the weights may reproduce wording that is "
        "common in the training reports."
    )


def _read_run(run: Path) -> dict[str, Any]:
    """What the run's folder says of its training; files that are not there are left out."""
    found: dict[str, Any] = {}
    for name in ("recipe.yaml", "environment.json", "result.json"):
        if (run / name).is_file():
            found[name.partition(".")[0]] = yaml.safe_load((run / name).read_text(encoding="utf-8")) or {}
    return found


def _read_results(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"`--results`: no file at `{path}`.")
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`--results`: `{path}` is no JSON document, as `radscribe evaluate --json` prints."
        ) from error
    if not isinstance(scores, dict) or not {"scores", "protocol", "split", "studies", "beside"} <= scores.keys():
        raise ValueError(f"`--results`: `{path}` is not what `radscribe evaluate --json` printed.")
    return scores
