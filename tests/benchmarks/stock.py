"""What a stock encoder-decoder writes when it learns from the same frozen features: the row that our models must beat.

python -m tests.benchmarks.stock RUN OUT.jsonl [--steps 3100] [--seed 42]

RUN is a folder of `radscribe train` with a frozen backbone and `film_copies`; its films were read already and are not
read again. Transformers' BART of MCSAM's size (2 encoder and 3 decoder layers, width 256) reads the features through
one linear layer, without views, memory or alignment, and writes by beams of 3. OUT.jsonl holds the reports of the
validation studies, for `radscribe evaluate` and `radscribe compare`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, Trainer, TrainingArguments, set_seed

from radscribe.training.build import load_checkpoint
from radscribe.training.data import StudyFilms, collate_with
from radscribe.training.processes import this_process
from radscribe.training.readers.studies import load_studies
from radscribe.training.recipe import load_recipe
from radscribe.training.train import _training_set

WIDTH = 256


class StockWriter(nn.Module):
    """BART behind a linear layer: features of a study's places (B, N, C) -> loss, or reports."""

    def __init__(self, channels: int, words: int, start: int, end: int, padding: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels, WIDTH)
        sizes = {"d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 3, "max_position_embeddings": 128}
        sizes |= {
            f"{side}_{name}": n
            for side in ("encoder", "decoder")
            for name, n in (("ffn_dim", 512), ("attention_heads", 8))
        }
        marks = {"bos_token_id": start, "decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": padding}
        self.bart = BartForConditionalGeneration(
            BartConfig(vocab_size=words, forced_eos_token_id=None, **sizes, **marks)
        )

    def forward(self, places: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.bart(inputs_embeds=self.enter(places), attention_mask=mask, labels=labels).loss}

    def write(self, places: Tensor, mask: Tensor, **settings: object) -> Tensor:
        """Word ids of a report a study, (B, T)."""
        return self.bart.generate(inputs_embeds=self.enter(places), attention_mask=mask, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3100)
    parser.add_argument("--seed", type=int, default=42)
    asked = parser.parse_args()
    recipe = load_recipe(str(asked.run / "recipe.yaml"), [])
    model, processor = load_checkpoint(asked.run)
    films = _training_set(recipe, load_studies(Path(recipe.dataset), "train"), model, processor)
    backbone = model.encoder.visual.backbone.to(this_process().device).eval()
    views = model.config.max_views

    def flat(features: Tensor, view_mask: Tensor) -> dict[str, Tensor]:
        """(B, V, C, h, w) -> the views' places in a row (B, V * h * w, C), and which of them are there."""
        places = features.flatten(3).transpose(2, 3)
        mask = view_mask[:, :, None].expand(places.shape[:3])
        return {"places": places.flatten(1, 2).float(), "mask": mask.flatten(1)}

    read = collate_with(processor, views)

    def collate(studies: list[dict]) -> dict[str, Tensor]:
        batch = read(studies)
        return flat(batch["visual_features"], batch["view_mask"]) | {"labels": batch["labels"]}

    set_seed(asked.seed)
    config = model.config
    ids = (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id)
    channels = films[0]["visual_features"].shape[1]
    stock = StockWriter(channels, config.vocab_size, *ids)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, seed=asked.seed, max_steps=asked.steps, per_device_train_batch_size=16, learning_rate=5e-4,
            lr_scheduler_type="cosine", warmup_steps=100, weight_decay=0.01, save_strategy="no", report_to="none",
            logging_steps=200, disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        Trainer(stock, arguments, train_dataset=films, data_collator=collate).train()
    write_reports(stock.eval(), backbone, read, load_studies(Path(recipe.dataset), "val"), processor, flat, asked.out)


@torch.inference_mode()
def write_reports(stock, backbone, read, studies, processor, flat, out: Path) -> None:
    """The validation studies' reports, one JSON line each."""
    films, names = StudyFilms(studies), list(studies["study_id"])
    with out.open("w") as file:
        for start in range(0, len(films), 32):
            batch = read([films[i] for i in range(start, min(start + 32, len(films)))])
            mask = batch["view_mask"]
            pixels = batch["pixel_values"].flatten(0, 1).to(next(stock.parameters()).device)
            features = backbone(pixels).last_hidden_state.unflatten(0, mask.shape)
            inputs = {
                name: value.to(features.device) for name, value in flat(features, mask.to(features.device)).items()
            }
            ids = stock.write(**inputs, num_beams=3, no_repeat_ngram_size=3, max_length=60)
            for name, report in zip(names[start : start + 32], processor.batch_decode(ids), strict=False):
                file.write(json.dumps({"id": name, "report": report}) + "\n")


if __name__ == "__main__":
    main()
