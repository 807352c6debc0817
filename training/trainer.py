"""Trainer of report generators: two learning rates, component losses in the log, validation by generation."""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import (
    EvalPrediction,
    PrinterCallback,
    ProcessorMixin,
    ProgressCallback,
    Seq2SeqTrainer,
    Trainer,
    TrainerCallback,
)
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from ..modeling.modeling_losses import IGNORED
from .metrics.chest_findings import ChestFindings
from .metrics.phantom_exam import exam
from .metrics.word_overlap import WordOverlap
from .sampler import AlikeLengths
from .stream import StudyStream

BACKBONE = "encoder.visual.backbone."


class ReportTrainer(Seq2SeqTrainer):
    """`Seq2SeqTrainer` with a learning rate of its own for the visual backbone, and each component loss logged."""

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        *args: Any,
        encoder_learning_rate: float,
        train_lengths: Sequence[int] | None = None,
        train_weights: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """`train_lengths`: words of each training report, end mark included, to group batches by; None mixes them.
        `train_weights`: how often each study is drawn for such batches; None: once an epoch."""
        super().__init__(*args, **kwargs)
        self.train_weights = train_weights
        self.train_lengths = train_lengths
        # Of a report; a loss that is a mean over words is weighed by it. Grouped by length: of all reports there are.
        self.mean_words: Any = None if train_lengths is None else sum(train_lengths) / len(train_lengths)
        self.encoder_learning_rate = encoder_learning_rate
        self.component_sums: dict[str, Any] = defaultdict(float)  # tensors: `.item()` would stop the card at each step
        self.component_count = 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW over backbone and rest, each split by whether weight decay applies."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups[BACKBONE in name, name in decayed].append(parameter)
        settings = [
            {
                "params": parameters,
                "lr": self.encoder_learning_rate if backbone else self.args.learning_rate,
                "weight_decay": self.args.weight_decay if decay else 0.0,
            }
            for (backbone, decay), parameters in groups.items()
        ]
        betas = (self.args.adam_beta1, self.args.adam_beta2)
        self.optimizer = torch.optim.AdamW(settings, betas=betas, eps=self.args.adam_epsilon, fused=True)
        return self.optimizer

    def get_train_dataloader(self) -> Any:
        """As stock; a stream is shared out among processes already, and is not to be read by all of them."""
        if not isinstance(self.train_dataset, StudyStream):
            return super().get_train_dataloader()
        return torch.utils.data.DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator(),  # of its own: a resumed run draws from the common one what it would have
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        """Mixed, or batches of reports of about one length; those of all processes and accumulated steps are alike."""
        if self.train_lengths is None:
            return super()._get_train_sampler(train_dataset)
        studies = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return AlikeLengths(self.train_lengths, studies, self.args.seed, self.train_weights)

    def compute_loss(self, model: Any, inputs: dict, return_outputs: bool = False, **kwargs: Any) -> Any:
        """The model's loss; its named parts are summed up for the log."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            if self.mean_words is not None and self._learns_means():
                share = (inputs["labels"] != IGNORED).sum() / (self.mean_words * len(inputs["labels"]))
                loss = loss + (share - 1) * self._word_means(outputs)
            self.component_count += 1
            for name, value in outputs.items():
                if name.endswith("_loss") and value is not None:
                    self.component_sums[name] = self.component_sums[name] + value.detach().float()
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """As stock; also counts the words of this step's batches, those of all processes and accumulated ones.

        A loss is a mean over the words of one batch, and the mean of such means is not the mean over all words: a word
        of a batch of short reports would count for more, and two processes of 8 studies would not be one of 16.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.train_lengths is None:
            self.mean_words = None
        if self.train_lengths is None and len(batches) * self.args.world_size > 1 and "labels" in batches[0]:
            words = sum((batch["labels"] != IGNORED).sum() for batch in batches).to(device)
            studies = torch.full_like(words, sum(len(batch["labels"]) for batch in batches))
            words, studies = self.accelerator.reduce(torch.stack([words, studies]), reduction="sum")
            self.mean_words = words / studies
        return batches, items

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As stock; under FSDP2 with whole weights: `generate()` goes past the hook that would gather them."""
        sharded = [module for module in self.model.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.unshard()
        for module in sharded[1:]:  # layers must not let go at each word: processes end at different ones
            module.set_reshard_after_forward(False, recurse=False)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            for module in sharded:
                module.reshard()
            for module in sharded[1:]:
                module.set_reshard_after_forward(True, recurse=False)

    def _learns_means(self) -> bool:
        """Whether the model's loss is a mean over words; a sum counts each word alike already."""
        return getattr(getattr(self.model, "config", None), "loss_reduction", "mean") == "mean"

    def _word_means(self, outputs: Any) -> Any:
        """The parts of a loss that are means over words, as they stand in it."""
        mask_loss = outputs.get("mask_loss")
        return outputs["generation_loss"] + (0 if mask_loss is None else self.model.config.mask_weight * mask_loss)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the component losses since the last training line."""
        if "loss" in logs and self.component_count:
            logs |= {
                name: round(float(value) / self.component_count, 4) for name, value in self.component_sums.items()
            }
            self.component_sums.clear()
            self.component_count = 0
        super().log(logs, start_time)


def leave_to_run_log(trainer: Trainer) -> None:
    """Take the stock printers away: both print dictionaries on stdout, which belongs to --json."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)


