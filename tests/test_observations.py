"""Observations are read off training reports, get thresholds by how frequent they are, and are fitted from films."""

import pytest
import torch
from test_modeling_mcsam import make_model as make_mcsam
from test_modeling_uar import make_model as make_uar

from radscribe.training.backbone import mean_auc
from radscribe.training.observations import (
    LEARNED,
    ToldFilms,
    choose_thresholds,
    fit_observations,
    observation_table,
    weigh_by_rarity,
)

NORMAL, LARGE = "The heart is normal in size. The lungs are clear.", "The heart is enlarged. No effusion."
REPORTS = [LARGE if i % 4 == 0 else NORMAL for i in range(40)]
CARDIOMEGALY = LEARNED.index("Cardiomegaly")


class Films:
    """Bright films where the heart is large, in place of a training set."""

    findings = REPORTS

    def __init__(self, side):
        self.side = side

    def __getitem__(self, index):
        noise = torch.rand(2, 1, self.side, self.side, generator=torch.Generator().manual_seed(index)) * 0.2
        return {"pixel_values": noise + (0.8 if REPORTS[index] == LARGE else 0.0)}


def collate(studies):
    return {name: torch.stack([study[name] for study in studies]) for name in studies[0]}


def test_a_report_tells_what_is_there_and_not_what_is_denied():
    table = observation_table([LARGE, NORMAL, "Possible edema."])
    assert [[LEARNED[i] for i in row.nonzero()[:, 0]] for row in table] == [["Cardiomegaly"], [], ["Edema"]]


def test_no_finding_is_not_learned():
    assert len(LEARNED) == 13 and "No Finding" not in LEARNED


def test_a_threshold_is_so_many_roots_of_the_share():
    assert choose_thresholds(REPORTS, 0.6) == {"Cardiomegaly": 0.3}


def test_what_hardly_any_report_has_is_left_out():
    assert choose_thresholds([*REPORTS, "Pneumothorax."], 0.6).keys() == {"Cardiomegaly"}


def test_studies_with_a_rare_observation_are_drawn_more_often():
    weights = weigh_by_rarity(REPORTS, 0.5)
    assert weights[:4].tolist() == [2, 1, 1, 1]  # a quarter of the studies have it
    assert weigh_by_rarity(REPORTS, 0).tolist() == [1.0] * 40


def test_reports_without_any_observation_are_refused():
    with pytest.raises(ValueError, match="^`observations`: none is in 5 training reports or more"):
        choose_thresholds([NORMAL] * 20, 0.6)


def test_what_all_reports_have_is_not_fitted(monkeypatch):
    monkeypatch.setattr(Films, "findings", [LARGE] * 40)
    model = make_mcsam(observations={"Cardiomegaly": 0.3})
    before = model.encoder.observations.classify.weight.clone()
    fit_observations(model, ToldFilms(Films(32), ["Cardiomegaly"]), collate)
    assert torch.equal(model.encoder.observations.classify.weight, before)


@pytest.mark.parametrize("factor", [0, -1.0])
def test_a_factor_must_be_positive(factor):
    with pytest.raises(ValueError, match=r"^`observations` must be above 0\. Got "):
        choose_thresholds(REPORTS, factor)


def test_a_training_study_comes_with_what_its_report_says():
    told = ToldFilms(Films(32), ["Edema", "Cardiomegaly"])
    assert len(told) == 40
    assert told[0]["observations"].tolist() == [0, 1] and told[1]["observations"].tolist() == [0, 0]


@pytest.mark.parametrize(("make", "side"), [(make_mcsam, 32), (make_uar, 16)], ids=["mcsam", "uar"])
def test_films_that_show_it_are_named(make, side):
    model = make(observations={"Cardiomegaly": 0.3})
    told = ToldFilms(Films(side), ["Cardiomegaly"])
    fit_observations(model, told, collate)
    with torch.no_grad():
        films = torch.stack([told[i]["pixel_values"] for i in range(40)])
        logits = model.eval().encoder(films, torch.ones(40, 2)).observation_logits
    assert mean_auc(logits, told.table) > 0.8
