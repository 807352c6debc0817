"""The scores of a model card: the table of all answers, and what the model finds in abnormal studies."""

from typing import Any

METRICS = {"bleu_1": "BLEU-1", "bleu_2": "BLEU-2", "bleu_3": "BLEU-3", "bleu_4": "BLEU-4", "meteor": "METEOR"}
METRICS |= {"rouge_l": "ROUGE-L", "cider": "CIDEr"}
ANSWERS = {  # beside the model, see training/score_tables.py
    "shuffled_images": "the model on another study's films",
    "most_frequent_report": "the commonest report for every study",
    "best_single_report": "the best single report for every study",
    "nearest_neighbour": "the report of the nearest training study",
    "best_constant": "the best constant findings for every study",
}
COMMONEST = 6  # observations whose recall is told


def clinical(answer: dict[str, Any]) -> dict[str, float]:
    """Micro and macro F1 over the 14 observations, uncertain as positive; {} for an answer without."""
    averages = answer.get("clinical", {}).get("uncertain_positive", {}).get("14", {})
    return {name: averages[name]["f1"] for name in ("micro", "macro") if name in averages}


def describe_results(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return (
            "No scores were handed to the export. `radscribe evaluate` writes them, beside answers that saw no film."
        )
    rows = {"the model": scores} | {
        ANSWERS.get(name, name.replace("_", " ")): answer for name, answer in scores["beside"].items()
    }
    names = [name for name in METRICS if name in scores["scores"]]
    has_exam = "finding_f1" in scores
    averages = [f"clinical F1 {name}" for name in clinical(scores)]
    head = ["answer", *(METRICS[name] for name in names), *averages, "distinct reports"]
    head += ["finding F1"] if has_exam else []
    lines = [head, ["---"] * len(head)]
    for title, answer in rows.items():
        figures = [show_figure(answer.get("scores", {}).get(name)) for name in names]
        found = clinical(answer)
        figures += [show_figure(found.get(name)) for name in clinical(scores)]
        f1 = [show_figure(answer.get("finding_f1", {}).get("micro"))] if has_exam else []
        lines.append([title, *figures, show_figure(answer.get("distinct_reports")), *f1])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    details = ", ".join(f"{key} {value}" for key, value in scores["protocol"].items())
    details += f"; clinical F1 over the 14 CheXpert labels by the {scores['labeller']}" if averages else ""
    exam = (
        "\n\nThe finding F1 is read from synthetic phantoms: it shows that the pipeline uses the image, not that it "
    )
    exam += "reads real films."
    return (
        f"Split {scores['split']}, {scores['studies']} studies; protocol: {details}. A model that beats no answer "
        f"below it has learnt the language alone.\n\n{table}"
        + (exam if has_exam else "")
        + _describe_abnormal(scores, rows)
    )


def _describe_abnormal(scores: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """Clinical F1 of abnormal studies, and the recall of the observations that most of the true reports have."""
    labels = scores.get("clinical", {}).get("per_label", {})
    found = {name: label["support"] for name, label in labels.items() if name != "No Finding" and label["support"]}
    if not found or "abnormal" not in scores:
        return ""
    common = sorted(found, key=lambda name: -found[name])[:COMMONEST]
    head = ["answer", "clinical F1 micro, abnormal", *(f"{name} ({found[name]})" for name in common)]
    lines = [head, ["---"] * len(head)]
    for title, answer in rows.items():
        own = answer.get("clinical", {}).get("per_label", {})
        recalls = [show_figure(own.get(name, {}).get("recall")) for name in common]
        lines.append([title, show_figure(answer.get("abnormal", {}).get("clinical_14.micro.f1")), *recalls])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"\n\nThe {scores['abnormal']['studies']} abnormal studies apart, and the recall of the observations that "
        f"most true reports have (how many):\n\n{table}"
    )


def show_figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
