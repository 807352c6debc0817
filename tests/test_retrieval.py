"""Which report belongs to these films: ranks by hand, then a whole split through a tiny model."""

import json
import sys

import pytest
import torch

from radscribe.training import retrieval as module
from radscribe.training.build import build_model, build_processor, load_checkpoint
from radscribe.training.readers.studies import save_studies
from radscribe.training.recipe import parse_recipe
from radscribe.training.retrieval import rank_reports, retrieve

FINDINGS = ["The lungs are clear.", "The heart is enlarged.", "There is a small left effusion."]


def test_the_nearest_report_has_rank_one():
    assert rank_reports(torch.eye(3), ["a", "b", "c"]).tolist() == [1, 1, 1]


def test_a_rank_counts_the_reports_that_are_nearer():
    cosines = torch.tensor([[0.1, 0.5, 0.9], [0.5, 0.6, 0.7], [0.0, 0.1, 0.2]])
    assert rank_reports(cosines, ["a", "b", "c"]).tolist() == [3, 2, 1]


def test_films_are_ranked_by_their_own_rows():
    """A column is what a report thinks of films."""
    cosines = torch.tensor([[0.5, 0.9], [0.0, 0.8]])
    assert rank_reports(cosines, ["a", "b"]).tolist() == [2, 1]


def test_a_model_that_tells_nothing_apart_ranks_at_the_middle():
    assert rank_reports(torch.ones(5, 5), list("abcde")).tolist() == [3] * 5


def test_an_equal_report_of_another_study_does_not_count():
    cosines = torch.tensor([[0.5, 0.9, 0.1], [0.9, 0.5, 0.1], [0.0, 0.0, 0.5]])
    assert rank_reports(cosines, ["a", "a", "c"]).tolist() == [1, 1, 1]


def test_ties_with_an_equal_report_do_not_count():
    assert rank_reports(torch.ones(3, 3), ["a", "a", "c"]).tolist() == [1.5, 1.5, 2]


@pytest.fixture(scope="module")
def uar(tiny_uar, tmp_path_factory):
    """The folder of an untrained tiny UAR."""
    recipe = parse_recipe({"model": "uar", "dataset": "", "output_dir": "", "max_steps": 1} | tiny_uar)
    torch.manual_seed(0)
    processor = build_processor(recipe, FINDINGS)
    folder = tmp_path_factory.mktemp("uar")
    build_model(recipe, processor, FINDINGS).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def studies(draw_film, study, tmp_path):
    """studies(n): a validation split of n studies with films of one or two views."""

    def make(count=3):
        records = [
            study(
                f"s{i}",
                split="val",
                images=[str(draw_film(f"{i}{v}.png", 30 + 10 * i, 40)) for v in range(1 + i % 2)],
                views=[""] * (1 + i % 2),
                findings=FINDINGS[i % 3],
            )
            for i in range(count)
        ]
        save_studies(records, tmp_path / "set")
        return tmp_path / "set"

    return make


def test_every_study_is_ranked(uar, studies):
    result = retrieve(uar, studies(5))
    assert result["studies"] == 5 and 1 <= result["median_rank"] <= 5


def test_of_three_studies_the_true_report_is_among_the_first_five(uar, studies):
    result = retrieve(uar, studies())
    assert result["recall_5"] == result["recall_10"] == 1 >= result["recall_1"]


def test_the_size_of_a_batch_changes_nothing(uar, studies):
    folder = studies(5)
    assert retrieve(uar, folder, batch_size=2) == retrieve(uar, folder, batch_size=32)


def test_cosines_are_those_of_the_alignment_loss(uar, studies, monkeypatch):
    monkeypatch.setattr(module, "_embed", lambda *arguments: (torch.eye(3), 5 * torch.eye(3)))
    result = retrieve(uar, studies())
    assert (result["true_cosine"], result["other_cosine"], result["median_rank"]) == (1, 0, 1)


def test_a_model_without_a_space_for_films_and_reports_is_refused(checkpoint, studies, tmp_path):
    network, processor = load_checkpoint(str(checkpoint), sam_layers=0)
    network.save_pretrained(tmp_path / "without")
    processor.save_pretrained(tmp_path / "without")
    with pytest.raises(ValueError, match=r"no space that films and reports share: it was made with `sam_layers` 0\.$"):
        retrieve(str(tmp_path / "without"), studies())


def test_a_split_that_is_not_there_is_refused(uar, studies):
    with pytest.raises(ValueError, match="has no split 'test'"):
        retrieve(uar, studies(), split="test")


def test_the_command_prints_the_figures(uar, studies, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["retrieval", uar, "--dataset", str(studies())])
    module.main()
    assert json.loads(capsys.readouterr().out)["studies"] == 3


def test_the_command_ends_in_one_line_for_what_cannot_be(uar, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["retrieval", uar, "--dataset", str(tmp_path / "gone")])
    with pytest.raises(SystemExit) as end:
        module.main()
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("Error: ") and error.count("\n") == 1
