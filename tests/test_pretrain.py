"""The backbone's stage on labels: which labels count, what it learns, and that it touches nothing else."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Seq2SeqTrainingArguments

from radscribe.training.build import load_checkpoint
from radscribe.training.data import StudyFilms, collate_with
from radscribe.training.pretrain import LabelProbe, label_table, pretrain_backbone
from radscribe.training.readers.studies import load_studies, save_studies


def named(*names):
    """The labels of one study."""
    return [{"name": name, "image": 0, "box": []} for name in names]


@pytest.fixture
def studies(tmp_path, study):
    """Twelve studies whose film is bright where the study has `light/left`, dark where not."""
    records = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((32, 32), 220 if i % 2 else 30, np.uint8)).save(path)
        labels = named("light/left/large/-") if i % 2 else []
        records.append(study(f"s{i}", images=[str(path)], labels=labels))
    save_studies(records, tmp_path / "set")
    return load_studies(tmp_path / "set", "train")


@pytest.fixture
def pretrain(checkpoint, studies, tmp_path):
    """pretrain(steps): a fresh tiny model after that many steps on `studies`, and its first weights."""

    def run(steps=12, records=None, log=tmp_path / "log.jsonl"):
        model, processor = load_checkpoint(str(checkpoint))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=steps,
            learning_rate=0.05,
            per_device_train_batch_size=6,
            remove_unused_columns=False,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            seed=1,
        )
        records = list(studies["labels"]) if records is None else records
        pretrain_backbone(model, StudyFilms(studies), records, collate_with(processor, 2), arguments, log)
        return model, before

    return run


def test_a_label_is_what_and_where_without_size():
    assert label_table([named("effusion/left/large/-", "effusion/left/small/-")])[0] == ["effusion/left"]


def test_the_table_marks_the_labels_of_each_study():
    names, table = label_table([named("a/left"), named("b"), [], named("b", "a/left")])
    assert (names, table.tolist()) == (["a/left", "b"], [[1, 0], [0, 1], [0, 0], [1, 1]])


def test_a_label_seen_twice_in_a_study_counts_once():
    assert label_table([named("a/left", "a/left")])[1].tolist() == [[1.0]]


def test_labels_of_less_than_a_hundredth_of_the_studies_are_left_out():
    records = [named("often")] * 199 + [named("often", "once")]
    assert label_table(records)[0] == ["often"]


def test_the_probe_gives_a_logit_a_label_and_their_cross_entropy(checkpoint):
    probe = LabelProbe(load_checkpoint(str(checkpoint))[0].encoder.visual, 3).eval()
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    out = probe(torch.randn(2, 2, 1, 32, 32), torch.ones(2, 2, dtype=torch.long), labels)
    chance = out["logits"].sigmoid()
    expected = -(labels * chance.log() + (1 - labels) * (1 - chance).log()).mean()
    assert out["logits"].shape == (2, 3) and torch.isclose(out["loss"], expected)


def test_the_probe_does_not_look_at_views_that_are_not_there(checkpoint):
    probe = LabelProbe(load_checkpoint(str(checkpoint))[0].encoder.visual, 3).eval()
    films, labels = torch.randn(1, 2, 1, 32, 32), torch.zeros(1, 3)
    one = torch.tensor([[1, 0]])
    first = probe(films, one, labels)["logits"]
    films[:, 1] = 7
    assert torch.equal(first, probe(films, one, labels)["logits"])


@pytest.mark.slow
def test_the_labels_are_learned(pretrain, tmp_path):
    pretrain(steps=25)
    losses = [json.loads(line).get("loss") for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert len(losses) == 25 and losses[-1] < 0.3 < losses[0]


@pytest.mark.slow
def test_only_the_visual_tokens_change(pretrain):
    model, before = pretrain(steps=2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("encoder.visual.") for name in changed)
    assert any(name.startswith("encoder.visual.backbone.") for name in changed)


@pytest.mark.slow
def test_the_weights_hold_nothing_of_the_probe(pretrain):
    model, before = pretrain(steps=1)
    assert model.state_dict().keys() == before.keys()


def test_studies_without_labels_are_refused(pretrain):
    with pytest.raises(ValueError, match="`pretrain_steps` needs labels"):
        pretrain(records=[[]] * 12)
