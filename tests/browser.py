"""A page in headless Chromium, by the DevTools protocol: Playwright drives the browser that is installed.

`chromium` is skipped where either is missing, with the line that installs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), "")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium found (apt-get install chromium)")
WIDE, PHONE = (1200, 900), (390, 800)


@contextmanager
def opened(html: Path, size: tuple[int, int] = WIDE, profile: Path | None = None) -> Iterator:
    """A file in a browser window, in CSS pixels; `profile` keeps what it stores from one call to the next.

    What the page logs as an error fails the test.
    """
    sync_playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright found (python -m pip install -r requirements-dev.lock)"
    ).sync_playwright
    faults: list[str] = []
    flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    options = {"viewport": dict(zip(("width", "height"), size, strict=True)), "accept_downloads": True}
    with sync_playwright() as player:
        window = player.chromium.launch_persistent_context(
            str(profile or html.parent / "profile"), executable_path=CHROMIUM, args=flags, **options
        )
        page = window.pages[0]
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(html.as_uri())
        yield page
        window.close()
    assert not faults, faults


def saved(page, folder: Path) -> Path:
    """The file that the page's button saves."""
    with page.expect_download() as coming:
        page.click("#review-save")
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path
