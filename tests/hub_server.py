"""A stand-in for the Hugging Face hub on this machine: lists of files, who may have them, and their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Repo:
    """A model.

    Attributes:
        files: each with its bytes, or their number.
        accepted: the tokens that its licence was accepted for.
        revisions: the names of its revisions with their commits; all have the same files.
    """

    files: Mapping[str, int | bytes]
    gated: bool = False
    accepted: tuple[str, ...] = ()
    revisions: Mapping[str, str] = field(default_factory=lambda: {"main": COMMIT})

    def size(self, file: str) -> int:
        content = self.files[file]
        return content if isinstance(content, int) else len(content)

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.revisions.values() else self.revisions.get(revision)


@contextlib.contextmanager
def hub_server(repos: dict[str, Repo]) -> Iterator[str]:
    """Serve these models; yields the address for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            path = self.path.split("?")[0]
            if "/tree/" in path:
                repo = repos[path.removeprefix("/api/models/").partition("/tree/")[0]]
                tree = [{"type": "file", "oid": "0", "path": file, "size": repo.size(file)} for file in repo.files]
                self.answer(200, json.dumps(tree).encode())
            elif path.startswith("/api/models/"):
                self.describe(*path.removeprefix("/api/models/").partition("/revision/")[::2])
            else:
                self.do_HEAD()

        def describe(self, name: str, revision: str) -> None:
            if name not in repos:
                self.answer(404, X_Error_Code="RepoNotFound")
                return
            repo = repos[name]
            commit = repo.commit(revision or "main")
            if commit is None:
                self.answer(404, X_Error_Code="RevisionNotFound")
                return
            siblings = [{"rfilename": file, "size": repo.size(file), "blobId": "0"} for file in repo.files]
            value = {"id": name, "modelId": name, "siblings": siblings, "private": False, "tags": [], "sha": commit}
            self.answer(200, json.dumps(value | {"gated": "manual" if repo.gated else False}).encode())

        def do_HEAD(self):
            name, _, rest = self.path[1:].partition("/resolve/")
            revision, _, file = rest.partition("/")
            if name not in repos:  # what else a client asks a hub for
                self.answer(404)
                return
            repo, token = repos[name], self.headers.get("Authorization", "").removeprefix("Bearer ")
            if repo.gated and token not in repo.accepted:
                self.answer(403 if token else 401, X_Error_Code="GatedRepo")
                return
            commit = repo.commit(revision)
            if commit is None or file not in repo.files:
                self.answer(404, X_Error_Code="EntryNotFound" if commit else "RevisionNotFound")
                return
            content = repo.files[file]
            body = content if isinstance(content, bytes) else b""
            etag = f'"{hashlib.sha256(body or file.encode()).hexdigest()}"'
            self.answer(200, body, ETag=etag, X_Repo_Commit=commit, Content_Length=str(repo.size(file)))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
