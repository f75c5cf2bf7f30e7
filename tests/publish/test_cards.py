"""Cards: whatever a label, a name or a domain holds is text in them."""

from __future__ import annotations

import re

import pytest

from synthio.publish import cards

EVIL = [
    "a|b",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://h/x.png)",
    "`code`",
    "**bold** _it_",
    "---\nlicense: mit\n---",
    "# title",
    "$x$ ~~y~~ &amp;",
    "\x1b[2J\u202e",
    "https://evil.example",
    "WWW.evil.example",
    "me@evil.example",
]


@pytest.mark.parametrize("text", EVIL)
def test_a_text_is_one_line_without_marks(text):
    shown = cards.escape(text)
    assert "\n" not in shown and shown.isprintable()
    bare = shown.replace("\\\\", "")
    for mark in ("|", "<", "[", "`", "*", "_", "#", "$", "~", "&", "!", "@"):
        assert bare.count(mark) == bare.count(f"\\{mark}")
    assert not re.search(r"[^\\]://|www\.", shown, re.IGNORECASE)


def test_plain_words_stay_as_they_are():
    assert cards.escape("Hund, laut: 0.5 (3:1) a.b") == "Hund, laut: 0.5 (3:1) a.b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("t2a@01", "`t2a@01`"), ("a`b", "`` a`b ``"), ("``` <b>", "```` ``` <b> ````"), ("a\nb", "`a b`")],
)
def test_code_ends_where_its_text_does(text, shown):
    assert cards.code(text) == shown


def test_a_card_names_models_without_folders_of_the_machine(tmp_path):
    assert cards.licence_of(str(cards.EMBEDDED / "ast")).startswith("CC BY-NC")
    assert cards.model_name(str(cards.EMBEDDED / "ast")) == "Synthio's embedded ast"
    assert cards.licence_of("MIT/ast") == "see https://huggingface.co/MIT/ast"
    assert cards.model_name("MIT/ast") == "MIT/ast" and cards.model_name("/home/me/ast") == "ast"
    assert cards.licence_of(str(tmp_path)) == "not known here"
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert cards.licence_of(str(tmp_path)) == "apache-2.0"
    assert cards.escape("a|b\n<img> `x` *_") == "a\\|b \\<img\\> \\`x\\` \\*\\_"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ('---\ntags: [x]\nlicense: "cc-by-4.0"\n---\n# Mine\n', "cc-by-4.0"),
        ("---\nlicense: mit  # of the weights\n---\n", "mit"),
        ("---\r\nlicense: other\r\nlicense_name: 'mine'\r\n---\r\n", "mine"),
        ("---\nlicense: other\n---\n", "other"),
        ("# A network\n\nIts code has another one:\nlicense: mit\n", "not known here"),  # no front matter
        ("---\ntags: x\n---\nlicense: mit\n", "not known here"),
        ("---\nlicense: [mit, gpl]\n---\n", "not known here"),
        ("---\nlicense: <b>\n---\n", "not known here"),
        ("---\nlicense: *a\n---\n", "not known here"),
        ("---\n- license\n---\n", "not known here"),
    ],
)
def test_the_licence_of_a_folder_is_read_as_yaml(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card, newline="")
    assert cards.licence_of(str(tmp_path)) == licence


CARD = "---\nlicense: other\nlicense_name: stable-audio-community\n---\n"


def test_licences_of_generators(tmp_path):
    """Of the hub by name, of a folder by its card, whatever its revision; nobody else's."""
    stability = cards.known_licence("stabilityai/stable-audio-open-1.0@main")
    assert stability is not None and stability.name == "Stability AI Community License"
    assert any("1,000,000" in clause for clause in stability.outputs)
    assert cards.known_licence("stabilityai/stable-diffusion-3") is None and cards.known_licence("me/x") is None
    (tmp_path / "README.md").write_text(CARD)
    assert cards.known_licence(str(tmp_path)) == stability
    assert cards.licence_of(str(tmp_path)) == f"{stability.name}, see {stability.see}"
    embedded = str(cards.EMBEDDED / "text_to_audio")
    assert cards.shared_licence(["me/x", embedded]) == "license: other\nlicense_name: cc-by-nc\n"
    assert "license_link: https://stability.ai" in cards.shared_licence([str(tmp_path), embedded])
    assert cards.shared_licence(["me/x"]) == ""


def test_the_documented_licences_are_those_of_the_cards():
    text = (cards.ROOT / "docs/models.md").read_text(encoding="utf-8")
    table = text[text.index("## Text to audio") :].split("\n\n")[1]
    for row in table.splitlines()[2:]:
        model, _, licence, _ = (cell.strip() for cell in row.strip("|").split("|"))
        known = cards.known_licence(model.strip("`"))
        assert (known is None) == ("not stated" in licence)
        assert known is None or licence.split(",")[0] == known.name.removesuffix(" License")


def test_the_citation_is_that_of_citation_cff():
    said = cards.citation()
    assert said.startswith("@inproceedings{synthio2025, title={Synthio: ") and "Ghosh, Sreyan and Kumar, Sonal" in said
    assert said.endswith("url={https://openreview.net/forum?id=bR1J7SpzrD}}") and said.count("{") == said.count("}")
