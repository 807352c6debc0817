"""Transformers' own common tests, run over our classes: `python -m tests.tools.hf_common_tests FOLDER [PYTEST ARGS]`.

The source archive of the installed version on PyPI holds tests/test_modeling_common.py, test_processing_common.py and
test_image_processing_common.py. It is fetched with pip into FOLDER (reused when it is there) and unpacked to
FOLDER/hf_tests; nothing of it is part of this repository. `hf_common_suite.py` has the classes that inherit them.

The archive lacks three things that these files import: generation/ and exporters/ (their mixins are left out here:
empty classes stand for them) and a helper that fetches pictures from the Hub (a film of noise stands for each).
"""

import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import transformers

STAND_INS = {
    "hf_tests/__init__.py": "",
    "hf_tests/generation/__init__.py": "",
    "hf_tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "hf_tests/exporters/__init__.py": "",
    "hf_tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url):\n    return {film!r}\n",
}

# Why a test fails that is meant to. A failure that is not listed here is a gap of ours, and the exit code says so.
LENGTH = "`max_length` counts the start token, as R2Gen's does; labels do not hold it and are one shorter"
NAMING = "a name that Transformers' own repository wants; one class of keywords serves both our processors"
EXPLAINED = {
    "test_model_base_model_prefix": "none of our parts is a base model with a head on top",
    "MCSAMModelTest::test_retain_grad_hidden_states_attentions": "states and attentions are cut out of "
    "the decoder's, which hold the prompts too: no gradient comes by them",
    "test_init_weights_can_init_buffers": "UAR's basis is random by the paper and a buffer because it does not learn",
    "UARModelTest::test_training_gradient_checkpointing_use_reentrant_true": "PyTorch's reentrant checkpoints take no "
    "gradient of keyword tensors, as which the stock decoder hands on the mask; the default is the other kind",
    "test_init_arguments_not_in_processor_kwargs": "`max_length` is a fact of the model, saved with its processor",
    "test_kwargs_overrides_default_subprocessor_kwargs": LENGTH,
    "test_structured_kwargs_nested_from_dict": LENGTH,
    "test_subprocessor_defaults_preserved_by_kwargs": LENGTH,
    "test_unstructured_kwargs_0_images": LENGTH,
    "test_processor_text_has_no_visual": "a study without a film is refused",
    "test_tokenizer_decode_defaults": "`decode` writes sentences; `processor.tokenizer.decode` gives the bare tokens",
    "test_valid_processor_kwargs_set": NAMING,
    "test_call_numpy_4_channels": "`do_convert_rgb` is no setting of films, and an unknown setting is refused",
    "test_new_models_require_torchvision_backend": "Pillow and numpy by design: no torchvision to serve a model",
}


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def fetch_tests(folder: Path) -> None:
    """Archive, what its tests import, and stand-ins for what it lacks; nothing is fetched twice."""
    version = transformers.__version__
    archive = folder / f"transformers-{version}.tar.gz"
    if not archive.is_file():
        source = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", f"transformers=={version}"]
        pip("download", *source, "--dest", str(folder))
    if not (folder / "site").is_dir():
        pip("install", "--no-deps", "--target", str(folder / "site"), "parameterized")
    top = f"transformers-{version}/tests/"
    with tarfile.open(archive) as file:
        for member in file.getmembers():
            if member.isfile() and member.name.startswith(top):
                member.name = "hf_tests/" + member.name.removeprefix(top)
                file.extract(member, folder, filter="data")
    for name, text in STAND_INS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(film=str(folder / "film.png")) if "{film" in text else text)


class Tally:
    """Outcome of each test, by class. A test with sub-tests fails once."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.failures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("::")[2]
        if report.failed:
            self.outcomes[name] = "failed"
            lines = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr)).split("\n")
            self.failures.setdefault(name, lines[0][:160])
        elif report.skipped or report.when == "call":
            self.outcomes.setdefault(name, report.outcome)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failures["collection"] = str(report.longrepr).strip().splitlines()[-1]

    def lines(self) -> Iterable[str]:
        for group in sorted({name.partition("::")[0] for name in self.outcomes}):
            counts = Counter(o for name, o in self.outcomes.items() if name.startswith(group + "::"))
            yield f"{group}: " + ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "skipped"))
        for name, message in sorted(self.failures.items()):
            yield f"FAILED {name}: {explain(name) or message}"


def explain(name: str) -> str | None:
    """Why this test fails by design, if it does."""
    return next((reason for part, reason in EXPLAINED.items() if part in name), None)


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__.splitlines()[0])
        return 2
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    fetch_tests(folder)
    sys.path[:0] = [str(folder), str(folder / "site"), str(folder / "utils")]
    os.environ["HF_COMMON_TESTS"] = str(folder)
    tally = Tally()
    suite = str(Path(__file__).with_name("hf_common_suite.py"))
    # Our own markers are strict; Transformers' are others.
    arguments = [suite, "-q", "--tb=short", "-o", "addopts=", "-o", "filterwarnings=ignore", "-p", "no:cacheprovider"]
    pytest.main([*arguments, *sys.argv[2:]], plugins=[tally])
    print(f"\ntransformers {transformers.__version__}", *tally.lines(), sep="\n")
    unexplained = [name for name in tally.failures if explain(name) is None]
    print(f"{len(tally.failures)} failed, {len(unexplained)} of them without a reason of ours")
    return int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
