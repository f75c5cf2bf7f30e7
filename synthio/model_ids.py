"""Names of models on the Hugging Face hub: `owner/name`, or `owner/name@revision` for a branch, a tag or a commit."""

from __future__ import annotations

import re
from pathlib import Path

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
