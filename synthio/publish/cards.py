"""What cards (README.md of a classifier or a dataset, as the Hugging Face hub shows it) say of models, and how.

What comes from users (labels, captions, file names) is escaped, so that it is text in the card whatever it holds, and
folders of the machine are left out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from synthio.cli import printable
from synthio.files import EMBEDDED, ROOT
from synthio.models.model_ids import is_hub_id, split_id

UNKNOWN_LICENCE = "not known here"
LICENCES = Path(__file__).with_name("licences.toml")
FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\n(.*?)\n---[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Licence:
    """A licence of models, as licences.toml has it.

    Attributes:
        name: in print.
        see: where its text is, a URL for one of the hub.
        models: hub ids that are under it, `*` for any end.
        names: what front matter of a card calls it; the first is ours.
        outputs, derivatives: what it says of sounds that the model makes, and of adapters that are trained on it.
    """

    name: str
    see: str
    models: tuple[str, ...]
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    derivatives: tuple[str, ...]


@cache
def known_licences() -> tuple[Licence, ...]:
    """All of licences.toml."""
    tables = tomllib.loads(LICENCES.read_text(encoding="utf-8")).values()
    lists = ("models", "names", "outputs", "derivatives")
    return tuple(Licence(table["name"], table["see"], **{key: tuple(table[key]) for key in lists}) for table in tables)


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


def known_licence(model: str) -> Licence | None:
    """The licence of a model whose clauses are known here; no hub is asked.

    A folder is asked for the front matter of its card.
    """
    if is_embedded(model):
        return next(one for one in known_licences() if "embedded" in one.models)
    if is_hub_id(model):
        repo = split_id(model)[0]
        return next((one for one in known_licences() if any(fnmatchcase(repo, name) for name in one.models)), None)
    name = _front_matter(model)
    return next((one for one in known_licences() if name in one.names), None)


def _front_matter(folder: str) -> str:
    """What the card of a model's folder calls its licence; '' where it says nothing that can be read."""
    import yaml

    card = Path(folder) / "README.md"
    found = FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    try:
        said = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:  # the hub shows nothing of it either
        return ""
    names = [said.get(key) for key in ("license", "license_name")] if isinstance(said, dict) else []
    if names and names[0] == "other" and names[1]:
        names = names[1:]
    return names[0] if names and isinstance(names[0], str) and re.fullmatch(r"[\w.+-]+", names[0]) else ""


def licence_of(model: str) -> str:
    """What is known here of a model's licence, without marks of Markdown; no hub is asked."""
    if known := known_licence(model):
        return f"{known.name}, see {known.see}"
    if is_hub_id(model):
        return f"see https://huggingface.co/{split_id(model)[0]}"
    return _front_matter(model) or UNKNOWN_LICENCE


def shared_licence(models: Iterable[str]) -> str:
    """The front matter that says the licence of what comes of these models; '' where none of theirs is known here."""
    for model in models:
        if known := known_licence(model):
            link = f"license_link: {known.see}\n" if known.see.startswith("https://") else ""
            return f"license: other\nlicense_name: {known.names[0]}\n{link}"
    return ""


def citation() -> str:
    """How to cite the method, as BibTeX, from CITATION.cff."""
    import yaml

    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"][0]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    return (
        f"@inproceedings{{synthio{paper['year']}, title={{{paper['title']}}}, author={{{authors}}}, "
        f"booktitle={{{paper['conference']['name']}}}, year={{{paper['year']}}}, url={{{paper['url']}}}}}"
    )


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
        "id": model,
        "repo": split_id(model)[0],
        "licence": licence_of(model),
        "is_embedded": is_embedded(model),
        "is_hub_id": is_hub_id(model),
    }
