"""`radscribe train RECIPE`: from prepared studies to a run's folder with everything in it.

The folder holds recipe.yaml (as run), config, weights, tokenizer and processor, generation settings, metrics.jsonl,
environment.json, and checkpoints/ to resume from. Its best checkpoint, by the recipe's validation metric, is what
`from_pretrained` loads. The test split is never opened.
"""

import argparse
import dataclasses
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Seq2SeqTrainingArguments,
    TrainerState,
    set_seed,
)

from ..processing.augmentation_cxr import CXRAugmentation
from ..processing.processing_report import ReportProcessor
from .backbone import parse_backbone_recipe, train_backbone
from .build import build_model, build_processor, load_checkpoint, reads_tokens, set_backbone, set_generation
from .data import StudyFilms, collate_with
from .environment import environment
from .errors import REQUEUE, Stopped, one_line
from .facts import add_facts
from .film_cache import ReadFilms, cache_key, read_films
from .film_domain import film_reader
from .image_tokenizer import parse_tokenizer_recipe, train_image_tokenizer
from .interruptions import StopOnSignal, last_whole_checkpoint, room_to_save
from .observations import ToldFilms, choose_thresholds, fit_observations, weigh_by_rarity
from .pretrain import pretrain_backbone
from .processes import on_cpu, this_process
from .readers.habits import load_source
from .readers.studies import is_phantom_set, load_studies
from .recipe import Recipe, parse_recipe, read_values, save_recipe, split_stages
from .sampler import count_words
from .samples import ShowSamples
from .stream import StudyStream
from .trainer import ReportTrainer, RunLog, leave_to_run_log, metric_names, report_metrics
from .visual_words import find_visual_words, parse_words_recipe

# What a report generator may start from: by the `model` of their recipes, how these are parsed and run.
FILM_READERS: dict[Any, tuple[Any, Any]] = {
    "image_tokenizer": (parse_tokenizer_recipe, train_image_tokenizer),
    "visual_words": (parse_words_recipe, find_visual_words),
    "backbone": (parse_backbone_recipe, train_backbone),
}


def train(recipe: str, overrides: list[str], resume: bool = False) -> dict[str, Any]:
    """Train a recipe and leave the best checkpoint in its `output_dir`.

    Returns:
        `output_dir`, `steps`, `minutes`, and `validation`: the metrics of the best checkpoint; with several stages
        also `rows`, the metrics of each.

    Raises:
        ValueError: a bad recipe, data set or checkpoint; a used `output_dir` without `resume`.
    """
    values = read_values(recipe, overrides)
    if (kind := values.get("model")) not in FILM_READERS:
        parsed = parse_recipe(values)
        result = run_recipe(parsed, resume)
        add_facts(parsed)
        return result
    if resume:
        raise ValueError(f"`--resume`: a recipe of `{kind}` trains in minutes and keeps no checkpoints. Start anew.")
    parse, make = FILM_READERS[kind]
    return make(parse(values))


def run_recipe(recipe: Recipe, resume: bool = False) -> dict[str, Any]:
    """As `train`, for a recipe of a report generator that is parsed already."""
    return run_stages(recipe, resume) if recipe.stages else run_stage(recipe, resume)


