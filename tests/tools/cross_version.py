"""Does an exported run load and write the same under other versions of Transformers, with and without the package?

`python -m tests.tools.cross_version RUN... --pythons PY1 PY2` exports each run, draws a phantom, writes its report
here, and prints a Markdown table of what each Python does in a process of its own: {package, remote code} x
{AutoModel, pipeline, processor, equal tokens}. The package is this very tree, whatever those Pythons have installed;
for remote code it cannot be imported. A cell is "yes" or the error.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
COLUMNS = ("AutoModel", "pipeline", "processor", "equal tokens")

# Run by the other Python: argv = export, mode, JSON of films and of what was written here.
PROBE = """
import json, sys
folder, mode, task = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if mode == "package":
    import radscribe
    trust = {}
else:
    sys.modules["radscribe"] = None  # no import of it can succeed
    trust = {"trust_remote_code": True}
import torch, transformers
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, pipeline

place = "radscribe." if mode == "package" else "transformers_modules."
cells = {"version": transformers.__version__}
made = {}

def same(found, expected, what):
    assert found == expected, f"{what}: {found!r}, expected {expected!r}"

def of(thing):
    assert type(thing).__module__.startswith(place), f"{type(thing)} is not of {place}"
    return thing

def load_model():
    for auto in (AutoModel, AutoModelForImageTextToText):
        model = of(auto.from_pretrained(folder, **trust)).eval()
        saved, loaded = load_file(folder + "/model.safetensors"), model.state_dict()
        same(sorted(set(saved) - set(loaded)), [], "lost tensors")
        same([name for name in saved if not torch.equal(saved[name], loaded[name])], [], "changed tensors")
    for name, tensor in loaded.items():  # a tied one is saved once
        assert name in saved or any(torch.equal(tensor, other) for other in saved.values()), name + " is not saved"
    made["model"] = model

def load_processor():
    made["processor"] = of(AutoProcessor.from_pretrained(folder, **trust))

def write_tokens():
    inputs = made["processor"](images=[task["films"]], return_tensors="pt")
    for settings, expected in task["tokens"]:
        same(made["model"].generate(**inputs, **settings).tolist(), expected, f"tokens {settings}")

def run_pipeline():
    for name, extra in (("image-to-text", {}), ("image-text-to-text", {"text": ""})):
        answer = of(pipeline(name, model=folder, **trust))([task["films"]], **extra)
        same(answer[0][0]["generated_text"], task["report"], name)

steps = {"AutoModel": load_model, "processor": load_processor, "pipeline": run_pipeline, "equal tokens": write_tokens}
for name, step in steps.items():
    try:
        step()
        cells[name] = "yes"
    except BaseException as error:
        cells[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
print(json.dumps(cells))
"""


def expect(run: str, films: list[str]) -> dict[str, Any]:
    """What the package writes here, from the run itself: greedy and beam tokens, and the report."""
    from radscribe.training.build import load_checkpoint

    model, processor = load_checkpoint(run)
    films = films[: model.config.max_views]
    inputs = processor(images=[films], return_tensors="pt")
    settings: list[dict[str, Any]] = [{}, {"num_beams": 3, "max_new_tokens": 20}]
    with torch.inference_mode():
        tokens = [(options, model.eval().generate(**inputs, **options).tolist()) for options in settings]
    return {"films": films, "tokens": tokens, "report": processor.batch_decode(tokens[0][1])[0]}


def probe(python: str, folder: Path, mode: str, task: dict[str, Any]) -> dict[str, str]:
    """The cells of one row: `mode` "package" or "remote code" under another Python, which asks nobody anything."""
    with tempfile.TemporaryDirectory() as home:
        Path(home, "path").mkdir()
        if mode == "package":  # the root of the repository is the package
            Path(home, "path", "radscribe").symlink_to(ROOT)
        places = {
            "HF_HOME": home,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(home, "path")),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [python, "-W", "ignore", "-c", PROBE, str(folder), mode, json.dumps(task)],
            env=os.environ | places,
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return dict.fromkeys(COLUMNS, done.stderr.strip().splitlines()[-1][:200]) | {"version": python}
    return json.loads(done.stdout.splitlines()[-1])


def draw_films(out: Path) -> list[str]:
    """Frontal and lateral film of one phantom."""
    from datasets import load_from_disk

    from radscribe.training.readers.phantom import write_phantoms

    write_phantoms(out, studies=3, seed=7, processes=1)
    return load_from_disk(str(out))["test"][0]["images"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="Folders of trained models.")
    parser.add_argument("--pythons", nargs="+", required=True, help="Interpreters with torch, transformers, pillow.")
    options = parser.parse_args()
    from radscribe.training.export_hub import export

    print(f"| transformers | code | model | {' | '.join(COLUMNS)} |\n|{'---|' * (3 + len(COLUMNS))}")
    with tempfile.TemporaryDirectory() as place:
        films = draw_films(Path(place, "phantoms"))
        for index, run in enumerate(options.runs):
            folder = Path(place, str(index))
            export(run, folder)
            kind, task = json.loads((folder / "config.json").read_text())["model_type"], expect(run, films)
            for python in options.pythons:
                for mode in ("package", "remote code"):
                    row = probe(python, folder, mode, task)
                    cells = [row["version"], mode, kind, *(row[name] for name in COLUMNS)]
                    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
