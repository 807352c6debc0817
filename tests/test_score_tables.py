"""What `evaluate` prints: stands in 80 columns, prints reports as they are."""

import io

import pytest
from rich.console import Console

from radscribe.training.score_tables import show_result

SCORES = dict.fromkeys(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider"), 0.512)
AVERAGE = {"micro": {"f1": 0.5}, "macro": {"f1": 0.25}}
LABEL = {"precision": 1.0, "recall": 0.5, "f1": 0.667, "support": 4}
ANSWER = {
    "scores": SCORES,
    "clinical": {
        "uncertain_positive": {"14": AVERAGE, "5": AVERAGE},
        "per_label": {"Enlarged Cardiomediastinum": LABEL},
        "labels_without_positives": ["Fracture"],
    },
    "intervals": {"bleu_4": [0.25, 0.75]}
    | dict.fromkeys(("clinical_14.micro.f1", "clinical_14.macro.f1", "clinical_5.micro.f1"), [0.1, 0.9])
    | {"finding_f1.micro": [0.1, 0.9]},
    "distinct_reports": 1.0,
    "copied_reports": 0.5,
    "mean_words": 31.2,
    "normal": {"studies": 3, "cider": 0.25},
    "abnormal": {"studies": 0},
    "without_xxxx": None,
}
EXAM = {
    "finding_f1": {
        "micro": 1.0,
        "macro": 0.9,
        "per_unit": {"nodule/left": {"precision": 1.0, "recall": 0.5, "f1": 0.667, "support": 4.0}},
    },
    "size_accuracy": {"accuracy": 0.5, "count": 2.0},
    "place_accuracy": {"accuracy": 1.0, "count": 2.0},
    "unreadable_share": 0.0,
}


@pytest.fixture
def result():
    beside = {"shuffled_images": ANSWER | EXAM, "best_constant": {"finding_f1": {"micro": 0.25}}}
    sample = {"id": "a", "report": "[bold] heart.", "truth": "Clear.", "images": []}
    about = {"protocol": {"name": "full"}, "predictions": "x.jsonl", "split": "test", "studies": 4}
    about |= {"labeller": "rule labeller", "normal_by": "labels", "without_findings": 2}
    return ANSWER | EXAM | about | {"beside": beside, "samples": [sample]}


def printed(result):
    stream = io.StringIO()
    show_result(result, Console(file=stream, width=80))
    return stream.getvalue()


def test_nothing_is_cut_in_eighty_columns(result):
    assert "…" not in printed(result)


def test_an_answer_without_meteor_shows_a_dash(result):
    result["scores"] = {name: value for name, value in SCORES.items() if name != "meteor"}
    assert ".512      – " in printed(result)


def test_brackets_in_a_report_are_no_markup(result):
    assert "[bold] heart." in printed(result)


def test_the_exam_says_what_it_does_not_show(result):
    assert "not that it reads real films" in " ".join(printed(result).split())


def test_an_interval_stands_below_its_score(result):
    assert "95 % from" in printed(result) and ".250" in printed(result) and ".750" in printed(result)


def test_without_an_exam_the_observations_are_listed(result):
    del result["finding_f1"], result["beside"]["best_constant"]
    text = " ".join(printed(result).split())
    assert "Enlarged Cardiomediastinum" in text and "Fracture never occur in the truth" in text and "…" not in text
