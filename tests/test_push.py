"""`radscribe push`, end to end against a stand-in of the Hub on loopback."""

import json
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard, constants

from radscribe.training.export_hub import export
from tests.tools.hub_stand_in import hub

LOAD = """
import json, sys, torch
import radscribe
from transformers import AutoModel, AutoProcessor
name, *revisions = sys.argv[1:]
for revision in revisions:
    model = AutoModel.from_pretrained(name, revision=revision).eval()
    processor = AutoProcessor.from_pretrained(name, revision=revision)
    films = torch.linspace(0, 1, 32 * 32).view(1, 1, 1, 32, 32)
    words = model.generate(films, view_mask=torch.ones(1, 1, dtype=torch.long)).tolist()
    print(json.dumps([type(model).__name__, words, processor.max_length]))
"""

TRAINER = """
import sys, torch
from radscribe.training.build import load_checkpoint
from radscribe.training.trainer import ReportTrainer
from transformers import Seq2SeqTrainingArguments
checkpoint, out = sys.argv[1:]
model, processor = load_checkpoint(checkpoint)
arguments = Seq2SeqTrainingArguments(out, hub_model_id="me/trained", use_cpu=True, report_to="none")
ReportTrainer(model=model, args=arguments, processing_class=processor, encoder_learning_rate=0.0).push_to_hub()
"""


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """An exported folder with its card."""
    out = tmp_path_factory.mktemp("exported") / "export"
    export(str(checkpoint), out)
    return out


@pytest.fixture
def stand_in():
    with hub() as server:
        yield server


@pytest.fixture
def python(stand_in, tmp_path):
    """python(code, ...): a process that takes the stand-in for the Hub -> its output; settings are read at import."""

    def run(*arguments):
        command = [sys.executable, "-c", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=stand_in.environment(tmp_path / "home"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def push(radscribe, stand_in, tmp_path, monkeypatch):
    """push(DIR, NAME, ..., token=...): the command in this process -> exit code, stdout, stderr."""
    values = {"ENDPOINT": stand_in.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    values |= {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    values |= {"HUGGINGFACE_CO_URL_TEMPLATE": stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"}
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between retries

    def run(*arguments, token="hf_writer"):
        monkeypatch.setenv("HF_TOKEN", token)
        return radscribe("push", *arguments)

    return run


def refused(answer, line):
    code, out, errors = answer
    last = errors.strip().splitlines()[-1]
    assert (code, out) == (2, "") and last.startswith("Error: ") and line in last, errors


@pytest.mark.slow
def test_a_pushed_model_loads_by_name_by_tag_and_by_commit(push, python, stand_in, exported):
    code, out, errors = push(exported, "me/model", "--json")
    assert code == 0, errors
    answer = json.loads(out)
    assert answer["url"] == f"{stand_in.url}/me/model" and answer["tag"].startswith("v")
    assert stand_in.repos["me/model"]["tags"] == {answer["tag"]: answer["commit"]}
    loaded = python(LOAD, "me/model", "main", answer["tag"], answer["commit"]).splitlines()
    assert len(loaded) == 3 and len(set(loaded)) == 1
    assert json.loads(loaded[0])[0] == "MCSAMForConditionalGeneration"


def test_what_lies_on_the_hub_is_what_was_exported(push, stand_in, exported):
    assert push(exported, "me/model")[0] == 0
    files = stand_in.files("me/model")
    assert {path.name: path.read_bytes() for path in exported.iterdir()}.items() <= files.items()
    assert ModelCard(files["README.md"].decode()).data.library_name == "transformers"


def test_a_private_repository_is_made_on_request(push, stand_in, exported):
    push(exported, "me/hidden", "--private")
    push(exported, "me/open")
    assert stand_in.repos["me/hidden"]["private"] and not stand_in.repos["me/open"]["private"]


def test_a_later_version_is_another_commit_and_tag(push, stand_in, exported):
    for tag in ("v1", "v2"):
        assert push(exported, "me/model", "--tag", tag)[0] == 0
    assert set(stand_in.repos["me/model"]["tags"]) == {"v1", "v2"}


def test_a_tag_is_never_moved(push, stand_in, exported):
    push(exported, "me/model")
    commits = len(stand_in.repos["me/model"]["commits"])
    refused(push(exported, "me/model"), "Give another by --tag")
    assert len(stand_in.repos["me/model"]["commits"]) == commits


def test_an_unknown_token_is_refused(push, exported):
    refused(push(exported, "me/model", token="hf_wrong"), "The Hub does not know your token (401")


def test_a_token_that_may_not_write_is_refused(push, stand_in, exported):
    refused(push(exported, "me/model", token="hf_reader"), "Your token may not write to `me/model` (403")
    stand_in.create("me/model")
    refused(push(exported, "me/model", token="hf_reader"), "Your token may not write to `me/model` (403")


def test_a_repository_of_another_model_is_left_alone(push, stand_in, exported):
    stand_in.create("me/bert", {"config.json": b'{"model_type": "bert"}'})
    refused(push(exported, "me/bert"), "`me/bert` holds a `bert` model, this folder a `mcsam` one. Give another name.")
    assert set(stand_in.files("me/bert")) == {".gitattributes", "config.json"}


def test_a_repository_of_other_files_is_left_alone(push, stand_in, exported):
    stand_in.create("me/data", {"films.csv": b"a"})
    refused(push(exported, "me/data"), "The name `me/data` is taken: the repository holds films.csv and no model")


def test_an_upload_that_was_cut_off_shows_nothing_and_goes_on(push, stand_in, exported):
    stand_in.break_uploads = True
    refused(push(exported, "me/model"), "uploading was cut off")
    assert set(stand_in.files("me/model")) == {".gitattributes"} and not stand_in.repos["me/model"]["tags"]
    stand_in.break_uploads = False
    assert push(exported, "me/model")[0] == 0


@pytest.mark.parametrize("name", ["a/b/c", "me/bad name"])
def test_a_name_that_cannot_be_is_one_line(push, exported, name):
    refused(push(exported, name), "epo")


def test_a_hub_that_does_not_answer_is_one_line(push, exported, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(push(exported, "me/model"), "making the repository was cut off")


def test_a_folder_that_was_not_exported_is_refused(push, tmp_path):
    refused(push(tmp_path, "me/model"), "is no folder that `radscribe export RUN DIR` wrote")


@pytest.mark.slow
def test_the_trainer_pushes(python, stand_in, checkpoint, tmp_path):
    python(TRAINER, checkpoint, tmp_path / "out")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(stand_in.files("me/trained"))
    assert "MCSAMForConditionalGeneration" in python(LOAD, "me/trained", "main")
