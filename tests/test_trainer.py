"""Two learning rates, component losses as means, one line and one JSON entry a log, validation metrics."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import EvalPrediction, Seq2SeqTrainingArguments, TrainerControl, TrainerState
from transformers.modeling_outputs import ModelOutput

from radscribe.processing.image_processing_cxr import CXRImageProcessor
from radscribe.processing.processing_mcsam import MCSAMProcessor
from radscribe.processing.processing_text import build_tokenizer, clean_report
from radscribe.training.readers.phantom_grammar import write_report
from radscribe.training.trainer import ReportTrainer, RunLog, report_metrics
from tests.tools.rank_step import step


class TwoParts(nn.Module):
    """A backbone where MCSAM has it, and a head; its loss is the mean of its input, in two parts."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"visual": nn.ModuleDict({"backbone": nn.Linear(2, 2), "project": nn.Linear(2, 2)})}
        )
        self.norm = nn.LayerNorm(2)

    def forward(self, number, labels=None):
        weight = self.norm.weight.sum() * 0
        return ModelOutput(
            loss=number.mean() + weight,
            generation_loss=number.mean() - 1,
            alignment_loss=torch.ones(()),
            logits=number,
        )


@pytest.fixture
def trainer(tmp_path):
    """trainer(**arguments): a trainer of the stand-in model."""

    def make(**changes):
        settings = {"learning_rate": 1e-2, "weight_decay": 0.1, "report_to": "none", "use_cpu": True} | changes
        arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path), **settings)
        return ReportTrainer(model=TwoParts(), args=arguments, encoder_learning_rate=1e-4)

    return make


