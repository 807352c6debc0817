"""The facts of a data set: what is counted, and in which split."""

import pytest

from radscribe.training.readers.habits import Habits
from radscribe.training.readers.studies import save_studies
from radscribe.training.readers.summary import describe


@pytest.fixture
def facts(tmp_path, study):
    """facts([(split, report), ...], labels=...): the rows of such a data set by split."""

    def make(studies, min_frequency=1, labels=()):
        rows = [{"name": name, "image": -1, "box": []} for name in labels]
        records = [
            study(f"s{i}", split=split, findings=text, labels=rows if i == 0 else [])
            for i, (split, text) in enumerate(studies)
        ]
        save_studies(records, tmp_path / "set", Habits(min_frequency=min_frequency))
        return {row["split"]: row for row in describe(tmp_path / "set")}

    return make


def test_studies_and_films_are_counted_by_split(facts):
    found = facts([("train", "Clear."), ("train", "Wide heart."), ("val", "Clear.")])
    assert [(name, row["studies"], row["films"]) for name, row in found.items()] == [("train", 2, 2), ("val", 1, 1)]


def test_words_are_those_of_the_cleaned_report(facts):
    assert facts([("train", "Clear lungs. Wide, heart.")])["train"]["words"] == 6  # two full stops among them


def test_the_vocabulary_is_that_of_the_training_reports_from_the_threshold_on(facts):
    found = facts([("train", "Clear lungs."), ("train", "Clear heart."), ("val", "Clear bones.")], min_frequency=2)
    assert found["train"]["vocabulary"] == 2 and found["val"]["vocabulary"] is None  # "clear" and the full stop


def test_reports_that_a_split_above_holds_too_are_counted_whatever_their_case(facts):
    found = facts([("train", "Clear lungs."), ("val", "CLEAR lungs."), ("val", "Wide heart.")])
    assert found["val"]["in_earlier"] == 0.5 and found["train"]["in_earlier"] == 0


def test_reports_of_validation_are_found_in_the_test_split(facts):
    assert facts([("train", "Clear."), ("val", "Wide."), ("test", "Wide.")])["test"]["in_earlier"] == 1


def test_films_of_two_splits_are_counted(facts):
    assert facts([("train", "Clear."), ("val", "Wide.")])["val"]["films_in_earlier"] == 1  # all have one film here


def test_repetitions_within_a_split_are_counted_from_the_second_on(facts):
    assert facts([("train", "Clear."), ("train", "Clear."), ("train", "Wide.")])["train"]["repeated"] == 0.333


@pytest.mark.parametrize(
    ("labels", "share"), [(["normal"], 0.5), (["No Finding"], 0.5), (["Opacity"], 0.0), ([], None)]
)
def test_normal_studies_are_counted_where_labels_tell(facts, labels, share):
    assert facts([("train", "Clear."), ("train", "Wide.")], labels=labels)["train"]["normal"] == share
