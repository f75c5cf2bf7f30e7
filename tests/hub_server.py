"""A stand-in for the Hugging Face hub on this machine: lists of files, who may have them, and their bytes.

With a `Store` it takes uploads, too, by the calls that huggingface_hub makes without Xet: create, preupload, LFS in one
part or several, commit.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

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


@dataclass
class Kept:
    """A repository that was pushed to."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(\w+))?")
BATCH = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
PART_BYTES = 100_000  # a larger LFS file comes in parts
LFS_SUFFIXES = (".wav", ".flac", ".safetensors", ".bin")


@dataclass
class Store:
    """The part of a hub that takes uploads.

    Attributes:
        owners: token -> the namespaces that it may write to.
        repos: (model or dataset, owner/name) -> what is there.
        blobs: sha256 -> bytes of LFS files.
        faults: name of a call (create, info, preupload, batch, upload, commit) -> status and message in its place;
            status 0: no answer at all.
        calls: how often each call came.
    """

    owners: dict[str, tuple[str, ...]]
    repos: dict[tuple[str, str], Kept] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)
    calls: Counter = field(default_factory=Counter)

    def handle(self, method: str, url: str, token: str, body: bytes, address: str) -> tuple[int, dict, dict[str, str]]:
        """(status, JSON, headers) of a call."""
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        name, answer = self.route(method, path, query, token, body, address)
        self.calls[name] += 1
        if name in self.faults:
            status, message = self.faults[name]
            return status, {"error": message}, {"X-Error-Message": message}
        if name not in ("upload", "complete") and token not in self.owners:
            return 401, {"error": "bad token"}, {"X-Error-Message": "Invalid credentials in Authorization header"}
        return answer()

    def route(self, method, path, query, token, body, address):
        """(name of the call, what answers it)."""
        value = json.loads(body) if body[:1] == b"{" and path[-7:] != "/commit" and b"\n{" not in body else {}
        if path == "/api/repos/create":
            return "create", lambda: self.create(value, token, address)
        if path == "/api/validate-yaml":
            return "validate", lambda: self.validate(value)
        if found := BATCH.fullmatch(path):
            return "batch", lambda: self.batch(value, address)
        if path.startswith("/lfs/"):
            oid = path.removeprefix("/lfs/")
            if method == "PUT":
                return "upload", lambda: self.put(oid, int(query.get("part", ["0"])[0]), body)
            return "complete", lambda: self.complete(oid, value)
        if not (found := API.match(path)):  # what else a client asks a hub for
            return "other", lambda: (404, {}, {})
        key, verb = (found[1], found[2]), found[3] or "info"
        if key not in self.repos:
            return verb, lambda: (404, {}, {"X-Error-Code": "RepoNotFound"})
        calls = {
            "preupload": lambda: self.preupload(key, value),
            "commit": lambda: self.commit(key, token, body, address),
        }
        calls |= {"tree": lambda: self.tree(key), "revision": lambda: self.info(key), "info": lambda: self.info(key)}
        return verb, calls[verb]

    def create(self, value: dict, token: str, address: str) -> tuple[int, dict, dict[str, str]]:
        name = f"{value['organization']}/{value['name']}"
        key = (value.get("type", "model"), name)
        url = f"{address}/{'datasets/' if key[0] == 'dataset' else ''}{name}"
        if value["organization"] not in self.owners[token]:
            return 403, {}, {"X-Error-Message": f"You don't have the rights to create a repo under {name}"}
        if key in self.repos:
            return 409, {"url": url}, {"X-Error-Message": "You already created this repo"}
        self.repos[key] = Kept(value["visibility"] == "private")
        return 200, {"url": url, "name": name}, {}

    def validate(self, value: dict) -> tuple[int, dict, dict[str, str]]:
        """As the hub does, at least: front matter that is YAML, and a licence of its list."""
        import yaml

        said = yaml.safe_load(value["content"].split("---")[1])
        known = said.get("license") in (None, "other", "mit", "apache-2.0") and isinstance(said, dict)
        bases = said.get("base_model", [])
        known &= all(re.fullmatch(r"[\w.-]+/[\w.-]+", base) for base in ([bases] if isinstance(bases, str) else bases))
        return (200, {"warnings": []}, {}) if known else (400, {"errors": [{"message": "bad front matter"}]}, {})

    def preupload(self, key, value: dict) -> tuple[int, dict, dict[str, str]]:
        there, files = self.repos[key].files, []
        for file in value["files"]:
            path, is_lfs = file["path"], file["path"].endswith(LFS_SUFFIXES)
            oid = None
            if path in there:
                data = there[path]
                oid = hashlib.sha256(data).hexdigest() if is_lfs else git_oid(data)
            mode = "lfs" if is_lfs else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": files}, {}

    def batch(self, value: dict, address: str) -> tuple[int, dict, dict[str, str]]:
        objects = []
        for wanted in value["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            one: dict = {"oid": oid, "size": size}
            if oid not in self.blobs:
                parts = -(-size // PART_BYTES)
                header = {str(i): f"{address}/lfs/{oid}?part={i}" for i in range(1, parts + 1)} if parts > 1 else {}
                header |= {"chunk_size": str(PART_BYTES)} if parts > 1 else {}
                one["actions"] = {"upload": {"href": f"{address}/lfs/{oid}", "header": header}}
            objects.append(one)
        return 200, {"transfer": "multipart", "objects": objects}, {}

    def put(self, oid: str, part: int, body: bytes) -> tuple[int, dict, dict[str, str]]:
        etag = hashlib.md5(body).hexdigest()
        if part:
            self.parts.setdefault(oid, {})[part] = body
            return 200, {}, {"ETag": etag}
        return self.keep(oid, body)

    def complete(self, oid: str, value: dict) -> tuple[int, dict, dict[str, str]]:
        parts = self.parts.get(oid, {})
        right = [hashlib.md5(parts[part["partNumber"]]).hexdigest() == part["etag"] for part in value["parts"]]
        return self.keep(oid, b"".join(parts[i] for i in sorted(parts))) if all(right) else (400, {}, {})

    def keep(self, oid: str, body: bytes) -> tuple[int, dict, dict[str, str]]:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "sha256 mismatch"}, {}
        self.blobs[oid] = body
        return 200, {}, {"ETag": oid}

    def commit(self, key, token: str, body: bytes, address: str) -> tuple[int, dict, dict[str, str]]:
        kept, lines = self.repos[key], [json.loads(line) for line in body.splitlines()]
        files = dict(kept.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.blobs:
                    return 400, {"error": "no such blob"}, {}
                files[value["path"]] = self.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        kept.files, kept.commits = files, kept.commits + 1
        return 200, {"commitUrl": f"{address}/{key[1]}/commit/{kept.sha}", "commitOid": kept.sha}, {}

    def tree(self, key) -> tuple[int, list, dict[str, str]]:
        files = self.repos[key].files
        return 200, [{"type": "file", "oid": "0", "path": name, "size": len(files[name])} for name in files], {}

    def info(self, key) -> tuple[int, dict, dict[str, str]]:
        kept = self.repos[key]
        siblings = [{"rfilename": name} for name in kept.files]
        value = {
            "id": key[1],
            "sha": kept.sha,
            "private": kept.private,
            "siblings": siblings,
            "tags": [],
            "downloads": 0,
        }
        return 200, value | {"likes": 0, "gated": False}, {}


def git_oid(data: bytes) -> str:
    """The name that git gives a blob."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextlib.contextmanager
def hub_server(repos: Mapping[str, Repo], store: Store | None = None) -> Iterator[str]:
    """Serve these models, and take uploads into a store; yields the address for HF_ENDPOINT."""

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

        def pass_on(self) -> None:
            """Let the store answer."""
            body = self.read_body()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            address = f"http://{self.headers['Host']}"
            status, value, headers = store.handle(self.command, unquote(self.path), token, body, address)
            if not status:  # the network is gone
                self.close_connection = True
                return
            self.answer(
                status, json.dumps(value).encode(), **{name.replace("-", "_"): v for name, v in headers.items()}
            )

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_POST = do_PUT = pass_on

        def do_GET(self):
            path = self.path.split("?")[0]
            if store is not None:
                self.pass_on()
            elif "/tree/" in path:
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