class RunLog(TrainerCallback):
    """One line a log entry on stderr, and every entry in `metrics.jsonl`."""

    def __init__(self, path: Path, select_by: str) -> None:
        self.path, self.select_by = path, select_by
        self.started = time.monotonic()
        self.first_step: int | None = None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        entry = {"step": state.global_step} | logs
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if "loss" in logs:
            self._say(state, [name for name in logs if name.endswith("loss")], logs)
        elif f"eval_{self.select_by}" in logs:
            names = [
                "eval_loss",
                f"eval_{self.select_by}",
                "eval_bleu_4",
                "eval_cider",
                "eval_clinical_f1",
                "eval_finding_f1",
                "eval_distinct",
            ]
            self._say(state, [name for name in dict.fromkeys(names) if name in logs], logs)

    def _say(self, state: TrainerState, names: list[str], logs: dict[str, float]) -> None:
        if self.first_step is None:
            self.started, self.first_step = time.monotonic(), state.global_step
        done = state.global_step - self.first_step
        left = (time.monotonic() - self.started) / done * (state.max_steps - state.global_step) if done else 0
        values = ", ".join(f"{name.replace('_', ' ')} {logs[name]:.3f}" for name in names)
        time_left = f", {left / 60:.1f} min left" if done else ""
        print(f"step {state.global_step}/{state.max_steps}: {values}{time_left}", file=sys.stderr, flush=True)


def metric_names(is_phantom: bool) -> list[str]:
    """What validation measures, and `select_by` may name."""
    names = [
        "bleu_1",
        "bleu_2",
        "bleu_3",
        "bleu_4",
        "rouge_l",
        "cider",
        "clinical_f1",
        "clinical_f1_macro",
        "distinct",
    ]
    names.append("loss")
    return [*names, "finding_f1"] if is_phantom else names


def report_metrics(
    processor: ProcessorMixin, references: list[str], labels: list[list[dict]] | None, written: list[str] | None = None
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Validation metrics of generated reports.

    Args:
        references: cleaned reports of the validation studies, in their order.
        labels: units drawn into phantom studies; None for real ones.
        written: is filled with the latest reports.
    """

    words, findings = WordOverlap(keep_in_memory=True), ChestFindings(keep_in_memory=True)

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        ids = prediction.predictions[: len(references)]
        reports = processor.batch_decode(ids, clean=True)
        if written is not None:
            written[:] = reports
        metrics: dict[str, float] = {}
        for metric in (words, findings):
            metrics |= metric.compute(predictions=reports, references=references)
        metrics["distinct"] = len(set(reports)) / len(reports)
        if labels is not None:
            metrics["finding_f1"] = exam(reports, labels)["finding_f1"]["micro"]
        return metrics

    return compute
