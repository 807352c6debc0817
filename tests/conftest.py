"""Fixtures that several test files share. Nothing here reads a real film or report."""

import json
import os
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


@pytest.fixture(scope="session")
def checkpoint(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained tiny MCSAM and its processor. Copy it before changing it."""
    from radscribe.training.build import build_model, build_processor, set_generation
    from radscribe.training.recipe import Recipe

    findings = ["The lungs are clear.", "The heart is enlarged.", "There is a small left effusion."]
    changes = {"memory_init": "random", "max_length": 12}
    recipe = Recipe(model="mcsam", dataset="", output_dir="", max_steps=1, **tiny | changes)
    processor = build_processor(recipe, findings)
    model = build_model(recipe, processor, findings)
    set_generation(model, recipe, processor)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