def run_stages(recipe: Recipe, resume: bool) -> dict[str, Any]:
    """Each stage in OUTPUT_DIR/stage_N, from the best checkpoint of the one before and with a new optimiser.

    What the last one leaves is copied to OUTPUT_DIR, which loads like any run. `resume` goes on with the stage that
    was cut off.
    """
    run, stages, rows = Path(recipe.output_dir), split_stages(recipe), []
    _check_folder(run, resume)
    is_phantom = is_phantom_set(load_studies(Path(recipe.dataset), "val")["study_id"])
    for stage in stages:
        _check_select(stage, is_phantom)  # before the first stage is trained, not after
    for number, (stage, changes) in enumerate(zip(stages, [{}, *recipe.stages], strict=True), start=1):
        folder = run / f"stage_{number}"
        stage.output_dir = str(folder)
        done = folder / "result.json"
        if resume and done.is_file():
            result = json.loads(done.read_text())
        else:
            print(f"stage {number}/{len(stages)}", file=sys.stderr, flush=True)
            begun = resume and (folder / "recipe.yaml").is_file()
            if number > 1:  # weights come from the stage before: none from a file, none pretrained again
                before = str(run / f"stage_{number - 1}")
                stage = dataclasses.replace(stage, init_from=before, encoder_weights=None, pretrain_steps=0)
            result = run_stage(stage, begun, None if number == 1 else changes.get("config", {}))
        rows.append({"stage": number, "steps": result["steps"], "minutes": result["minutes"]} | _chosen(result))
    result |= {"output_dir": str(run), "steps": sum(row["steps"] for row in rows), "rows": rows}
    result["minutes"] = round(sum(row["minutes"] for row in rows), 2)
    if this_process().is_main_process:
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy2(file, run / file.name)
        save_recipe(recipe, run / "recipe.yaml")
        (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _chosen(result: dict[str, Any]) -> dict[str, float]:
    """The validation metrics that a table of stages shows."""
    names = ("loss", "bleu_4", "rouge_l", "cider", "finding_f1", "distinct")
    return {name: result["validation"][name] for name in names if name in result["validation"]}


def run_stage(recipe: Recipe, resume: bool = False, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train one stage; `changes` are what the configuration of the model that it starts from is set to."""
    started = time.monotonic()
    run = Path(recipe.output_dir)
    _check_folder(run, resume)
    checkpoint = _last_checkpoint(run, resume)
    training, validation = load_studies(Path(recipe.dataset), "train"), load_studies(Path(recipe.dataset), "val")
    if recipe.eval_studies is not None:
        validation = validation.select(range(min(recipe.eval_studies, len(validation))))
    arguments = _arguments(recipe)  # before all else: they make the processes known to one another
    set_seed(recipe.seed)
    trainer, processor = _assemble(recipe, arguments, training, validation, changes)
    if trainer.is_world_process_zero():
        _write_beginnings(recipe, run, processor)
    if recipe.pretrain_steps and checkpoint is None:
        pretrain_backbone(
            trainer.model,
            trainer.train_dataset,
            list(training["labels"]),
            trainer.data_collator,
            _pretraining_arguments(recipe),
            run / "pretraining.jsonl",
        )
    if trainer.model.config.observations and checkpoint is None:
        fit_observations(trainer.model, trainer.train_dataset, trainer.data_collator)
    if isinstance(trainer.train_dataset, StudyStream) and checkpoint is not None:
        done = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).global_step
        trainer.train_dataset.learnt = done * recipe.accumulation
    stop = StopOnSignal()
    trainer.add_callback(stop)
    with room_to_save(run):
        with stop.listening():
            trainer.train(resume_from_checkpoint=checkpoint)
        if stop.stopped:
            raise Stopped(f"`{run}` was told to stop and saved a checkpoint: `--resume` goes on.")
        metrics = trainer.evaluate(metric_key_prefix="best")  # the best checkpoint is loaded by now
        trainer.save_model(str(run))
    result = {
        "output_dir": str(run),
        "steps": trainer.state.global_step,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "validation": {name.removeprefix("best_"): value for name, value in metrics.items()},
    }
    if trainer.is_world_process_zero():
        (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    this_process().wait_for_everyone()  # a next stage reads what the main process writes
    return result


def _assemble(
    recipe: Recipe,
    arguments: Seq2SeqTrainingArguments,
    training: datasets.Dataset,
    validation: datasets.Dataset,
    changes: dict[str, Any] | None,
) -> tuple[ReportTrainer, ReportProcessor]:
    is_phantom = is_phantom_set(validation["study_id"])
    _check_select(recipe, is_phantom)
    if recipe.pretrain_steps and not any(training["labels"]):
        raise ValueError("`pretrain_steps` needs labels; the training studies have none. Set it to 0.")
    findings = list(training["findings"])
    if recipe.init_from is not None:
        if changes is None:
            print(
                f"`init_from`: sizes, vocabulary, cleaning and film geometry are those of `{recipe.init_from}`; what "
                "the recipe says of them does not count",
                file=sys.stderr,
            )
        model, processor = load_checkpoint(recipe.init_from, **(changes or {}))
        if recipe.observations is not None and not model.config.observations:  # else it keeps those it knows
            told = {"observations": choose_thresholds(findings, recipe.observations)}
            model, processor = load_checkpoint(recipe.init_from, **(changes or {}) | told)
    else:
        processor = build_processor(recipe, findings)
        model = build_model(recipe, processor, findings)
    views = model.config.max_views
    if crowded := sum(len(films) > views for films in training["images"]):
        print(f"{crowded} training studies have more than {views} films: the first {views} are read", file=sys.stderr)
    set_generation(model, recipe, processor)
    _try_generation(model, processor, recipe.generation)
    set_backbone(model, recipe)
    references = processor.batch_decode(processor(text=list(validation["findings"]))["labels"], clean=True)
    collate = collate_with(processor, model.config.max_views)
    films = _training_set(recipe, training, model, processor)
    shown, written = StudyFilms(validation), list[str]()
    trainer = ReportTrainer(
        model=model,
        args=arguments,
        encoder_learning_rate=recipe.encoder_learning_rate,
        train_lengths=count_words(processor, findings) if recipe.group_by_length else None,
        train_weights=weigh_by_rarity(findings, recipe.rarity_power) if recipe.rarity_power else None,
        train_dataset=ToldFilms(films, list(model.config.observations)) if model.config.observations else films,
        eval_dataset=shown,
        data_collator=collate,
        processing_class=processor,
        compute_metrics=report_metrics(
            processor, references, list(validation["labels"]) if is_phantom else None, written
        ),
        callbacks=[RunLog(Path(recipe.output_dir) / "metrics.jsonl", recipe.select_by)],
    )
    leave_to_run_log(trainer)
    trainer.add_callback(ShowSamples(trainer, shown, written))
    if recipe.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(recipe.patience))
    return trainer, processor


def _check_select(recipe: Recipe, is_phantom: bool) -> None:
    if recipe.select_by not in metric_names(is_phantom):
        known = ", ".join(metric_names(is_phantom))
        raise ValueError(f"`select_by` must be a metric of these studies: {known}. Got {recipe.select_by!r}.")


def _training_set(
    recipe: Recipe, training: datasets.Dataset, model: PreTrainedModel, processor: ReportProcessor
) -> StudyFilms | ReadFilms | StudyStream:
    """Films, or what a frozen reader says of them where new ones are not asked for at every step."""
    augmentation = None if recipe.augmentation is None else CXRAugmentation(**recipe.augmentation)
    fitted = processor.image_processor
    shrink = 2 * (fitted.resize or fitted.size)  # twice what is left of a film keeps it sharp when it is turned
    if recipe.stream_buffer:
        state = this_process()
        order = (recipe.seed, recipe.stream_buffer, state.process_index, state.num_processes, recipe.batch_size)
        return StudyStream(Path(recipe.dataset), *order, augmentation, shrink)
    films = StudyFilms(training, augmentation, keep=fitted if recipe.keep_films else None, shrink=shrink)
    if not recipe.film_copies:
        return films
    tokens = reads_tokens(model)
    if not tokens and recipe.encoder_learning_rate > 0:
        raise ValueError(
            "`film_copies` keeps what a frozen backbone reads; this one learns. Set `encoder_learning_rate` to 0, or "
            "`film_copies` to 0."
        )
    device = this_process().device
    reader = film_reader(model).to(device).eval()
    copies, views = 1 if augmentation is None else recipe.film_copies, model.config.max_views
    settings = {"processor": processor.image_processor.to_dict(), "augmentation": recipe.augmentation}
    settings |= {"copies": copies, "views": views, "seed": recipe.seed if copies > 1 else 0}
    run = Path(recipe.output_dir)
    home = run.parent.parent if re.fullmatch(r"stage_\d+", run.name) else run.parent  # runs of one folder share it
    folder = home / "film_cache" / cache_key(reader, films, settings)
    with this_process().main_process_first():  # the others, later stages and a resumed run find them made
        answers = read_films(
            films,
            lambda batch: reader(batch.to(device)) if tokens else reader(batch.to(device)).last_hidden_state,
            lambda images: processor.image_processor(images, return_tensors="pt")["pixel_values"][:, 0],
            folder,
            views,
            copies,
            recipe.workers,
        )
    return ReadFilms(answers, films, views, copies, "visual_ids" if tokens else "visual_features")


def _try_generation(model: PreTrainedModel, processor: ReportProcessor, generation: dict[str, Any]) -> None:
    """Write two words for a blank film: settings that cannot work shall not wait for the first validation."""
    blank = processor(images=[Image.new("L", (64, 64))], return_tensors="pt")
    model.eval()  # the blank film must not enter the batch statistics
    try:
        model.generation_config.validate(strict=True)  # as saving does
        model.generate(**blank, max_length=3)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"`generation` cannot work as {generation}: {one_line(error)[:200]}") from error


def _arguments(recipe: Recipe, **changes: Any) -> Seq2SeqTrainingArguments:
    values = dict(
        output_dir=str(Path(recipe.output_dir) / "checkpoints"),
        seed=recipe.seed,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.eval_batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        adam_beta2=0.98,  # R2GenCMN, like its eps of 1e-9
        adam_epsilon=1e-9,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        use_cpu=on_cpu(),
        dataloader_num_workers=recipe.workers,
        dataloader_persistent_workers=recipe.workers > 0,
        remove_unused_columns=False,  # the data set's items are films and texts; the collator names the inputs
        eval_strategy="steps",
        eval_steps=recipe.eval_steps,
        save_strategy="steps",
        save_steps=recipe.eval_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=recipe.select_by,
        greater_is_better=not recipe.select_by.endswith("loss"),
        predict_with_generate=True,
        logging_steps=min(50, recipe.eval_steps),
        report_to=recipe.report_to or "none",
        run_name=Path(recipe.output_dir).name,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        ignore_data_skip=recipe.stream_buffer > 0,  # a stream skips by itself, without decoding films
    )
    return Seq2SeqTrainingArguments(**(values | changes))


def _pretraining_arguments(recipe: Recipe) -> Seq2SeqTrainingArguments:
    """The backbone's own stage: its learning rate, no validation, all else as in the run."""
    return _arguments(
        recipe,
        max_steps=recipe.pretrain_steps,
        learning_rate=recipe.encoder_learning_rate,
        warmup_steps=recipe.pretrain_steps // 10,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
    )


def _check_folder(run: Path, resume: bool) -> None:
    """Refuse to write over a run, and to resume one that is not there."""
    if run.is_file():
        raise NotADirectoryError(f"`output_dir` must be a folder. Got the file `{run}`.")
    if resume and not ((run / "recipe.yaml").is_file() or (run / "stage_1").is_dir()):
        raise ValueError(f"`--resume`: `{run}` holds no run. Start it without.")
    if not resume and run.is_dir() and any(run.iterdir()):
        raise ValueError(f"`output_dir` `{run}` is not empty: `--resume` goes on with it, another name starts anew.")


def _last_checkpoint(run: Path, resume: bool) -> str | None:
    """Where to go on from; None for a new run and for one that was cut off too early."""
    found = last_whole_checkpoint(run / "checkpoints") if resume else None
    if resume and found is None:
        print(f"`{run}` was cut off before its first checkpoint: it starts anew", file=sys.stderr)
        (run / "metrics.jsonl").unlink(missing_ok=True)
    return str(found) if found else None


def _write_beginnings(recipe: Recipe, run: Path, processor: ReportProcessor) -> None:
    """What must be there even if the run is cut off."""
    run.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, run / "recipe.yaml")
    processor.save_pretrained(run)
    facts = environment() | {"data": load_source(Path(recipe.dataset))}
    (run / "environment.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    """`python -m radscribe.training.train RECIPE ...`, the form that `accelerate launch -m` and torchrun need."""
    parser = argparse.ArgumentParser(description="Train a recipe.")
    parser.add_argument("recipe")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    try:
        result = train(arguments.recipe, arguments.overrides, arguments.resume)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(REQUEUE)
    except (ValueError, OSError) as error:
        print(f"Error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    if this_process().is_main_process:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
