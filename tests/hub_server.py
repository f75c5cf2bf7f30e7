"""A stand-in for the Hugging Face hub on this machine: lists of files, and who may have them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Repo:
    """A model: bytes of each file; gated or not; the tokens that its licence was accepted for."""

    files: dict[str, int]
    gated: bool = False
    accepted: tuple[str, ...] = ()


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
            name = self.path.split("?")[0].removeprefix("/api/models/")
            if name not in repos:
                self.answer(404, X_Error_Code="RepoNotFound")
                return
            repo = repos[name]
            siblings = [{"rfilename": file, "size": size, "blobId": "0"} for file, size in repo.files.items()]
            value = {"id": name, "modelId": name, "siblings": siblings, "private": False, "tags": [], "sha": COMMIT}
            self.answer(200, json.dumps(value | {"gated": "manual" if repo.gated else False}).encode())

        def do_HEAD(self):
            name, _, file = self.path[1:].partition("/resolve/main/")
            repo, token = repos[name], self.headers.get("Authorization", "").removeprefix("Bearer ")
            if repo.gated and token not in repo.accepted:
                self.answer(403 if token else 401, X_Error_Code="GatedRepo")
                return
            self.answer(200, ETag='"0"', X_Repo_Commit=COMMIT, Content_Length=str(repo.files[file]))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
