"""Fonts for labels in scripts that matplotlib's own font has not: Japanese, Chinese, Korean, Hindi and others."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import cache

DEFAULT = "DejaVu Sans"  # comes with matplotlib
CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")


def families_for(texts: Iterable[str]) -> list[str]:
    """Font families that together have every letter of some texts, for matplotlib's `font.family`; the default first.

    Letters that no installed font has are boxes in a picture; stderr says once which package brings a font.
    """
    letters = {letter for text in texts for letter in text if letter.isprintable() and not letter.isspace()}
    return [DEFAULT, *_others("".join(sorted(letters)))]


@cache
def _others(letters: str) -> list[str]:
    from matplotlib import font_manager

    missing = {ord(letter) for letter in letters} - _codes(font_manager.findfont(DEFAULT))
    found: list[str] = []
    if missing:
        known = {font.fname for font in font_manager.fontManager.ttflist}
        for file in font_manager.findSystemFonts():  # those that came after matplotlib's list was made
            if file not in known:
                _add(file)
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if missing and font.name not in found and not font.name.startswith("Last Resort"):
            has = missing & _codes(font.fname)
            if has:
                found.append(font.name)
                missing -= has
    if missing:
        _say_missing("".join(map(chr, sorted(missing))))
    return found


def _add(file: str) -> None:
    from matplotlib import font_manager

    try:
        font_manager.fontManager.addfont(file)
    except (OSError, RuntimeError):  # a damaged font: letters that no other has are told of
        return


@cache
def _codes(file: str) -> frozenset[int]:
    """The code points that a font has a picture of."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # it went, or is damaged: the same
        return frozenset()


def _say_missing(letters: str) -> None:
    package = "fonts-noto-cjk" if CJK.search(letters) else "fonts-noto-core"
    shown = letters[:10] + ("…" if len(letters) > 10 else "")
    print(
        f"warning: pictures: no installed font has the letters {shown}, which are boxes there; the package {package} "
        "of Debian and Ubuntu brings one",
        file=sys.stderr,
        flush=True,
    )
