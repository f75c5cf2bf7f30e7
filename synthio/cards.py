"""What cards (README.md of a classifier or a dataset, as the Hugging Face hub shows it) say of models, and how.

What comes from users (labels, captions, file names) is escaped, so that it is text in the card whatever it holds, and
folders of the machine are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthio.cli import printable
from synthio.files import EMBEDDED
from synthio.model_ids import is_hub_id, split_id

EMBEDDED_LICENCE = "CC BY-NC"
LICENCE_LINE = re.compile(r"^license:[ \t]*([\w.+-]+)[ \t]*$", re.MULTILINE)


# Also the marks without which an address or a name (www., ://, @) becomes no link of its own.
MARKS = re.compile(r"([\\`*_{}\[\]<>#|!~&$@]|(?<=\bwww)\.|:(?=//))", re.IGNORECASE)


def in_line(value: object) -> str:
    """Any text in one line, what nobody would see in it as an escape."""
    return printable(" ".join(str(value).split()))


def escape(value: object) -> str:
    """Any text as a piece of a line of Markdown that shows it as it is, also in a cell of a table."""
    return MARKS.sub(r"\\\1", in_line(value))


def code(value: object) -> str:
    """Any text as a piece of code in a line of Markdown."""
    text = in_line(value)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def is_embedded(model: str) -> bool:
    """Whether it is one of the models that ship with the project."""
    return Path(model).resolve().is_relative_to(EMBEDDED)


def model_name(model: str) -> str:
    """A model as a card says it: a hub id as it is, of a folder its last name."""
    if is_embedded(model):
        return f"Synthio's embedded {Path(model).name}"
    return model if is_hub_id(model) else Path(model).name


def licence_of(model: str) -> str:
    """What is known here of a model's licence, without marks of Markdown; no hub is asked."""
    if is_embedded(model):
        return f"{EMBEDDED_LICENCE}, see extras/embedded/README.md of Synthio"
    if is_hub_id(model):
        return f"see https://huggingface.co/{split_id(model)[0]}"
    card = Path(model) / "README.md"
    found = LICENCE_LINE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    return found[1] if found else "not known here"


def render(template: Path, values: Mapping[str, Any]) -> str:
    """Fill in a template; `md` and `code` escape."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=False,  # Markdown, not HTML: `md` does it
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": escape, "code": code}
    return environment.get_template(template.name).render(values)


def described(model: str) -> dict[str, Any]:
    """A model as the templates want it."""
    return {
        "name": model_name(model),
        "licence": licence_of(model),
        "is_embedded": is_embedded(model),
        "is_hub_id": is_hub_id(model),
    }
