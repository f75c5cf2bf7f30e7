"""Clips on a page: which are shown, the card of each, and the script in which they are reviewed by ear.

The same template, script and style make the report of a run and the page of extras/retrieve.py --suggest. Labels,
captions and file names are text in it, whatever they hold. The page's policy names its one script by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.manifest import PROBABILITY

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("gold", "kept", "rejected")
CLIP_SECONDS = 10.0
CARD_COLUMNS = ("label", "kind", "round", "duration_s", "text", "clap_score", PROBABILITY, "reason", "doubt")
CARD_LETTERS = 3000  # of a clip's own HTML
SCRIPT = "review.js"


# ---- which clips


def draw_clips(clips: pd.DataFrame, count: int, first: Collection[tuple[str, str]] = ()) -> pd.DataFrame:
    """The clips to show: a draw by hash, not a choice, that is even over kinds and within a kind over labels.

    Args:
        clips: path, label, kind.
        count: of the clips that are drawn.
        first: (sha256, label) of clips that come before all others.
    """
    from synthio.files import sha256_value
    from synthio.manifest import CONTENT, LABEL, PATH

    order = clips.assign(draw=[sha256_value(Path(path).name) for path in clips[PATH]]).sort_values("draw")
    order["turn"] = order.groupby(["kind", LABEL]).cumcount()
    order = order.sort_values(["turn", LABEL, "draw"])
    order["turn"] = order.groupby("kind").cumcount()
    order["kind_turn"] = order["kind"].map(KINDS.index)
    order["late"] = [key not in first for key in zip(order.get(CONTENT, order[PATH]), order[LABEL], strict=True)]
    order = order.sort_values(["late", "turn", "kind_turn"], kind="stable")
    return order.head(max(0, count)).drop(columns=["draw", "turn", "kind_turn", "late"])


def doubtful_clips(clips: pd.DataFrame, doubts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The clips in which another label is heard, the least sure of their own first; half gold, half synthetic.

    Args:
        clips: path, label, kind.
        doubts: of synthetic and gold clips, as ast/heads.py writes it; may be empty.
        count: at most so many.
    """
    from synthio.classification.doubts import CONFIDENCE, HEARD_AS, HEARD_CONFIDENCE
    from synthio.manifest import LABEL, PATH, class_of

    said = {
        (row[PATH], row[LABEL]): row
        for row in doubts.to_dict("records")
        if row[CONFIDENCE] and class_of(row[HEARD_AS]) != class_of(row[LABEL])
    }
    rows = [
        (index, said.get(key))
        for index, key in zip(clips.index, zip(clips[PATH], clips[LABEL], strict=True), strict=True)
    ]
    found = sorted(((float(row[CONFIDENCE]), index, row) for index, row in rows if row), key=lambda one: one[:2])
    gold = [one for one in found if clips.at[one[1], "kind"] == "gold"]
    made = [one for one in found if clips.at[one[1], "kind"] == "kept"]
    half = count // 2
    shown = gold[: max(half, count - len(made))] + made[: max(count - half, count - len(gold))]
    shown = sorted(shown[:count], key=lambda one: one[:2])
    words = [
        f"heard as {row[HEARD_AS]} ({float(row[HEARD_CONFIDENCE]):.2f}), {row[LABEL]} has {chance:.2f}"
        for chance, _, row in shown
    ]
    return clips.loc[[index for _, index, _ in shown]].assign(doubt=words)


# ---- their cards


def sound_of(path: str, seconds: float) -> dict[str, str]:
    """audio and spectrogram of a clip's first seconds as data URIs, or the problem with it; the others are ""."""
    from synthio.audio import BadAudio, read_audio
    from synthio.report.figures import ogg, spectrogram_png

    try:
        audio, rate = read_audio(path)
    except BadAudio as error:
        return {"audio": "", "spectrogram": "", "problem": str(error)}
    audio = audio[:, : max(1, round(seconds * rate))]
    return {"audio": ogg(audio, rate), "spectrogram": spectrogram_png(audio, rate), "problem": ""}


def cards_of(clips: pd.DataFrame, work: Path | None, seconds: float, budget: int) -> tuple[list[dict[str, Any]], int]:
    """(a record for each clip, sorted by label and kind, what is left of the budget).

    Args:
        clips: path, label, kind and what else a card shows; in the order in which they are taken.
        work: the run's folder, from which paths are named; None: they are absolute.
        seconds: of each clip, at most.
        budget: characters; it stops where they are used up.
    """
    from synthio.data.review import named_by
    from synthio.manifest import LABEL, PATH, SOURCE

    cards: list[dict[str, Any]] = []
    for record in clips.to_dict("records"):
        card = {name: record.get(name, "") for name in CARD_COLUMNS}
        card |= {"file": Path(record[PATH]).name, "source": Path(record.get(SOURCE, "")).name}
        card |= {"clip": json.dumps(named_by(record, work)), "can_keep": card["kind"] != "gold"}
        card |= sound_of(record[PATH], seconds)
        letters = sum(len(str(value)) for value in card.values()) + CARD_LETTERS
        if letters > budget:
            break
        budget -= letters
        cards.append(card)
    kinds = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(cards, key=lambda c: (c[LABEL], kinds.get(c["kind"], 0), c["round"], c["file"])), budget


# ---- the page


def told(
    name: str,
    file: str,
    columns: Sequence[str],
    labels: Sequence[str],
    multi_label: bool,
    earlier: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """What the template and its script are told.

    Args:
        name: of the run: choices are kept in the browser under it.
        file: that is saved.
        columns: of that CSV; without a decision, it has the clips alone that are not dropped.
        labels: that can be given.
        multi_label: a clip may have several.
        earlier: clips with a decision and a new_label.
    """
    page: dict[str, Any] = {
        "store": f"synthio {file} {name}",
        "file": file,
        "columns": list(columns),
        "labels": list(labels),
    }
    page |= {"multi_label": multi_label, "earlier": list(earlier)}
    return page | {"page": json.dumps(page)}


def render(template: str, page: Mapping[str, Any]) -> str:
    """The HTML. Autoescape is on for everything; nothing is marked as safe."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = hashlib.sha256(environment.get_template(SCRIPT).render().encode()).digest()
    return environment.get_template(template).render(page, script_hash=f"sha256-{base64.b64encode(digest).decode()}")
