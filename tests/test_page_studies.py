"""Which studies the page shows, and how their texts are marked."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from radscribe.training.metrics.rule_labeller import OBSERVATIONS, label_reports
from radscribe.training.page.page_studies import StudyRow, choose_studies, load_films, mark_study, sort_observations


def make_study(reference="", report="", cider=0.0, clinical_f1=0.0):
    codes = label_reports([reference, report])
    return StudyRow("a", [], reference, report, cider, clinical_f1, codes[0], codes[1])


def marked(pieces):
    return {(piece.kind, piece.title) for piece in pieces if piece.kind}


def test_best_worst_and_typical_are_those_of_cider():
    chosen = choose_studies([make_study(cider=value) for value in range(101)], count=2)
    ciders = {name: [study.cider for study in group] for name, group in chosen.items()}
    assert ciders == {"best": [100, 99], "typical": [50, 51], "worst": [0, 1]}


def test_clinical_f1_breaks_ties():
    studies = [make_study(cider=1.0, clinical_f1=value) for value in (0.2, 0.9, 0.4, 0.1, 0.5)]
    chosen = choose_studies(studies, count=1)
    assert [group[0].clinical_f1 for group in chosen.values()] == [0.9, 0.4, 0.1]


@pytest.mark.parametrize("count", range(18))
def test_no_study_is_shown_twice(count):
    shown = [id(study) for group in choose_studies([make_study() for _ in range(count)]).values() for study in group]
    assert len(shown) == len(set(shown)) <= count


def test_observations_are_matched_missed_or_invented():
    study = make_study("Left pleural effusion. Possible pneumonia.", "Left pleural effusion. Rib fracture.")
    assert sort_observations(study) == {
        "matched": ["Pleural Effusion"],
        "missed": ["Pneumonia"],
        "invented": ["Fracture"],
    }


def test_marked_pieces_are_the_text():
    study = make_study("The heart is enlarged. There is a left pleural effusion.", "No pleural effusion.")
    reference, report = mark_study(study)
    assert "".join(piece.text for piece in reference) == study.reference
    assert "".join(piece.text for piece in report) == study.report


def test_findings_are_marked_on_both_sides():
    reference, report = mark_study(make_study("Left pleural effusion. Edema.", "Left pleural effusion. Rib fracture."))
    assert marked(reference) == {("matched", "matched: Pleural Effusion"), ("missed", "missed: Edema")}
    assert marked(report) == {("matched", "matched: Pleural Effusion"), ("invented", "invented: Fracture")}


def test_denied_findings_are_not_marked():
    reference, report = mark_study(make_study("No pleural effusion.", "No pleural effusion."))
    assert not marked(reference) and not marked(report)


def test_a_finding_that_the_labeller_does_not_see_is_not_marked():
    study = make_study("Left pleural effusion.", "Left pleural effusion.")
    study.true = study.predicted = np.full(len(OBSERVATIONS), -2)
    assert not marked(mark_study(study)[0])


def test_overlapping_mentions_name_both_and_look_like_the_fault():
    study = make_study("Congestive heart failure.", "The heart is enlarged.")
    titles = [title for kind, title in marked(mark_study(study)[0]) if kind == "missed"]
    assert any("matched: Cardiomegaly" in title and "missed: Edema" in title for title in titles)


def test_films_become_small_jpegs(draw_film):
    film = next(load_films([str(draw_film("a.png", 900, 600))]))
    data = base64.b64decode(film.url.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG" and max(image.size) <= 320


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_film_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "lost.png"
    if content is not None:
        path.write_bytes(content)
    film = next(load_films([str(path)]))
    assert (film.name, film.url) == ("lost.png", "")
