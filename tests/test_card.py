"""The model card: metadata that the Hub reads, what the run says, no path of a machine."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from radscribe import UARConfig, UARForConditionalGeneration
from radscribe.training.build import load_checkpoint
from radscribe.training.card import write_card

SCORES = {
    "protocol": {"name": "r2gen", "max_words": 59},
    "predictions": "/home/someone/reports.jsonl",
    "split": "test",
    "studies": 120,
    "scores": {"bleu_1": 0.5, "bleu_4": 0.25, "cider": 1.5, "meteor": None},
    "distinct_reports": 0.8,
    "finding_f1": {"micro": 0.75},
    "beside": {"best_single_report": {"scores": {"bleu_4": 0.125}, "distinct_reports": 0.01}},
    "samples": [{"id": "a", "report": "Clear.", "truth": "Small left effusion.", "images": ["/home/someone/a.png"]}],
}
RECIPE = {"model": "mcsam", "dataset": "/home/someone/phantom_2400", "output_dir": "/home/someone/run", "seed": 7}
RECIPE |= {"max_steps": 600, "batch_size": 16, "accumulation": 2, "encoder": "microsoft/rad-dino"}
RECIPE |= {"init_from": "runs/before", "encoder_weights": "/home/someone/weights.pt"}
ENVIRONMENT = {"versions": {"torch": "2.14.1", "transformers": "5.23.0"}, "device": "NVIDIA X", "commit": "abc1234"}
ENVIRONMENT |= {"command": ["radscribe", "train", "/home/someone/recipe.yaml"]}
RESNET = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "result.json").write_text(json.dumps({"output_dir": "/home/someone/run", "steps": 550, "minutes": 3.5}))
    return folder


@pytest.fixture
def card(run, checkpoint, tmp_path):
    """card(scores): the card of a tiny MCSAM, as the Hub would read it."""
    model = load_checkpoint(str(checkpoint))[0]

    def make(scores=None):
        results = None
        if scores is not None:
            results = tmp_path / "results.json"
            results.write_text(json.dumps(scores))
        write_card(run, model, tmp_path, results)
        return ModelCard.load(tmp_path / "README.md")

    return make


def test_the_hub_learns_what_it_is(card):
    data = card().data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "image-to-text")
    assert data.datasets == ["radscribe-phantoms"] and "mcsam" in data.tags


@pytest.mark.parametrize(
    ("dataset", "licence"),
    [("data/iu_xray", "cc-by-nc-4.0"), ("data/mimic", "other"), ("data/ward7", "unknown")],
)
def test_weights_are_under_the_terms_of_what_they_learnt_from(card, run, dataset, licence):
    (run / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"dataset": dataset}))
    assert card().data.license == licence


def test_clinical_scores_stand_beside_the_words(card):
    averages = {"14": {"micro": {"f1": 0.321}, "macro": {"f1": 0.111}}}
    found = card(SCORES | {"clinical": {"uncertain_positive": averages}, "labeller": "rule labeller"})
    assert "clinical F1 micro" in found.text and ".321" in found.text and "by the rule labeller" in found.text
    assert any(result.metric_name == "clinical F1 macro" for result in found.data.eval_results)


def test_each_metric_stands_with_its_protocol_and_split(card):
    results = {entry.metric_type: entry for entry in card(SCORES).data.eval_results}
    assert {name: entry.metric_value for name, entry in results.items()} == {
        "bleu_1": 0.5,
        "bleu_4": 0.25,
        "cider": 1.5,
        "finding_f1": 0.75,
    }
    assert all(entry.dataset_split == "test" for entry in results.values())
    assert results["bleu_4"].dataset_args == {"studies": 120, "name": "r2gen", "max_words": 59}


def test_without_scores_none_are_claimed(card):
    made = card()
    assert made.data.eval_results is None and "No scores were handed" in made.text


def test_the_scores_stand_beside_the_trivial_answers(card):
    text = card(SCORES).text
    assert "| the model | 0.500 | 0.250 | - | 1.500 | 0.800 | 0.750 |" in text
    assert "| the best single report for every study | - | 0.125 |" in text


@pytest.mark.parametrize("scores", [None, SCORES], ids=["bare", "with scores"])
def test_no_path_of_a_machine_gets_into_it(card, scores):
    text = card(scores).content
    assert "someone" not in text and "runs/before" not in text


@pytest.mark.parametrize(
    "fact",
    ["seed: 7", "optimiser steps: 550", "studies a step: 32", "hardware: NVIDIA X", "time: 3.5 minutes"]
    + ["commit of the code: abc1234", "versions: torch 2.14.1, transformers 5.23.0", "encoder: microsoft/rad-dino"],
)
def test_it_tells_how_the_model_was_trained(card, fact):
    assert fact in card().text


@pytest.mark.parametrize("sentence", ["**Not a medical device.**", "arXiv:2404.00588", "arXiv:2303.15932"])
def test_it_says_what_it_is_not_and_whose_idea_it_is(card, sentence):
    assert sentence in card().text


@pytest.mark.parametrize("way", ["import radscribe", "from radscribe import MCSAMForC", "trust_remote_code=True"])
def test_it_tells_three_ways_to_load(card, way):
    assert way in card().text


def test_true_reports_of_real_studies_are_not_published(card):
    real = {key: value for key, value in SCORES.items() if key != "finding_f1"}
    assert "Small left effusion" in card(SCORES).text and "Small left effusion" not in card(real).text


def test_a_folder_without_a_runs_files_gets_a_card_too(checkpoint, tmp_path):
    write_card(checkpoint, load_checkpoint(str(checkpoint))[0], tmp_path)
    assert "says nothing of it" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("tokenizer", "sentence"),
    [
        ({"model_type": "flava_image_codebook", "hidden_size": 4, "vocab_size": 20}, "random weights only"),
        (None, "a VQ model of ours with 24 codes"),
        (
            {"model_type": "visual_words", "encoder": RESNET, "num_embeddings": 12, "feature_width": 8, "step": 8},
            "**not the paper's DALL-E dVAE** but visual words of ours with 12 codes",
        ),
    ],
    ids=["dvae", "vq", "words"],
)
def test_a_card_of_uar_says_which_image_tokenizer_it_has(run, vq_sizes, tmp_path, tokenizer, sentence):
    decoder = {"d_model": 16, "decoder_layers": 1, "decoder_ffn_dim": 16, "decoder_attention_heads": 2}
    sizes = {"image_tokenizer": tokenizer or {"model_type": "janus_vqgan"} | vq_sizes, "decoder": decoder}
    config = UARConfig(**sizes, vocab_size=20, image_size=32, basis_size=8, aligner_heads=2)
    write_card(run, UARForConditionalGeneration(config), tmp_path)
    assert sentence in (tmp_path / "README.md").read_text()


def test_a_card_of_mcsam_says_which_backbone_reads_the_films(card):
    assert "Its films are read by `resnet`; the paper has MedCLIP's ResNet-50." in card().text


@pytest.mark.parametrize(("dataset", "said"), [("data/iu_xray", True), ("data/phantoms", False)])
def test_weights_of_iu_x_ray_say_what_their_terms_leave_open(card, run, dataset, said):
    (run / "recipe.yaml").write_text(f"dataset: {dataset}\n")
    assert ("Whether weights are an adaptation that ND forbids" in card().text) == said


@pytest.mark.parametrize("text", ["no json", "[]", '{"scores": {}}'])
def test_results_of_another_kind_are_refused_in_one_line(run, checkpoint, tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"^`--results`: [^\n]*$"):
        write_card(run, load_checkpoint(str(checkpoint))[0], tmp_path, tmp_path / "results.json")


def test_results_that_are_not_there_are_refused(run, checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="^`--results`: no file at"):
        write_card(run, load_checkpoint(str(checkpoint))[0], tmp_path, tmp_path / "gone.json")
