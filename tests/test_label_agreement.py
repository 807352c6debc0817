"""Agreement with the MeSH coding: counts by hand, which studies enter, what the command prints and refuses."""

import io

import numpy as np
import pytest
from rich.console import Console

from radscribe.training.metrics.label_agreement import main, measure_agreement, score_agreement, show_agreement
from radscribe.training.metrics.mesh_observations import OBSERVATIONS
from radscribe.training.readers.studies import save_studies


def save(folder, studies, prefix="iu"):
    """A validation split of (findings, impression, MeSH strings)."""
    rows = [
        {
            "study_id": f"{prefix}-{number}",
            "split": "val",
            "images": ["film.png"],
            "views": ["frontal"],
            "findings": findings,
            "impression": impression,
            "labels": [{"name": name, "image": -1, "box": []} for name in terms],
        }
        for number, (findings, impression, terms) in enumerate(studies)
    ]
    save_studies(rows, folder)
    return folder


@pytest.fixture
def dataset(tmp_path):
    """Four studies: two agree, one does not, nobody coded the last; one head is not known."""
    studies = [
        ("The lungs are clear.", "", ["normal"]),
        ("", "Left effusion.", ["Pleural Effusion/left", "Unicorn/left"]),
        ("No effusion.", "", ["Pleural Effusion/right"]),
        ("Cardiomegaly.", "", ["No Indexing"]),
    ]
    return save(tmp_path / "iu", studies)


def test_perfect_answers_score_one_wherever_there_is_a_label():
    true = np.eye(14, dtype=bool)
    scores = score_agreement(true, true)
    assert scores["micro"] == scores["macro"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_scores_of_a_label_by_hand():
    stated, true = np.zeros((4, 14), dtype=bool), np.zeros((4, 14), dtype=bool)
    stated[:3, 2] = True
    true[2:, 2] = True
    row = score_agreement(stated, true)["per_label"]["Cardiomegaly"]
    assert row == {"precision": pytest.approx(1 / 3), "recall": 0.5, "f1": pytest.approx(0.4), "support": 2}


def test_no_finding_enters_one_micro_row_and_not_the_other():
    stated, true = np.zeros((2, 14), dtype=bool), np.zeros((2, 14), dtype=bool)
    stated[:, 1] = true[:, 1] = true[0, 0] = True
    scores = score_agreement(stated, true)
    assert scores["micro"]["recall"] == pytest.approx(2 / 3) and scores["micro_findings"]["recall"] == 1


def test_a_label_that_never_occurs_scores_zero_in_the_macro_mean():
    stated = np.zeros((1, 14), dtype=bool)
    stated[0, 0] = True
    assert score_agreement(stated, stated)["macro"]["f1"] == pytest.approx(1 / 14)


def test_studies_that_nobody_coded_are_left_out_and_counted(dataset):
    result = measure_agreement(dataset)
    assert (result["studies"], result["uncoded"]) == (3, 1)
    assert result["per_label"]["Cardiomegaly"]["precision"] == 0


def test_findings_and_impression_are_both_read(dataset):
    row = measure_agreement(dataset)["per_label"]["Pleural Effusion"]
    assert (row["precision"], row["recall"], row["support"]) == (1, 0.5, 2)


def test_heads_that_no_table_knows_are_named_and_counted(dataset):
    assert measure_agreement(dataset)["unmapped"] == {"Unicorn": 1}


def test_the_table_names_every_observation_and_the_unknown_heads(dataset):
    console = Console(record=True, width=80, file=io.StringIO())
    show_agreement(measure_agreement(dataset), console)
    text = console.export_text()
    assert all(name in text for name in (*OBSERVATIONS, "micro, 14 labels", "macro, 14 labels", "Unicorn (1)"))


def test_the_command_prints_the_table(dataset, capsys):
    main([str(dataset)])
    assert "split val, 3 studies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("terms", "prefix"), [([], "iu"), (["No Indexing"], "iu"), (["Unicorn"], "iu"), (["cardiomegaly/-"], "phantom")]
)
def test_a_set_without_mesh_terms_is_refused_in_one_line(terms, prefix, tmp_path, capsys):
    folder = save(tmp_path / "set", [("Clear.", "", terms)], prefix)
    with pytest.raises(SystemExit) as stop:
        main([str(folder)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("Error: Agreement needs MeSH terms") and error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nowhere"], ["{set}", "--split", "test"]])
def test_a_missing_set_or_split_is_one_line_and_exit_two(arguments, dataset, capsys):
    with pytest.raises(SystemExit) as stop:
        main([one.replace("{set}", str(dataset)) for one in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("Error: ") and error.count("\n") == 1
