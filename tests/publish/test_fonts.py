"""Labels in other scripts: a font that has their letters, or a word on where to get one."""

from __future__ import annotations

from matplotlib import font_manager

from synthio.publish.fonts import DEFAULT, _codes, _others, families_for


def test_a_font_is_found_for_letters_that_the_default_lacks():
    assert families_for(["dog bark", "größe ✓\n"]) == [DEFAULT]
    own = font_manager.findfont("STIXGeneral")  # comes with matplotlib
    letter = chr(min(code for code in _codes(own) - _codes(font_manager.findfont(DEFAULT)) if chr(code).isprintable()))
    families = families_for([f"dog {letter}"])
    assert families[0] == DEFAULT and len(families) == 2
    assert ord(letter) in _codes(font_manager.findfont(families[1]))


def test_the_package_with_a_font_is_told_once(capsys, monkeypatch):
    fonts = [font for font in font_manager.fontManager.ttflist if font.name.startswith("DejaVu Sans")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    _others.cache_clear()
    for _ in range(2):
        assert families_for(["犬の鳴き声"]) == [DEFAULT]
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "犬" in told and "fonts-noto-cjk" in told
    families_for(["ꤊ"])
    assert "fonts-noto-core" in capsys.readouterr().err
    _others.cache_clear()
