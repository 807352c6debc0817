"""MeSH strings to the 14 observations: the table's own consistency, and terms of each kind."""

import pytest

from radscribe.training.metrics.mesh_observations import (
    ELSEWHERE,
    HEADS,
    HEADS_OF_THE_LUNG,
    NONE_OF_THE_14,
    OBSERVATIONS,
    QUALIFIED,
    is_coded,
    observe,
    unmapped,
)

TERMS = {
    "normal": ["No Finding"],
    "Scoliosis/thoracic vertebrae/right/mild": ["No Finding"],
    "Catheters, Indwelling/right": ["No Finding", "Support Devices"],
    "Surgical Instruments/mediastinum": ["No Finding"],
    "Costophrenic Angle/left/blunted": ["No Finding"],
    "Cardiomegaly/borderline": ["Cardiomegaly"],
    "Cardiac Shadow/enlarged/mild": ["Cardiomegaly"],
    "Cardiac Shadow/irregular": ["No Finding"],
    "Heart/left/obscured": ["No Finding"],
    "Heart Failure": ["Cardiomegaly", "Edema"],
    "Mediastinum/prominent": ["Enlarged Cardiomediastinum"],
    "Opacity/lung/base/left": ["Lung Opacity"],
    "Opacity/ribs/left": ["No Finding"],
    "Opacity/lung/ribs": ["Lung Opacity"],
    "Opacity/lung/upper lobe/right/round": ["Lung Opacity", "Lung Lesion"],
    "Markings/lung/interstitial": ["Lung Opacity"],
    "Markings/bronchovascular": ["No Finding"],
    "Cicatrix/lung/apex/bilateral": ["Lung Opacity"],
    "Cicatrix/pleura/apex": ["Pleural Other"],
    "Thickening/pleura/left": ["Pleural Other"],
    "Calcinosis/aorta": ["No Finding"],
    "Calcinosis/pleura": ["Pleural Other"],
    "Nodule/lung/lingula": ["Lung Lesion"],
    "Mass/breast/large": ["No Finding"],
    "Calcified Granuloma": ["Lung Lesion"],
    "Granulomatous Disease": ["No Finding"],
    "Hydropneumothorax/left": ["Pneumothorax", "Pleural Effusion"],
    "Pericardial Effusion": ["No Finding"],
    "Fractures, Bone/ribs/left/healed": ["Fracture"],
    "Deformity/ribs/right": ["No Finding"],
}


def named(labels: list[str]) -> list[str]:
    """The observations that are 1."""
    return [name for name, value in zip(OBSERVATIONS, observe(labels), strict=True) if value]


@pytest.mark.parametrize("term", TERMS)
def test_a_term_means_its_observations(term):
    assert named([term]) == TERMS[term]


def test_there_are_fourteen_observations():
    assert observe(["normal"]).shape == (14,)


def test_no_finding_goes_when_any_term_is_a_finding():
    assert named(["Scoliosis", "Pneumothorax/right"]) == ["Pneumothorax"]


@pytest.mark.parametrize("labels", [[], ["No Indexing"]])
def test_a_study_that_nobody_coded_has_no_observation(labels):
    assert not is_coded(labels) and named(labels) == []


def test_case_and_spaces_of_a_term_do_not_matter():
    assert named(["pulmonary  ATELECTASIS /lung "]) == ["Atelectasis"]


def test_every_observation_of_the_tables_is_one_of_the_14():
    tables = [*HEADS.values(), *HEADS_OF_THE_LUNG.values(), *(names for _, _, names in QUALIFIED)]
    assert {name for names in tables for name in names} == set(OBSERVATIONS) - {"No Finding"}


def test_no_head_is_both_an_observation_and_none():
    assert not {*HEADS, *HEADS_OF_THE_LUNG, *(head for head, _, _ in QUALIFIED)} & set(NONE_OF_THE_14)


def test_no_head_stands_twice():
    heads = [*HEADS, *HEADS_OF_THE_LUNG, *NONE_OF_THE_14]
    assert len(heads) == len(set(heads))


def test_elsewhere_has_no_word_for_the_lung():
    assert not ELSEWHERE & {"lung", "hilum", "lingula", "apex", "base"}


def test_a_head_that_no_table_names_is_unmapped():
    assert unmapped(["Unicorn/left", "Opacity/lung", "normal", "Unicorn", "No Indexing"]) == ["Unicorn"]
