"""Fixtures that several test files share. Nothing here reads a real film or report."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that asks the Hub is a mistake
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import radscribe  # noqa: E402  (reads both when it is imported)

# The repository's root is the package, and pytest would import it a second time under the folder's name.
sys.modules[Path(__file__).parents[1].name] = radscribe


@pytest.fixture
def draw_film(tmp_path: Path) -> Callable[..., Path]:
    """draw_film("a.png", width=64, height=48): a grey picture of noise below tmp_path."""

    def draw(name: str, width: int = 64, height: int = 64) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return draw


@pytest.fixture
def study() -> Callable[..., dict[str, Any]]:
    """study("a", split="val"): a study record with one image that does not exist."""

    def make(name: str, **changes: Any) -> dict[str, Any]:
        record = {
            "study_id": name,
            "split": "train",
            "images": ["/film.png"],
            "views": ["frontal"],
            "findings": "Clear.",
        }
        return record | changes

    return make


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """write_lines("file.jsonl", rows): JSON lines below tmp_path; a row that is a string is written as it is."""

    def write(name: str, rows: list[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def plain_source(tmp_path: Path, draw_film: Callable, write_lines: Callable) -> Callable[..., tuple[Path, Path]]:
    """plain_source([row, ...]): a folder in the plain format with one film, and an OUT that does not exist yet."""

    def make(rows: list[Any]) -> tuple[Path, Path]:
        draw_film("src/images/a.png")
        write_lines("src/studies.jsonl", rows)
        return tmp_path / "src", tmp_path / "out"

    return make


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Java: METEOR, whose jar takes seconds to start, is left out."""
    monkeypatch.setattr("shutil.which", lambda name: None)


@pytest.fixture
def radscribe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """radscribe("prepare", ...): run the command in this process -> (exit code, stdout, stderr)."""
    from radscribe.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["radscribe", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Recipe keys of a model that trains in milliseconds a step: all parts, 32-px films of one channel."""
    decoder = {"d_model": 16, "decoder_layers": 1, "decoder_ffn_dim": 16, "decoder_attention_heads": 2}
    memory = {"memory_size": 4, "memory_dim": 4, "memory_top_k": 2, "memory_heads": 2}
    return {
        "encoder": {"model_type": "resnet", "layer_type": "basic", "embedding_size": 4, "num_channels": 1}
        | {"hidden_sizes": [4, 8], "depths": [1, 1]},
        "config": {"decoder": decoder | {"max_position_embeddings": 80}, "max_views": 2, "num_prompts": 2}
        | {"encoder_layers": 1, "sam_layers": 1}
        | memory,
        "image_processor": {"size": 32, "num_channels": 1, "image_mean": [0.5], "image_std": [0.25]},
        "max_length": 70,
        "min_frequency": 1,
        "workers": 0,
    }


def _save_untrained(folder: Path, **keys: Any) -> Path:
    """Write the model and processor of a tiny recipe to `folder`."""
    import torch

    from radscribe.training.build import build_model, build_processor, set_generation
    from radscribe.training.recipe import Recipe

    findings = ["The lungs are clear.", "The heart is enlarged.", "There is a small left effusion."]
    recipe = Recipe(dataset="", output_dir="", max_steps=1, **keys | {"max_length": 12})
    torch.manual_seed(0)  # else some of the models write reports that some of the tests cannot use
    processor = build_processor(recipe, findings)
    model = build_model(recipe, processor, findings)
    set_generation(model, recipe, processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained tiny MCSAM and its processor. Copy it before changing it."""
    return _save_untrained(tmp_path_factory.mktemp("checkpoint"), model="mcsam", memory_init="random", **tiny)


@pytest.fixture(scope="session")
def talkers(checkpoint: Path, uar_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both tiny models so set that their reports are words, whatever their random weights would write."""
    folders = []
    for kind, source in (("mcsam", checkpoint), ("uar", uar_checkpoint)):
        folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("talkers") / kind))
        file = folder / "generation_config.json"
        words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        silent = [number for word, number in words.items() if not word.isalpha() and word != "</s>"]
        settings = {"min_length": 9, "suppress_tokens": silent}
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        folders.append(folder)
    return folders


@pytest.fixture(scope="session")
def vq_sizes() -> dict[str, Any]:
    """Of a VQ model that reads 8 x 8 grey pixels as one of 24 codes, 16 codes a 32-px film."""
    return {"embed_dim": 4, "num_embeddings": 24, "latent_channels": 8, "in_channels": 16, "out_channels": 16} | {
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "num_patches": 4,
    }


@pytest.fixture(scope="session")
def image_tokenizer(vq_sizes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained VQ model. Copy it before changing it."""
    import torch
    from transformers.models.janus.configuration_janus import JanusVQVAEConfig
    from transformers.models.janus.modeling_janus import JanusVQVAE

    torch.manual_seed(0)
    model = JanusVQVAE(JanusVQVAEConfig(**vq_sizes))
    films = torch.rand(8, 16, 8, 8) * torch.linspace(0, 1, 8).view(8, 1, 1, 1) * 2 - 1
    with torch.no_grad():  # codes as training sets them: fresh ones lie so far away that every place gets the same
        rows = model.quant_conv(model.encoder(films)).permute(0, 2, 3, 1).flatten(0, 2)
        model.quantize.embedding.weight.copy_(rows[torch.randperm(len(rows))[:24]])
    folder = tmp_path_factory.mktemp("image_tokenizer")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def words_sizes() -> dict[str, Any]:
    """Of visual words: a backbone that reads 8 x 8 pixels of a colour film as one place, and 24 codes."""
    backbone = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 4}
    return {"encoder": backbone | {"hidden_sizes": [4, 8], "depths": [1, 1]}, "num_embeddings": 24} | {
        "feature_width": 8,
        "step": 8,
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.25],
    }


