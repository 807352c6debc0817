"""Fixtures that several test files share. Nothing here reads a real film or report."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that asks the Hub is a mistake
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Java: METEOR, whose jar takes seconds to start, is left out."""
    monkeypatch.setattr("shutil.which", lambda name: None)
