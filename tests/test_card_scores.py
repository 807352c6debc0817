"""What a card tells of abnormal studies; the table of all answers is tested with the card, in test_card.py."""

from radscribe.training.card_scores import clinical, describe_results


def answer(recall, f1):
    """An answer whose report finds effusions and, where there are some, a nodule."""
    labels = {"No Finding": {"support": 60, "recall": 0.9}, "Pleural Effusion": {"support": 3, "recall": recall}}
    labels |= {"Edema": {"support": 0, "recall": 0.0}, "Lung Lesion": {"support": 5, "recall": 0.2}}
    averages = {"uncertain_positive": {"14": {"micro": {"f1": f1}, "macro": {"f1": f1 / 2}}}}
    return {
        "scores": {"bleu_4": 0.25},
        "distinct_reports": 0.5,
        "clinical": averages | {"per_label": labels},
        "abnormal": {"studies": 40, "clinical_14.micro.f1": f1},
    }


def scores(**changes):
    more = {"split": "val", "studies": 100, "labeller": "rules", "protocol": {"name": "r2gen"}}
    return answer(0.75, 0.5) | more | {"beside": {"shuffled_images": answer(0.25, 0.125)}} | changes


def test_abnormal_studies_stand_apart():
    text = describe_results(scores())
    assert "The 40 abnormal studies apart" in text
    assert "| answer | clinical F1 micro, abnormal | Lung Lesion (5) | Pleural Effusion (3) |" in text
    assert "| the model | 0.500 | 0.200 | 0.750 |" in text
    assert "| the model on another study's films | 0.125 | 0.200 | 0.250 |" in text


def test_studies_without_clinical_labels_have_no_such_table():
    assert "abnormal" not in describe_results(scores(clinical={}))


def test_an_answer_without_clinical_scores_has_none():
    assert clinical({"scores": {}}) == {}


def test_micro_and_macro_are_those_of_the_fourteen():
    assert clinical(answer(0.5, 0.5)) == {"micro": 0.5, "macro": 0.25}
