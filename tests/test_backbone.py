"""A backbone learns the labels of training films, keeps what is frozen, and is one that a report recipe can name."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, ResNetConfig, ResNetModel

from radscribe.training.backbone import LabelNamer, freeze, mean_auc, parse_backbone_recipe, train_backbone
from radscribe.training.readers.studies import save_studies


@pytest.fixture
def resnet():
    """An untrained ResNet of one channel."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    return ResNetModel(ResNetConfig(layer_type="basic", num_channels=1, **sizes))


@pytest.fixture
def values(resnet, study, tmp_path):
    """A recipe for twelve studies, of which every second has a bright film and a label."""
    resnet.save_pretrained(tmp_path / "resnet")
    records = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((32, 32), 220 if i % 2 else 30, np.uint8)).save(path)
        labels = [{"name": "Opacity/lung/left", "image": -1, "box": []}] if i % 2 else []
        split = "train" if i < 8 else "val"
        records.append(study(f"s{i}", split=split, images=[str(path)], views=["frontal"], labels=labels))
    save_studies(records, tmp_path / "set")
    films = {"size": 32, "num_channels": 1, "image_mean": [0.5], "image_std": [0.25]}
    steps = {"max_steps": 12, "head_steps": 2, "warmup_steps": 2, "batch_size": 4, "workers": 0}
    places = {
        "dataset": str(tmp_path / "set"),
        "output_dir": str(tmp_path / "run"),
        "encoder": str(tmp_path / "resnet"),
    }
    return (
        {"model": "backbone", "image_processor": films, "learning_rate": 0.01, "head_learning_rate": 0.1}
        | steps
        | places
    )


def test_the_folder_is_a_backbone_that_has_changed(values, resnet, tmp_path):
    train_backbone(parse_backbone_recipe(values))
    trained = AutoModel.from_pretrained(tmp_path / "run").state_dict()
    assert any(not torch.equal(trained[name], value) for name, value in resnet.state_dict().items())


def test_what_is_frozen_keeps_its_values(values, resnet, tmp_path):
    train_backbone(parse_backbone_recipe(values | {"frozen": ["embedder.", "encoder.stages.0"]}))
    trained = AutoModel.from_pretrained(tmp_path / "run").state_dict()
    changed = {name for name, value in resnet.state_dict().items() if not torch.equal(trained[name], value)}
    assert changed and all(name.startswith("encoder.stages.1") for name in changed)


def test_labels_that_films_show_are_learned(values):
    result = train_backbone(parse_backbone_recipe(values | {"max_steps": 30}))
    assert (result["labels"], result["validation"]["auc"]) == (1, 1.0)


def test_a_used_folder_is_refused(values, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "film.txt").touch()
    with pytest.raises(ValueError, match="is not a new or empty folder"):
        train_backbone(parse_backbone_recipe(values))


def test_warm_up_must_end_before_the_last_step(values):
    with pytest.raises(ValueError, match=r"^`max_steps` must exceed .* Got 4\.$"):
        parse_backbone_recipe(values | {"max_steps": 4})


def test_a_prefix_of_no_parameter_is_refused(resnet):
    with pytest.raises(ValueError, match="no parameter starts with 'blocks'"):
        freeze(resnet, ["blocks"])


def test_a_film_that_is_not_there_is_not_looked_at(resnet):
    namer = LabelNamer(resnet, 2, torch.tensor([[1.0], [0.0]]), 0.0).eval()
    torch.nn.init.normal_(namer.classify.weight)
    films, one = torch.rand(2, 2, 1, 32, 32), torch.tensor([[1, 0], [1, 1]])
    first = namer(films, one, torch.zeros(2, 1))["logits"]
    films[0, 1] = 7
    assert torch.equal(namer(films, one, torch.zeros(2, 1))["logits"], first)


def test_studies_of_fewer_views_than_the_model_takes_fit(resnet):
    namer = LabelNamer(resnet, 2, torch.tensor([[1.0], [0.0]]), 0.0)
    films = torch.rand(3, 1, 1, 32, 32)
    assert namer(films, torch.ones(3, 1, dtype=torch.long), torch.zeros(3, 1))["logits"].shape == (3, 1)


def test_auc_is_the_share_of_pairs_in_order():
    logits, labels = torch.tensor([[3.0, 1.0], [2.0, 1.0], [1.0, 5.0]]), torch.tensor([[1, 1], [0, 1], [1, 1]])
    assert mean_auc(logits, labels) == 0.5