def groups_by_name(trainer):
    """{parameter name: its group} of the optimizer."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    return {names[id(parameter)]: group for group in groups for parameter in group["params"]}


def test_the_backbone_has_its_own_learning_rate(trainer):
    groups = groups_by_name(trainer())
    backbone = [group["lr"] for name, group in groups.items() if "backbone" in name]
    assert backbone == [1e-4, 1e-4]


def test_the_rest_has_the_learning_rate_of_the_recipe(trainer):
    groups = groups_by_name(trainer())
    assert {group["lr"] for name, group in groups.items() if "backbone" not in name} == {1e-2}


def test_batches_are_grouped_by_the_lengths_that_are_given(trainer):
    alone = trainer(per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert alone._get_train_sampler(range(8)).__class__.__name__ == "RandomSampler"
    alone.train_lengths = [9, 1, 8, 2, 7, 3, 6, 4]
    order = list(alone._get_train_sampler(range(8)))
    assert sorted(order) == list(range(8)) and len(alone._get_train_sampler(range(8)).lengths) == 8
    assert alone._get_train_sampler(range(8)).batch_size == 4


def test_every_parameter_is_optimised_once(trainer):
    trainer = trainer()
    optimised = [id(p) for group in trainer.create_optimizer().param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in trainer.model.parameters())


def test_weights_decay_but_biases_and_norms_do_not(trainer):
    decays = {name: group["weight_decay"] for name, group in groups_by_name(trainer()).items()}
    assert {name for name, decay in decays.items() if decay} == {
        "encoder.visual.backbone.weight",
        "encoder.visual.project.weight",
    }


def test_a_frozen_backbone_is_not_optimised(trainer):
    trainer = trainer()
    trainer.model.encoder["visual"]["backbone"].requires_grad_(False)
    assert not any("backbone" in name for name in groups_by_name(trainer))


def test_the_optimizer_has_the_recipes_settings(trainer):
    group = groups_by_name(trainer(adam_beta2=0.98, adam_epsilon=1e-9))["norm.weight"]
    assert group["betas"] == (0.9, 0.98) and group["eps"] == 1e-9


def test_both_learning_rates_follow_the_schedule(trainer):
    trainer = trainer(lr_scheduler_type="linear", max_steps=10)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    for _ in range(5):
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {5e-5, 5e-3}


def test_the_loss_is_the_models(trainer):
    trainer = trainer()
    assert trainer.compute_loss(trainer.model, {"number": torch.tensor([1.0, 3.0])}).item() == 2


def test_a_word_counts_as_much_in_short_batches_as_in_long_ones(trainer):
    trainer = trainer()
    trainer.train_lengths, trainer.mean_words = [3, 1], 2.0
    model, numbers = trainer.model.train(), torch.tensor([5.0, 7.0])
    losses = {}
    for words in (1, 2, 4):
        inputs = {"number": numbers, "labels": torch.full((2, words), 3)}
        losses[words] = float(trainer.compute_loss(model, inputs))
    assert losses == {1: 6.0 - 0.5 * 5.0, 2: 6.0, 4: 6.0 + 5.0}


def test_component_losses_are_logged_as_means(trainer):
    trainer = trainer()
    for number in (1.0, 2.0, 6.0):
        trainer.compute_loss(trainer.model.train(), {"number": torch.tensor([number])})
    trainer.log({"loss": 3.0})
    entry = trainer.state.log_history[-1]
    assert (entry["generation_loss"], entry["alignment_loss"]) == (2.0, 1.0)


def test_each_log_line_has_the_losses_since_the_last(trainer):
    trainer = trainer()
    for number in (100.0, 3.0):
        trainer.compute_loss(trainer.model.train(), {"number": torch.tensor([number])})
        trainer.log({"loss": number})
    assert trainer.state.log_history[-1]["generation_loss"] == 2


def test_validation_adds_nothing_to_the_training_losses(trainer):
    trainer = trainer()
    trainer.compute_loss(trainer.model.eval(), {"number": torch.tensor([9.0])})
    trainer.log({"loss": 1.0})
    assert "generation_loss" not in trainer.state.log_history[-1]


def test_the_sum_of_the_parts_is_no_part(trainer):
    """`loss` itself is logged by Transformers."""
    trainer = trainer()
    trainer.compute_loss(trainer.model.train(), {"number": torch.tensor([9.0])})
    assert set(trainer.component_sums) == {"generation_loss", "alignment_loss"}


@pytest.fixture
def log(tmp_path):
    """log(step, **values): a log entry of a run of 100 steps."""
    run_log = RunLog(tmp_path / "metrics.jsonl", select_by="bleu_4")

    def write(step, **values):
        state = TrainerState(global_step=step, max_steps=100, is_world_process_zero=True)
        run_log.on_log(None, state, TrainerControl(), logs=values)

    return write


def test_every_log_entry_is_a_json_line(log, tmp_path):
    log(5, loss=2.0)
    log(10, eval_bleu_4=0.1)
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert entries == [{"step": 5, "loss": 2.0}, {"step": 10, "eval_bleu_4": 0.1}]


def test_training_losses_are_said_in_one_line(log, capsys):
    log(5, loss=2.0, generation_loss=1.5, grad_norm=3.0)
    assert capsys.readouterr() == ("", "step 5/100: loss 2.000, generation loss 1.500\n")


def test_validation_is_said_in_one_line(log, capsys):
    log(5, eval_bleu_4=0.25, eval_distinct=0.5, eval_runtime=3.0)
    assert capsys.readouterr().err == "step 5/100: eval bleu 4 0.250, eval distinct 0.500\n"


def test_the_line_names_the_metric_that_selects(tmp_path, capsys):
    state = TrainerState(global_step=5, max_steps=9, is_world_process_zero=True)
    RunLog(tmp_path / "m.jsonl", "rouge_l").on_log(None, state, TrainerControl(), logs={"eval_rouge_l": 0.375})
    assert "rouge l 0.375" in capsys.readouterr().err


def test_the_time_left_is_said_from_the_second_line_on(log, capsys):
    log(5, loss=2.0)
    log(10, loss=1.0)
    first, second = capsys.readouterr().err.splitlines()
    assert "left" not in first and "min left" in second


def test_other_processes_write_nothing(tmp_path):
    state = TrainerState(global_step=5, max_steps=9, is_world_process_zero=False)
    RunLog(tmp_path / "m.jsonl", "bleu_4").on_log(None, state, TrainerControl(), logs={"loss": 1.0})
    assert not (tmp_path / "m.jsonl").exists()


FOUND = [
    [("effusion", "left", "large", "-")],
    [("pacemaker", "left", "-", "-"), ("cardiomegaly", "-", "mild", "-")],
    [],
]
LABELS = [[{"name": "/".join(finding), "image": 0, "box": []} for finding in findings] for findings in FOUND]


@pytest.fixture
def truth():
    """Three phantom reports: processor, word ids (3, T) of the truth, cleaned references."""
    reports = [write_report(findings, np.random.default_rng(0)) for findings in FOUND]
    processor = MCSAMProcessor(CXRImageProcessor(size=16), build_tokenizer(reports, min_frequency=1))
    return processor, processor(text=reports)["labels"], [clean_report(report) for report in reports]


def test_perfect_reports_pass_the_phantom_exam(truth):
    processor, ids, references = truth
    assert report_metrics(processor, references, LABELS)(EvalPrediction(ids, ids))["finding_f1"] == 1


def test_perfect_reports_have_bleu_one(truth):
    processor, ids, references = truth
    assert report_metrics(processor, references, None)(EvalPrediction(ids, ids))["bleu_4"] == pytest.approx(1)


def test_reports_of_other_studies_fail_the_phantom_exam(truth):
    processor, ids, references = truth
    assert (
        report_metrics(processor, references, LABELS)(EvalPrediction(np.roll(ids, 1, axis=0), ids))["finding_f1"] == 0
    )


def test_one_report_for_all_is_one_distinct_report_in_three(truth):
    processor, ids, references = truth
    same = EvalPrediction(np.stack([ids[0]] * 3), ids)
    assert report_metrics(processor, references, None)(same)["distinct"] == pytest.approx(1 / 3)


def test_real_studies_have_no_phantom_exam(truth):
    processor, ids, references = truth
    assert "finding_f1" not in report_metrics(processor, references, None)(EvalPrediction(ids, ids))


def test_padding_that_gathering_adds_is_no_word(truth):
    processor, ids, references = truth
    padded = np.pad(ids, ((0, 0), (0, 4)), constant_values=-100)
    assert report_metrics(processor, references, LABELS)(EvalPrediction(padded, ids))["finding_f1"] == 1


def test_studies_that_gathering_repeats_are_left_out(truth):
    processor, ids, references = truth
    more = np.concatenate([ids, ids[:1]])
    assert report_metrics(processor, references, LABELS)(EvalPrediction(more, more))["bleu_4"] == pytest.approx(1)


def test_validation_starts_no_java(truth, monkeypatch):
    monkeypatch.setattr("radscribe.training.metrics.nlg.Meteor", None)
    processor, ids, references = truth
    assert "meteor" not in report_metrics(processor, references, None)(EvalPrediction(ids, ids))


# Two processes of 8 studies, and one of 16

ONLY_WORDS, ALL, LOCAL = {"alignment_weight": 0.0}, {}, {"global_negatives": False}
CHANGES = {
    "mcsam": [ONLY_WORDS, ALL, LOCAL],
    "uar": [ONLY_WORDS, ALL, LOCAL, {"alignment_weight": 0.0, "refine": True}],
}


def difference(a, b):
    """|a - b| / |a| of all gradients as one vector."""
    assert a.keys() == b.keys()
    square = sum((a[name] - b[name]).double().square().sum() for name in a)
    return float(square.sqrt() / sum(a[name].double().square().sum() for name in a).sqrt())


@pytest.fixture(scope="module", params=CHANGES)
def gradients(request, tmp_path_factory):
    """gradients(launch, number): of a step in this launch with the kind's change of this number; and the kind."""
    kind, folder = request.param, tmp_path_factory.mktemp("ranks")
    for number, change in enumerate(CHANGES[kind]):
        step(f"{folder}/whole.{number}", kind, 16, 1, change)
        step(f"{folder}/accumulated.{number}", kind, 4, 4, change)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    tool = ["-m", "tests.tools.rank_step", f"{folder}/ranks", kind, "8", "1", *map(json.dumps, CHANGES[kind])]
    subprocess.run(launch + tool, check=True, capture_output=True)
    return lambda name, number: torch.load(f"{folder}/{name}.{number}"), kind


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one_with_the_whole_batch(gradients):
    """The words' loss (reports of 3 to 31 words), the contrastive loss with negatives of both, UAR's mask loss."""
    read, kind = gradients
    for number in {0, 1, len(CHANGES[kind]) - 1} - {2}:
        assert difference(read("whole", number), read("ranks", number)) < 1e-5


@pytest.mark.slow
def test_accumulated_batches_give_the_gradient_of_the_whole_where_nothing_is_compared(gradients):
    """In-batch negatives forbid it: a study is compared with its own batch alone."""
    read, kind = gradients
    for number in {0, len(CHANGES[kind]) - 1} - {2}:
        assert difference(read("whole", number), read("accumulated", number)) < 1e-5
    assert difference(read("whole", 1), read("accumulated", 1)) > 1e-3


@pytest.mark.slow
def test_local_negatives_are_those_of_each_process(gradients):
    read, _ = gradients
    assert difference(read("whole", 1), read("whole", 2)) == 0
    assert difference(read("whole", 2), read("ranks", 2)) > 1e-3