@pytest.fixture(scope="session")
def visual_words(words_sizes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of visual words whose codes are features of random films. Copy it before changing it."""
    import torch

    from radscribe.configuration.configuration_image_tokenizer import VisualWordsConfig
    from radscribe.modeling.modeling_image_tokenizer import VisualWords

    torch.manual_seed(0)
    model = VisualWords(VisualWordsConfig(**words_sizes)).eval()
    with torch.no_grad():
        places = model.read(torch.rand(8, 3, 32, 32)).flatten(2).transpose(1, 2).flatten(0, 1)
        model.codebook.weight.copy_(places[torch.randperm(len(places))[:24]])
    folder = tmp_path_factory.mktemp("visual_words")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_uar(tiny: dict[str, Any], image_tokenizer: Path) -> dict[str, Any]:
    """Recipe keys of a UAR that trains in milliseconds a step, on the codes of 32-px films."""
    sizes = {"decoder": tiny["config"]["decoder"], "max_views": 2, "encoder_layers": 1}
    return {
        "image_tokenizer": str(image_tokenizer),
        "config": sizes | {"basis_size": 32, "aligner_heads": 2},
        "image_processor": {"size": 32, "num_channels": 1, "image_mean": [0.0], "image_std": [1.0]},
        "augmentation": None,
        "max_length": 70,
        "min_frequency": 1,
        "workers": 0,
    }


@pytest.fixture(scope="session")
def uar_checkpoint(tiny_uar: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained tiny UAR and its processor. Copy it before changing it."""
    return _save_untrained(tmp_path_factory.mktemp("uar_checkpoint"), model="uar", **tiny_uar)


@pytest.fixture(scope="session")
def words_checkpoint(tiny_uar: dict[str, Any], visual_words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `uar_checkpoint`, on visual words. Copy it before changing it."""
    pixels = tiny_uar["image_processor"] | {"num_channels": 3}
    keys = tiny_uar | {"image_tokenizer": str(visual_words), "image_processor": pixels}
    return _save_untrained(tmp_path_factory.mktemp("words_checkpoint"), model="uar", **keys)


@pytest.fixture(scope="session")
def exports(checkpoint: Path, uar_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The Hub folders of the two tiny models, by their model type."""
    from radscribe.training.export_hub import export

    folder = tmp_path_factory.mktemp("exports")
    for kind, run in (("mcsam", checkpoint), ("uar", uar_checkpoint)):
        export(str(run), folder / kind)
    return {kind: folder / kind for kind in ("mcsam", "uar")}


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 phantoms: 36 to train on, 2 to validate, 2 to test."""
    from radscribe.training.readers.phantom import write_phantoms

    out = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(out, studies=40, seed=1, processes=1)
    return out


@pytest.fixture(scope="session")
def settings(tiny: dict[str, Any], request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """settings(output_dir, key=value): overrides of mcsam_phantom for a run of four steps of the tiny model."""

    def make(output_dir: Path, **changes: Any) -> list[str]:
        short = {"max_steps": 4, "eval_steps": 2, "batch_size": 4, "eval_batch_size": 2, "memory_init": "random"}
        if "dataset" not in changes:
            changes["dataset"] = str(request.getfixturevalue("phantoms"))
        values = tiny | short | {"output_dir": str(output_dir), "warmup_steps": 0} | changes
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]

    return make


@pytest.fixture
def own_studies(draw_film: Callable, study: Callable, tmp_path: Path) -> Callable[..., str]:
    """own_studies("zebra"): a set of four real-looking studies whose training reports have this word."""
    from radscribe.training.readers.studies import save_studies

    def make(word: str = "clear", splits: tuple[str, ...] = ("train", "train", "train", "val"), **changes: Any) -> str:
        film = str(draw_film("own.png"))
        texts = {"train": f"The lungs are {word}. The heart is normal.", "val": "The lungs are clear."}
        records = [
            study(f"own{i}", **{"split": split, "images": [film], "findings": texts.get(split, "")} | changes)
            for i, split in enumerate(splits)
        ]
        save_studies(records, tmp_path / "own")
        return str(tmp_path / "own")

    return make
