"""Whether a model of the Hugging Face hub can be had, asked before anything is downloaded.

It asks the hub's own client, so HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE count as they do when the model is
loaded. One request a model, and one more where access is granted by the file.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from synthio.cli import UserError, first_line
from synthio.errors import trouble
from synthio.files import Json, read_object
from synthio.models.model_ids import is_hub_id, split_id

TIMEOUT_S = 5.0
WEIGHTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
OTHER_FORMATS = (".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".tflite")

State = Literal["cached", "download", "no_token", "bad_token", "no_licence", "not_found", "unreachable", "failed"]


@dataclass(frozen=True)
class Access:
    """What the hub says of a model.

    Attributes:
        state: cached: nothing to download; no_token, no_licence: it is gated; unreachable: the hub is, and no copy is
            in the cache.
        missing_bytes: of the files that are not in the cache yet.
        names: files of the repository; empty when the hub could not be asked.
        reason: of `failed`.
    """

    state: State
    missing_bytes: int = 0
    names: tuple[str, ...] = field(default=(), repr=False)
    reason: str = ""


def needed_files(names: Sequence[str]) -> list[str]:
    """The files that are downloaded to load a model, about: a repository may hold its weights in several formats."""
    names = [name for name in names if not name.endswith(OTHER_FORMATS) and not name.startswith(".git")]
    if "model_index.json" in names:  # diffusers: a folder for each part; the weights beside them are another format
        names = [name for name in names if "/" in name or not name.endswith(WEIGHTS)]
    if any(name.endswith(".safetensors") for name in names):
        names = [name for name in names if not name.endswith(WEIGHTS[1:])]
    return [name for name in names if ".fp16." not in name]


def look_up(model: str) -> Access:
    """Ask the hub about a model, `owner/name` or `owner/name@revision`.

    Raises:
        ValueError: that cannot be the id of a model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    repo, revision = split_id(model)
    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        missing = [name for name in needed_files(list(sizes)) if not is_cached(model, name)]
        names = tuple(sizes)
        if not missing:
            return Access("cached", names=names)
        if info.gated or info.private:
            ask_for_file(model, missing[0])
        return Access("download", sum(sizes[name] for name in missing), names)
    except (HTTPError, ConnectionError) as error:  # the second: HF_HUB_OFFLINE
        refused = refusal(error, revision)
        return Access("cached") if refused.state == "unreachable" and has_snapshot(model) else refused


def refusal(error: Exception, revision: str) -> Access:
    """What an error of the hub's client says of a model."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        if error.response.status_code == 403:
            return Access("no_licence")
        return Access("bad_token" if get_token() else "no_token")
    if isinstance(error, RepositoryNotFoundError):
        return Access("not_found")
    if isinstance(error, RevisionNotFoundError):
        return Access("failed", reason=f"it has no revision '{revision}'; look at its page")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        if error.response.status_code == 401:
            return Access("bad_token")
        return Access("failed", reason=f"the hub answers {error.response.status_code}; try again later")
    return Access("unreachable")


def problem(access: Access, model: str) -> str:
    """Why a model cannot be had, and what mends it."""
    from huggingface_hub.constants import ENDPOINT

    page = f"{ENDPOINT}/{split_id(model)[0]}"
    return {
        "no_token": f"gated (401); accept its licence at {page}, put a token in HF_TOKEN",
        "bad_token": "the hub refuses your token (401); make a new one, or unset HF_TOKEN",
        "no_licence": f"your token has no access (403); accept the licence at {page}",
        "not_found": f"no such model, or a private one (needs HF_TOKEN); look at {page}",
        "unreachable": f"not in the cache, and {ENDPOINT} is out of reach; go online once",
        "failed": access.reason,
    }[access.state]


def ask_for_file(model: str, name: str) -> None:
    """Ask for the head of a file: of a gated model everybody may see the list of files, but not what is in them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    repo, revision = split_id(model)
    get_hf_file_metadata(hf_hub_url(repo, name, revision=revision), timeout=TIMEOUT_S)


def is_cached(model: str, name: str) -> bool:
    """Whether a file of the model's revision is in the cache."""
    from huggingface_hub import try_to_load_from_cache

    repo, revision = split_id(model)
    return isinstance(try_to_load_from_cache(repo, name, revision=revision), str)


def cached_revision(model: str) -> str:
    """The commit of a model's revision in the cache, '' where it has none; the hub's client is not needed.

    The folder of the cache is found as the client finds it, from HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    folder = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or home) / "hub"
    repo, revision = split_id(model)
    kept = Path(folder).expanduser() / f"models--{repo.replace('/', '--')}"
    if (kept / "snapshots" / revision).is_dir():  # it is a commit
        return revision
    path = kept / "refs" / revision
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def exact_name(model: str) -> str:
    """A model's name with the commit that is in the cache, `owner/name@commit`; a folder's as it is."""
    commit = cached_revision(model) if is_hub_id(model) else ""
    return f"{split_id(model)[0]}@{commit}" if commit else model


def snapshot(model: str, patterns: Sequence[str] | None = None) -> Path:
    """The folder of the cache with a model's files, which are downloaded where they are not there.

    Args:
        model: `owner/name` or `owner/name@revision`.
        patterns: of the names of the files that are wanted; None: all.

    Raises:
        UserError: it cannot be had.
        OSError: the disk is full.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    repo, revision = split_id(model)
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns) if patterns else None))
    except HFValidationError as error:
        raise UserError(f"model '{model}' is no local file or folder, and no hub id: {first_line(error)}") from None
    except (HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise UserError(f"model '{model}' is no local file or folder; on the hub: {_why(error, model)}") from None
    except OSError as error:
        if trouble(error):
            raise
        raise UserError(f"model '{model}' is no local file or folder; on the hub: {_why(error, model)}") from None


def _why(error: Exception, model: str) -> str:
    return problem(refusal(error, split_id(model)[1]), model)


def has_snapshot(model: str) -> bool:
    """Whether any copy with weights is in the cache."""
    return any(name.endswith(WEIGHTS) for name in cached_names(model))


def cached_names(model: str) -> tuple[str, ...]:
    """Files of a model that are in the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo, revision = split_id(model)
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return ()
    return tuple(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def file_names(model: str) -> tuple[str, ...]:
    """Files of a model: as the hub lists them, else those in its cache; none where neither knows the model."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    repo, revision = split_id(model)
    try:
        found = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_S)
        return tuple(file.rfilename for file in found.siblings or [])
    except HFValidationError:
        return ()
    except (HTTPError, OSError):  # the second: HF_HUB_OFFLINE, and requests, which older clients use
        return cached_names(model)


def read_hub_object(model: str, name: str) -> dict[str, Json] | None:
    """A small JSON file of a model, from the cache or else from the hub, which leaves nothing in the cache.

    Returns:
        None where it cannot be seen: no such model or file, no access, no network, or no client in this Python.

    Raises:
        UserError: it is damaged.
    """
    if not is_hub_id(model) or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    repo, revision = split_id(model)
    kept = try_to_load_from_cache(repo, name, revision=revision)
    if isinstance(kept, str):
        return read_object(kept)
    with tempfile.TemporaryDirectory() as folder:
        try:
            got = hf_hub_download(repo, name, revision=revision, local_dir=folder, etag_timeout=TIMEOUT_S)
        except (HfHubHTTPError, HFValidationError, HTTPError, OSError):  # the last: HF_HUB_OFFLINE
            return None
        return read_object(got)
