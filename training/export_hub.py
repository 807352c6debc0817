"""`radscribe export RUN DIR`: a flat, self-contained Hub folder that loads with and without this package.

A repository of the Hub is flat, and Transformers copies only those files of code that relative imports of the same
folder name. So the code follows the relative imports of model, processors and pipeline, and every such import is
rewritten to its file's name. Weights are safetensors alone; config.json says where each Auto class finds its code.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from ..processing.handler import EndpointHandler
from ..processing.pipeline_report import TASK, TEXT_TASK, ReportPipeline
from .build import load_checkpoint
from .card import write_card
from .facts import TrainingFacts

# The elder name of the last one is 4.57's.
MODEL_CLASSES = ("AutoModel", "AutoModelForImageTextToText", "AutoModelForVision2Seq")


def export(run: str, out: Path, results: Path | None = None, bf16: bool = False) -> dict[str, Any]:
    """Write the checkpoint `run` (a run's folder or a Hub name) to the new or empty folder `out`, its card included.

    Args:
        results: what `radscribe evaluate --json` printed, for the card.
        bf16: store the weights in half their size. They are computed with in fp32 all the same, but rounded: score
            the folder, not the run.

    Returns:
        `out`, `files` (their names) and `megabytes`.

    Raises:
        ValueError: `out` is a file or not empty; no checkpoint at `run`; code that cannot be flattened; `results` that
            are no such document.
    """
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"`DIR` must be a new or empty folder. Got `{out}`.")
    model, processor = load_checkpoint(run)
    model.float()
    if bf16:
        # By hand: an image tokenizer lets no call round it, because it computes in fp32; it will do so again.
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.bfloat16()
    model.save_pretrained(out, safe_serialization=True)
    processor.save_pretrained(out)
    for name, text in exported_code(model, processor).items():
        (out / name).write_text(text, encoding="utf-8")
    _write_auto_maps(out, model, processor)
    write_card(Path(run), model, out, results)
    if (facts := TrainingFacts.load(run)) is not None:
        facts.save(out)
    files = sorted(path.name for path in out.iterdir())
    size = sum(path.stat().st_size for path in out.iterdir())
    return {"out": str(out), "files": files, "megabytes": round(size / 2**20, 2)}


def exported_code(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, str]:
    """Name and text of each file of code that a repository of this model and processor holds."""
    classes = [type(model.config), type(model), type(processor), type(processor.image_processor)]
    return flatten_code([*classes, ReportPipeline, EndpointHandler])


def flatten_code(classes: list[type]) -> dict[str, str]:
    """Name and text of each file of this package that the classes need, imports rewritten to a flat folder.

    Transformers 4.57 copies from a local folder only what the file of an Auto class names itself: these files name all
    that they need at any depth.

    Raises:
        ValueError: two files of one name; a star import, an import of a module as a whole or of the package by name.
    """
    files: dict[str, str] = {}
    origins: dict[str, Path] = {}
    for entry in dict.fromkeys(Path(inspect.getfile(kind)) for kind in classes):
        closure = _closure(entry)
        for path in closure:
            if origins.setdefault(path.name, path) != path:
                raise ValueError(f"Two files are named {path.name}: {origins[path.name]} and {path}. Rename one.")
            files.setdefault(path.name, _flatten(path))
        named = {target for _, target in _relative_imports(entry)} | {entry}
        deeper = "".join(f"from .{path.stem} import __doc__ as _  # noqa\n" for path in closure if path not in named)
        files[entry.name] = _flatten(entry) + deeper
    return files


def _closure(entry: Path) -> list[Path]:
    """The file and all that it imports from the package, at any depth."""
    found, waiting = [], [entry]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.append(path)
            waiting += [target for _, target in _relative_imports(path)]
    return found


def _relative_imports(path: Path) -> Iterator[tuple[ast.ImportFrom, Path]]:
    """Each relative import of a file and the file that it names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [alias.name for alias in node.names]
        modules = names if isinstance(node, ast.Import) else [node.module or ""]
        if any(module.split(".")[0] == "radscribe" for module in modules):
            raise ValueError(f"{path.name} line {node.lineno} imports the package by name, which Hub users lack.")
        if isinstance(node, ast.Import) or not node.level:
            continue
        target = path.parents[node.level - 1].joinpath(*(node.module or "").split(".")).with_suffix(".py")
        if "*" in names or not target.is_file():
            raise ValueError(f"{path.name} line {node.lineno} must import names from one file of the package.")
        yield node, target


def _flatten(path: Path) -> str:
    """The file's text with each import of the package's files by name alone."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for node, target in _relative_imports(path):
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = re.sub(r"from\s+[.\w]+\s+import", f"from .{target.stem} import", line, count=1)
    return "".join(lines)


def _write_auto_maps(out: Path, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Say where each Auto class and the pipeline find their code."""
    config = {"AutoConfig": _reference(type(model.config))}
    config |= dict.fromkeys(MODEL_CLASSES, _reference(type(model)))
    pipeline = {"impl": _reference(ReportPipeline), "pt": ["AutoModel"], "type": "image"}
    pipelines = dict.fromkeys((TASK, TEXT_TASK), pipeline)
    # Without a dtype 5.x takes that of the file and 4.57 fp32: two versions would write two texts.
    _update(out / "config.json", {"auto_map": config, "custom_pipelines": pipelines, "dtype": "float32"})
    images = {"AutoImageProcessor": _reference(type(processor.image_processor))}
    maps = {"auto_map": {"AutoProcessor": _reference(type(processor))} | images}
    _update(out / "preprocessor_config.json", maps)
    # 5.x nests the image processor's settings, and looks for its class among them.
    nested = json.loads((out / "processor_config.json").read_text(encoding="utf-8")).get("image_processor")
    _update(out / "processor_config.json", maps | ({"image_processor": nested | maps} if nested else {}))


def _reference(kind: type) -> str:
    """ "file.Class", as auto_map writes it."""
    return f"{Path(inspect.getfile(kind)).stem}.{kind.__name__}"


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The settings without the folders that parts were once loaded from."""
    parts = {name: _without_places(value) if isinstance(value, dict) else value for name, value in config.items()}
    return parts | ({"_name_or_path": ""} if "_name_or_path" in parts else {})


def _update(file: Path, values: dict[str, Any]) -> None:
    content = _without_places(json.loads(file.read_text(encoding="utf-8"))) | values
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
