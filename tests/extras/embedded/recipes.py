"""Where the recipes are."""

from __future__ import annotations

from tests.scripts import ROOT

HERE = ROOT / "extras/embedded"
