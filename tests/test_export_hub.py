"""Exported Hub folders: what lies in them, what the exporter refuses, and that other processes load them alike."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from radscribe import ReportPipeline
from radscribe.training import export_hub
from radscribe.training.build import load_checkpoint
from tests.tools.cross_version import COLUMNS, expect, probe

KINDS = ("mcsam", "uar")
PYTHON_457 = os.environ.get("RADSCRIBE_PYTHON_457")  # a Python with transformers 4.57.6, torch and pillow


@pytest.fixture
def files_of(tmp_path):
    """files_of({"folder/file.py": text, ...}): what `flatten_code` makes of the first and what it names."""

    def make(texts):
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        entry = tmp_path / next(iter(texts))
        found = export_hub._closure(entry)
        return {path.name: export_hub._flatten(path) for path in found}

    return make


# Code


@pytest.mark.parametrize("kind", KINDS)
def test_no_exported_file_names_the_package_or_a_folder_of_it(exports, kind):
    for path in exports[kind].glob("*.py"):
        for line in path.read_text().splitlines():
            if line.lstrip().startswith(("import ", "from ")):
                assert "radscribe" not in line and not line.lstrip().startswith("from ..")


@pytest.mark.parametrize("kind", KINDS)
def test_every_relative_import_names_a_file_of_the_folder(exports, kind):
    for path in exports[kind].glob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith("from ."):
                assert (exports[kind] / f"{line.split()[1].removeprefix('.')}.py").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_model_s_code_stays_behind(exports, kind):
    other = "uar" if kind == "mcsam" else "mcsam"
    assert not list(exports[kind].glob(f"*{other}*"))


def test_an_import_is_rewritten_to_the_file_s_name(files_of):
    files = files_of({"a/one.py": "from ..b.two import x\n", "b/two.py": "x = 1\n"})
    assert files == {"one.py": "from .two import x\n", "two.py": "x = 1\n"}


@pytest.mark.parametrize(
    "line", ["from ..b.two import *", "from . import two", "import radscribe", "from radscribe.b.two import x"]
)
def test_imports_that_a_flat_folder_cannot_have_are_refused(files_of, line):
    with pytest.raises(ValueError, match=r"one.py line 1 .*import"):
        files_of({"a/one.py": f"{line}\n", "b/two.py": "x = 1\n"})


def test_two_files_of_one_name_are_refused(monkeypatch, tmp_path):
    for name, text in {"a/one.py": "from ..b.one import x\n", "b/one.py": "x = 1\n"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(export_hub.inspect, "getfile", lambda kind: str(tmp_path / "a" / "one.py"))
    with pytest.raises(ValueError, match="Two files are named one.py"):
        export_hub.flatten_code([ReportPipeline])


# Folder


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_safetensors_alone(exports, kind):
    assert [
        path.name for path in exports[kind].iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".pth")
    ] == ["model.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_says_where_code_lies_and_how_to_compute(exports, kind):
    config = json.loads((exports[kind] / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert set(config["auto_map"]) == {"AutoConfig", *export_hub.MODEL_CLASSES}
    assert set(config["custom_pipelines"]) == {"image-to-text", "image-text-to-text"}
    references = [*config["auto_map"].values(), *(task["impl"] for task in config["custom_pipelines"].values())]
    for reference in references:
        file, name = reference.split(".")
        assert f"class {name}(" in (exports[kind] / f"{file}.py").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_no_setting_names_a_folder_of_this_machine(exports, kind):
    for path in exports[kind].glob("*.json"):
        assert "/tmp" not in path.read_text() and os.path.expanduser("~") not in path.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_loads_what_was_saved(exports, kind):
    model, _ = load_checkpoint(str(exports[kind]))
    saved, loaded = load_file(exports[kind] / "model.safetensors"), model.state_dict()
    assert [name for name in saved if not torch.equal(saved[name], loaded[name])] == []


@pytest.fixture(scope="module")
def words_export(words_checkpoint, tmp_path_factory):
    """The Hub folder of a tiny UAR on visual words."""
    folder = tmp_path_factory.mktemp("export") / "uar"
    export_hub.export(str(words_checkpoint), folder)
    return folder


def test_visual_words_travel_inside_the_export(words_export, visual_words):
    own = load_checkpoint(str(words_export))[0].encoder.unifier.tokenizer.model.state_dict()
    found = load_file(visual_words / "model.safetensors")
    assert found and all(torch.equal(own[name], tensor) for name, tensor in found.items())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["package", "remote code"])
@pytest.mark.parametrize("python", [sys.executable, PYTHON_457], ids=["this version", "4.57.6"])
def test_visual_words_load_elsewhere_and_the_same_tokens_are_written(words_export, films, python, mode):
    if python is None:
        pytest.skip("RADSCRIBE_PYTHON_457 names no Python with transformers 4.57.6")
    row = probe(python, words_export, mode, expect(str(words_export), films))
    assert {name: row[name] for name in COLUMNS} == dict.fromkeys(COLUMNS, "yes")


def test_a_half_precision_run_is_exported_in_full_precision(checkpoint, tmp_path):
    model, processor = load_checkpoint(str(checkpoint))
    model.bfloat16().save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    export_hub.export(str(tmp_path / "run"), tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out/model.safetensors").values()} <= {
        torch.float32,
        torch.int64,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_half_the_size_are_computed_with_in_full_precision(kind, request, tmp_path):
    run = request.getfixturevalue({"mcsam": "checkpoint", "uar": "uar_checkpoint"}[kind])
    export_hub.export(str(run), tmp_path / "out", bf16=True)
    original, loaded = (load_checkpoint(str(folder))[0].state_dict() for folder in (run, tmp_path / "out"))
    stored = load_file(tmp_path / "out/model.safetensors")
    for name, tensor in original.items():
        half = tensor.is_floating_point()
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.bfloat16().float() if half else tensor)
        assert name not in stored or stored[name].dtype == (torch.bfloat16 if half else tensor.dtype)


# Refusals


def test_a_folder_with_something_in_it_is_left_alone(radscribe, checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, _, error = radscribe("export", checkpoint, tmp_path)
    assert code == 2 and "new or empty folder" in error and len(error.splitlines()) == 1


def test_pickled_weights_are_refused_in_one_line(radscribe, checkpoint, tmp_path):
    run = shutil.copytree(checkpoint, tmp_path / "run")
    torch.save(load_file(run / "model.safetensors"), run / "pytorch_model.bin")
    (run / "model.safetensors").unlink()
    code, _, error = radscribe("export", run, tmp_path / "out")
    assert code == 2 and "pickled weights" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


# Other processes


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two films of noise, as files."""
    paths = [tmp_path_factory.mktemp("films") / name for name in ("frontal.png", "lateral.png")]
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 40), dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["package", "remote code"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_process_loads_equal_tensors_and_writes_equal_tokens(exports, films, kind, mode):
    row = probe(sys.executable, exports[kind], mode, expect(str(exports[kind]), films))
    assert {name: row[name] for name in COLUMNS} == dict.fromkeys(COLUMNS, "yes")


SAVE_AND_LOAD = """
import sys
sys.modules["radscribe"] = None  # as where the package is not installed
from transformers import pipeline
first = pipeline("image-to-text", model=sys.argv[1], trust_remote_code=True)
first.save_pretrained(sys.argv[2])
again = pipeline("image-to-text", model=sys.argv[2], trust_remote_code=True)
assert again(sys.argv[3]) == first(sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", [sys.executable, PYTHON_457], ids=["this version", "4.57.6"])
def test_a_pipeline_saved_from_remote_code_loads_again(exports, films, python, tmp_path):
    if python is None:
        pytest.skip("RADSCRIBE_PYTHON_457 names no Python with transformers 4.57.6")
    places = os.environ | {"HF_HOME": str(tmp_path / "home")}
    call = [python, "-c", SAVE_AND_LOAD, exports["uar"], tmp_path / "saved", films[0]]
    done = subprocess.run(call, env=places, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON_457, reason="RADSCRIBE_PYTHON_457 names no Python with transformers 4.57.6")
@pytest.mark.parametrize("mode", ["package", "remote code"])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_4_57_loads_equal_tensors_and_writes_equal_tokens(exports, films, kind, mode):
    row = probe(PYTHON_457, exports[kind], mode, expect(str(exports[kind]), films))
    assert row["version"] == "4.57.6"
    assert {name: row[name] for name in COLUMNS} == dict.fromkeys(COLUMNS, "yes")
