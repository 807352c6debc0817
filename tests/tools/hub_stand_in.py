"""A stand-in of the Hugging Face Hub on loopback: repositories in memory, the calls that push and load make.

`with hub() as stand_in:` serves on a free port; `stand_in.environment(home)` is what a process must be started with,
for huggingface_hub reads its settings when it is imported. It knows three tokens: hf_writer, hf_reader (403 on writes)
and none else (401). With `stand_in.break_uploads` set, every upload of a large file is cut off.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

NAME = r"(?P<repo>[\w.-]+/[\w.-]+)"


class Hub:
    """What the Hub knows. A repository is a list of commits, each {path: content}, and tags by name."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}  # large files by sha256
        self.break_uploads = False
        self.url = ""

    def environment(self, home: Path, token: str = "hf_writer") -> dict[str, str]:
        values = {"HF_ENDPOINT": self.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return os.environ | values | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def create(self, name: str, files: dict[str, bytes] | None = None, private: bool = False) -> None:
        self.repos[name] = {"commits": {}, "main": "", "tags": {}, "private": private}
        self.commit(name, {".gitattributes": b""} | (files or {}))

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        repo = self.repos[name]
        content = self.files(name) | files
        sha = hashlib.sha1(f"{len(repo['commits'])}{sorted(content)}".encode()).hexdigest()
        repo["commits"][sha] = content
        repo["main"] = sha
        return sha

    def resolve(self, name: str, revision: str = "main") -> str | None:
        repo = self.repos[name]
        sha = repo["main"] if revision == "main" else repo["tags"].get(revision, revision)
        return sha if sha in repo["commits"] else None

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        return self.repos[name]["commits"].get(self.resolve(name, revision) or "", {})


class Handler(BaseHTTPRequestHandler):
    """Each route is a method named after what it does; see ROUTES."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def _route(self) -> None:
        path = unquote(urlparse(self.path).path)
        for method, pattern, name in ROUTES:
            if (found := re.fullmatch(pattern, path)) and self.command in method:
                return getattr(self, name)(**found.groupdict())
        self._body()
        self._send({"error": "no such thing"}, 404, X_Error_Code="EntryNotFound")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, answer: Any, status: int = 200, **headers: str) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(content)),
            "Content-Type": "application/json",
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _may_write(self) -> bool:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token == "hf_writer":
            return True
        status = 403 if token == "hf_reader" else 401
        self._send({"error": "Invalid username or password."}, status)
        return False

    # Writing

    def create(self) -> None:
        asked = json.loads(self._body())
        if not self._may_write():
            return
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        is_known = name in self.hub.repos
        if not is_known:
            self.hub.create(name, private=asked.get("private") or asked.get("visibility") == "private")
        answer = {"error": "You already created this model repo"} if is_known else {}
        self._send(answer | {"url": f"{self.hub.url}/{name}", "id": name}, 409 if is_known else 200)

    def validate(self) -> None:
        text = json.loads(self._body())["content"]
        errors = [] if text.startswith("---\n") else [{"message": "empty or missing yaml metadata"}]
        self._send({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, repo: str, revision: str) -> None:
        asked = json.loads(self._body())["files"]
        if self._may_write():
            modes = [
                {"path": file["path"], "shouldIgnore": False}
                | {"uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                for file in asked
            ]
            self._send({"files": modes})

    def batch(self, repo: str) -> None:
        objects = []
        for asked in json.loads(self._body())["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/objects/{asked['oid']}", "header": {}}}
            actions |= {"verify": {"href": f"{self.hub.url}/verify", "header": {}}}
            objects.append(asked | ({} if asked["oid"] in self.hub.objects else {"actions": actions}))
        self._send({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if self.hub.break_uploads:
            self.rfile.read(10)
            self.close_connection = True
            self.connection.close()
            return
        self.hub.objects[oid] = self._body()
        self._send({})

    def verify(self) -> None:
        self._send({} if json.loads(self._body())["oid"] in self.hub.objects else {"error": "unknown"})

    def commit(self, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self._body().splitlines()]
        if not self._may_write():
            return
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        sha = self.hub.commit(repo, files)
        self._send({"commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha, "hookOutput": ""})

    def tag(self, repo: str, revision: str) -> None:
        name = json.loads(self._body())["tag"]
        if self._may_write():
            is_known = name in self.hub.repos[repo]["tags"]
            self.hub.repos[repo]["tags"].setdefault(name, self.hub.resolve(repo, revision))
            self._send({}, 409 if is_known else 200)

    # Reading

    def info(self, repo: str, revision: str = "main") -> None:
        if (sha := self._find(repo, revision)) is not None:
            siblings = [{"rfilename": path} for path in sorted(self.hub.files(repo, revision))]
            private = self.hub.repos[repo]["private"]
            self._send({"id": repo, "modelId": repo, "sha": sha, "private": private, "siblings": siblings, "tags": []})

    def tree(self, repo: str, revision: str) -> None:
        if self._find(repo, revision) is not None:
            files = self.hub.files(repo, revision).items()
            self._send([{"type": "file", "path": path, "size": len(c), "oid": _etag(c)} for path, c in files])

    def refs(self, repo: str) -> None:
        if self._find(repo, "main") is not None:
            tags = self.hub.repos[repo]["tags"].items()
            named = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": sha} for name, sha in tags]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.hub.resolve(repo)}
            self._send({"branches": [main], "converts": [], "tags": named})

    def file(self, repo: str, revision: str, path: str) -> None:
        sha = self._find(repo, revision)
        if sha is None:
            return
        content = self.hub.files(repo, revision).get(path)
        if content is None:
            self._send({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        else:
            self._send(content, X_Repo_Commit=sha, ETag=f'"{_etag(content)}"')

    def _find(self, repo: str, revision: str) -> str | None:
        self._body()
        if repo not in self.hub.repos:
            self._send({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif (sha := self.hub.resolve(repo, revision)) is None:
            self._send({"error": "Revision not found"}, 404, X_Error_Code="RevisionNotFound")
        else:
            return sha
        return None


REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("POST", f"/api/models/{NAME}/preupload/{REVISION}", "preupload"),
    ("POST", f"/{NAME}.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/objects/(?P<oid>\w+)", "upload"),
    ("POST", "/verify", "verify"),
    ("POST", f"/api/models/{NAME}/commit/{REVISION}", "commit"),
    ("POST", f"/api/models/{NAME}/tag/{REVISION}", "tag"),
    ("GET", f"/api/models/{NAME}", "info"),
    ("GET", f"/api/models/{NAME}/revision/{REVISION}", "info"),
    ("GET", f"/api/models/{NAME}/tree/{REVISION}", "tree"),
    ("GET", f"/api/models/{NAME}/refs", "refs"),
    ("GET HEAD", f"/{NAME}/resolve/{REVISION}/(?P<path>.+)", "file"),
]


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """A Hub of its own on a free port of loopback, gone at the end."""
    stand_in = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": stand_in}))
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
