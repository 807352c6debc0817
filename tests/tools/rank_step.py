"""One step of training on 16 made-up studies, in as many processes as it is launched in: its gradients, to a file.

python -m tests.tools.rank_step OUT KIND BATCH ACCUMULATION [CHANGES ...]
torchrun --nproc-per-node 2 -m tests.tools.rank_step OUT KIND 8 1

KIND is mcsam or uar; CHANGES are JSON of its configuration, OUT.0, OUT.1 ... the gradients with each. Nothing is drawn
at random while the step is made, so that the order of ranks cannot matter. `tests/test_trainer.py` compares launches.
"""

import json
import sys
import tempfile

import torch
from transformers import ResNetConfig, Seq2SeqTrainingArguments, TrainerCallback

from radscribe.training.build import MODELS
from radscribe.training.recipe import CONFIGS
from radscribe.training.trainer import ReportTrainer

WIDTH, WORDS = 16, 50
DECODER = {"d_model": WIDTH, "decoder_layers": 1, "decoder_ffn_dim": 16, "decoder_attention_heads": 2}
DECODER |= {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "max_position_embeddings": 40}
PARTS = {
    "mcsam": {
        "encoder": ResNetConfig(embedding_size=4, hidden_sizes=[8], depths=[1], layer_type="basic"),
        "memory_dim": WIDTH, "memory_size": 8, "memory_top_k": 3, "memory_heads": 2, "sam_layers": 1,
        "visual_dropout": 0.0, "num_prompts": 2,
    },
    "uar": {"image_tokenizer": {"model_type": "flava_image_codebook", "hidden_size": 4, "num_groups": 4,
            "input_channels": 3, "num_blocks_per_group": 1, "vocab_size": 16},
            "basis_size": 8, "aligner_heads": 2, "image_size": 32},
}  # fmt: skip


class KeepGradients(TrainerCallback):
    """What the optimiser would be given: the main process writes it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.is_world_process_zero:
            named = {
                name.removeprefix("module."): p.grad.clone()
                for name, p in model.named_parameters()
                if p.grad is not None
            }
            torch.save(named, self.path)


def studies() -> list[dict[str, torch.Tensor]]:
    """16 films with reports of 3 to 33 words, two of them the same report."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(16):
        words = torch.full((34,), -100)
        count = 3 + 2 * (i % 15)
        words[:count] = torch.randint(4, WORDS, (count,), generator=torch.Generator().manual_seed(i % 15))
        made.append({"pixel_values": torch.rand(1, 3, 32, 32, generator=generator), "labels": words})
    return made


def step(out: str, kind: str, batch: int, accumulation: int, changes: dict) -> None:
    """One step of a fresh model of this kind with these changes of its configuration."""
    torch.manual_seed(0)
    config = CONFIGS[kind](vocab_size=WORDS, max_views=1, encoder_layers=1, decoder=DECODER, **PARTS[kind] | changes)
    model = MODELS[kind](config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # on a CPU nobody averages its statistics over ranks
            module.eval().train = lambda mode=True, module=module: module
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=1,
            use_cpu=True, report_to="none", save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
            max_grad_norm=0.0, ddp_find_unused_parameters=False, logging_steps=1,
        )  # fmt: skip
        trainer = ReportTrainer(model=model, args=arguments, encoder_learning_rate=1e-3, train_dataset=studies())
        trainer.add_callback(KeepGradients(out))
        trainer.train()


def main() -> None:
    out, kind, batch, accumulation, *changes = sys.argv[1:]
    for number, change in enumerate(changes or ["{}"]):
        step(f"{out}.{number}", kind, int(batch), int(accumulation), json.loads(change))


if __name__ == "__main__":
    main()
