"""What the reasons of the filter have in common: how each kind of them begins."""

from __future__ import annotations

from synthio.captions.requests import Rejection

COPY, CLIPPED, SILENT = "near-duplicate", "clipped", "silent"
BEGINNINGS: dict[str, Rejection] = {COPY: "copy", CLIPPED: "clipped", SILENT: "silent"}


def rejection_of(reason: str) -> Rejection:
    """The kind of a reason: what is neither a copy nor spoilt did not sound enough like its label."""
    return next((kind for beginning, kind in BEGINNINGS.items() if reason.startswith(beginning)), "unlike")
