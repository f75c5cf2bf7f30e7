"""Names of models on the Hugging Face hub: `owner/name`, or `owner/name@revision` for a branch, a tag or a commit."""

from __future__ import annotations

import re
from pathlib import Path

OWN_CODE = "it needs code of its own (auto_map), which is never run; name a model of transformers' own classes"
MAIN = "main"  # the revision that counts where none is named
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@(\w[\w./-]*))?")


def is_hub_id(model: str) -> bool:
    """Whether a name can be a model of the hub: of the hub's form, and no file or folder here."""
    return not Path(model).exists() and HUB_ID.fullmatch(model) is not None


def split_id(model: str) -> tuple[str, str]:
    """(`owner/name`, revision) of a hub id; a name that is none, a folder for one, stays whole."""
    found = HUB_ID.fullmatch(model) if is_hub_id(model) else None
    return (found[1], found[2] or MAIN) if found else (model, MAIN)


def source(model: str) -> dict[str, str]:
    """What `from_pretrained` of transformers is told of a folder or a hub id."""
    repo, revision = split_id(model)
    return {"pretrained_model_name_or_path": repo, "revision": revision}


def auto_source(model: str) -> dict[str, str | bool]:
    """`source` for transformers' Auto classes, which could else ask on a terminal whether to run a model's own code.

    It is never run: what a folder or the hub brings beside weights and settings stays unread.
    """
    return {**source(model), "trust_remote_code": False}
