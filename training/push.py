"""`radscribe push DIR REPO_ID`: an exported folder to the Hub as one commit, and a tag on it.

Files of a repository become visible by the commit that names them, so an upload that is cut off leaves nothing half;
the same command again goes on with what is missing. The tag comes last and is never moved.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError

from .errors import one_line

NEEDED = ("config.json", "README.md", "preprocessor_config.json", "tokenizer.json")
OWN = ("README.md", ".gitattributes")  # what the Hub itself lays into a new repository


def push(folder: Path, repo_id: str, tag: str, private: bool = False) -> dict[str, Any]:
    """Upload what `radscribe export` wrote to the repository `repo_id` ("user/name"), which is made where missing.

    Returns:
        `url`, `commit` and `tag`.

    Raises:
        ValueError: no export at `folder`; a name, token or tag that the Hub refuses; a repository that holds something
            else; an upload that was cut off.
    """
    kind = _read_kind(folder)
    api = HfApi(library_name="radscribe")
    step = "making the repository"
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        step = "reading what the repository holds"
        _refuse_others(api, repo_id, kind, tag)
        step = "uploading"
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=f"radscribe {tag}",
            allow_patterns=[path.name for path in folder.iterdir() if path.is_file()],
        )
        step = "tagging"
        api.create_tag(repo_id, tag=tag, revision=commit.oid)
    except (HTTPError, OSError, RuntimeError) as error:
        raise ValueError(_explain(error, repo_id, step)) from error
    return {"url": f"{constants.ENDPOINT}/{repo_id}", "commit": commit.oid, "tag": tag}


def _read_kind(folder: Path) -> str:
    """The model type of an exported folder."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing or not list(folder.glob("model*.safetensors")):
        lacks = ", ".join(missing or ["model*.safetensors"])
        raise ValueError(f"`{folder}` is no folder that `radscribe export RUN DIR` wrote: it lacks {lacks}.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "auto_map" not in config:
        raise ValueError(f"`{folder}` is a run's folder. Write what the Hub takes by `radscribe export {folder} DIR`.")
    return config["model_type"]


def _refuse_others(api: HfApi, repo_id: str, kind: str, tag: str) -> None:
    """Stop before the upload where the repository holds another model, other files, or this tag."""
    files = [file.rfilename for file in api.model_info(repo_id).siblings or []]
    if "config.json" in files:
        with open(api.hf_hub_download(repo_id, "config.json"), encoding="utf-8") as file:
            other = json.load(file).get("model_type")
        if other != kind:
            raise ValueError(f"`{repo_id}` holds a `{other}` model, this folder a `{kind}` one. Give another name.")
    elif others := sorted(set(files) - set(OWN)):
        raise ValueError(
            f"The name `{repo_id}` is taken: the repository holds {others[0]} and no model. Give another."
        )
    if tag in [known.name for known in api.list_repo_refs(repo_id).tags]:
        raise ValueError(f"`{repo_id}` has the tag {tag} already, and a tag is never moved. Give another by --tag.")


def _explain(error: Exception, repo_id: str, step: str) -> str:
    """One line on what the Hub refused, or where the way to it broke."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__ or cause.__context__
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    if status == 401 or isinstance(cause, RepositoryNotFoundError):
        return (
            f"The Hub does not know your token (401, {step}). `hf auth login`, or set HF_TOKEN to one that can write."
        )
    if status == 403:
        return f"Your token may not write to `{repo_id}` (403, {step}): use one that can, or a name of your own."
    if status == 409:
        return f"The name `{repo_id}` is taken (409, {step}). Give another."
    again = "Nothing of it is visible yet; the same command again goes on." if step == "uploading" else "Try again."
    return f"`{repo_id}`: {step} was cut off ({one_line(error)[:200]}). {again}"
