"""What the README promises in Python runs as it stands there."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README.split("\n## Use it\n")[1].split("\n## ")[0], re.DOTALL)


def test_the_section_has_its_snippets():
    assert len(SNIPPETS) == 3


@pytest.mark.slow
@pytest.mark.parametrize("index", range(3))
def test_each_snippet_runs(index, checkpoint, exports, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, "runs/demo")
    shutil.copytree(exports["mcsam"], "hub/demo")
    for seed, name in enumerate(("frontal.png", "lateral.png")):
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 40), dtype=np.uint8)).save(name)
    exec(compile(SNIPPETS[index], f"README, snippet {index}", "exec"), {"__name__": "snippet"})


@pytest.mark.slow
def test_the_section_s_command_makes_the_folder_it_names(radscribe, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, "runs/demo")
    command = re.search(r"^radscribe (export .*)$", README.split("\n## Use it\n")[1], re.MULTILINE)
    assert command is not None and radscribe(*command.group(1).split())[0] == 0
    assert Path("hub/demo/pipeline_report.py").exists() and "radscribe" in sys.modules
