"""A data set carries the values that its scores depend on."""

import datasets

from radscribe.training.readers.habits import MIMIC_HABITS, OWN_HABITS, load_habits
from radscribe.training.readers.studies import save_studies


def test_habits_come_back_as_they_were_stored(tmp_path, study):
    save_studies([study("a")], tmp_path / "set", MIMIC_HABITS)
    assert load_habits(tmp_path / "set") == MIMIC_HABITS


def test_a_set_without_habits_has_those_of_ones_own(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert load_habits(tmp_path) == OWN_HABITS


def test_datasets_opens_a_set_that_carries_habits(tmp_path, study):
    save_studies([study("a")], tmp_path / "set", MIMIC_HABITS)
    assert list(datasets.load_from_disk(str(tmp_path / "set"))) == ["train"]
