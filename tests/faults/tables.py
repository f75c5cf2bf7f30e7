"""Damaged CSVs: stage 0 refuses in words, or accounts for every row; and what it lets pass, no later stage refuses."""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from synthio.manifest import clean_labels
from tests.faults.trials import Outcome, Silent, harmless, judged
from tests.faults_tools import MUTATIONS
from tests.scripts import ROOT, call_script

COUNT, LEAST, WAIT_S = 2000, 100, 60

LABELS = ("dog_bark", "Hund, laut", "001")
CHECK = ROOT / "synthio/data/check_inputs.py"
PIECES = (
    '"', ",", ";", "\t", "\n", "\r\n", "\r", "\0", "\ufeff",
    "=", "~", "|", " ", "  ", '""', '",', "\u2028", "\u200b", "é", "e\u0301",
    "NA", "nan", "None", "path", "label", "split", "sha256",
    "../", "/", "/dev/null", "/etc/passwd", "a" * 300, "\x1b[2J", "-1", "1e9",
    "dog_bark", "Dog_bark", "dog bark", "%s", "{}", "\\", "#",
)  # fmt: skip


def save_world(folder: Path) -> dict[str, str]:
    """Nine training, six validation and six test clips; the text of each CSV, by split."""
    texts = {}
    for split, clips in {"train": 9, "valid": 6, "test": 6}.items():
        rows = []
        for i in range(clips):
            rng = np.random.default_rng([*split.encode(), i])
            (folder / "audio").mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"audio/{split} {i}.wav", 0.1 * rng.normal(size=4000 + 100 * i), 16000)
            rows.append([f"audio/{split} {i}.wav", LABELS[i % 3], f"note {i}"])
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([["path", "label", "note"], *rows])
        texts[split] = stream.getvalue()
    return texts


# ---- damage as people and programs do it


def by_bytes(text: str, rng: random.Random) -> bytes:
    return rng.choice(MUTATIONS)(text.encode(), rng)


def by_piece(text: str, rng: random.Random) -> bytes:
    """Characters that mean something are put in, or take the place of others."""
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(PIECES) + text[at + rng.choice([0, 0, 1, 3, 20]) :]
    return text.encode("utf-8", "surrogatepass")


def by_cell(text: str, rng: random.Random) -> bytes:
    """Cells hold something else, are missing, or are there twice; the CSV is one."""
    rows = list(csv.reader(io.StringIO(text)))
    row = rng.choice(rows)
    column = rng.randrange(len(row))
    change = rng.choice(["set", "append", "drop", "double", "swap", "empty row", "case"])
    if change == "set":
        row[column] = rng.choice(PIECES)
    elif change == "append":
        row[column] += rng.choice(PIECES)
    elif change == "drop":
        del row[column]
    elif change == "double":
        row.insert(column, row[column])
    elif change == "swap":
        other = rng.choice(rows)
        row[:], other[:] = list(other), list(row)
    elif change == "empty row":
        rows.insert(rng.randrange(len(rows) + 1), [])
    else:
        row[column] = rng.choice([str.upper, str.title, str.swapcase])(row[column])
    stream = io.StringIO()
    csv.writer(stream, lineterminator=rng.choice(["\n", "\r\n"])).writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def by_program(text: str, rng: random.Random) -> bytes:
    """Another program's idea of a CSV."""
    rows = list(csv.reader(io.StringIO(text)))
    stream = io.StringIO()
    csv.writer(
        stream, delimiter=rng.choice(",;\t|"), quoting=rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
        lineterminator=rng.choice(["\n", "\r\n", "\r"]),
    ).writerows(rows)  # fmt: skip
    text = rng.choice(["", "sep=,\n", "\n", "# a comment\n"]) + stream.getvalue()
    return text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-32"]))


DAMAGE = (by_bytes, by_piece, by_piece, by_cell, by_cell, by_program)


# ---- what must hold


def cells_of(path: Path) -> Counter:
    """How often each (file name, label, note) is in a CSV of ours."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [(r["path"].strip(), r["label"], r.get("note", "")) for r in csv.DictReader(stream)]
    return Counter((Path(path).name, label, note) for path, label, note in rows)


def cells_said(data: bytes) -> Counter | None:
    """The same of a damaged CSV, by Python's reader; None where that finds no such columns in it."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    head, *rows = [row for row in rows if row] or [[]]
    if head.count("path") != 1 or head.count("label") != 1 or any(len(row) != len(head) for row in rows):
        return None
    at = {name: head.index(name) for name in ("path", "label")}
    note = head.index("note") if "note" in head else None
    return Counter(
        (Path(row[at["path"]].strip()).name, clean_labels([row[at["label"]]])[0], "" if note is None else row[note])
        for row in rows
    )


def refused(done, csv_path: Path) -> str:
    """Check that a refusal is one, in words that help."""
    if done.returncode != 2:
        raise AssertionError(f"status {done.returncode}: {done.stderr[-300:]}")
    text = done.stderr
    if "error: " not in text or csv_path.name not in text:
        raise Silent(f"a refusal that names no file: {text!r}")
    if len(text.splitlines()) > 40 or not harmless(text):
        raise Silent(f"a refusal of {len(text.splitlines())} lines, or one that moves the cursor: {text[:200]!r}")
    return text.strip().splitlines()[-1]


def later_stages(out: Path, rng: random.Random) -> None:
    """Draw, deal out and join again: what stage 0 let pass, these do not refuse, and no row is lost."""
    drawn, shards, joined = out / "drawn.csv", out / "shards", out / "joined.csv"
    commands = [
        ("stratify_dataset.py", "--input_csv", out / "train.csv", "--output_csv", drawn, "--num_samples", 0),
        ("split_csvs.py", "--input_csv", drawn, "--output_folder", shards, "--num_shards", rng.choice([1, 2, 3])),
        ("merge_csv.py", "--expected_csv", drawn, "--output_csv", joined, "--input_csvs"),
    ]
    for script, *words in commands:
        if script == "merge_csv.py":
            words += sorted(shards.glob("shard_[0-9][0-9][0-9].csv"))
        done = call_script(ROOT / script, *words)
        if done.returncode:
            raise Silent(f"stage 0 let it pass, {script} did not: {done.stderr.strip()[-300:]}")
    if cells_of(joined) != cells_of(out / "train.csv"):
        raise Silent("rows went lost between the stages")


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    texts = save_world(folder)

    def trial(rng: random.Random) -> str:
        split, damage = rng.choice(["train", "train", "valid", "test"]), rng.choice(DAMAGE)
        data = damage(texts[split], rng)
        for name, text in texts.items():
            (folder / f"{name}.csv").write_bytes(data if name == split else text.encode())
        out = folder / "checked"
        shutil.rmtree(out, ignore_errors=True)
        csvs = [word for name in texts for word in (f"--{name}_csv", folder / f"{name}.csv")]
        drop = ["--on_bad_audio", rng.choice(["stop", "drop"])]
        done = call_script(CHECK, *csvs, "--output_folder", out, *drop)
        if done.returncode:
            return f"{damage.__name__}: {refused(done, folder / f'{split}.csv')}"
        said, taken = cells_said(data), cells_of(out / f"{split}.csv")
        dropped = out / f"{split}.dropped.csv"
        if dropped.exists():
            taken += cells_of(dropped)
        if said is not None and said != taken:
            raise Silent(f"{damage.__name__} of {split}: not what the CSV says: {said - taken} became {taken - said}")
        later_stages(out, rng)
        return f"{damage.__name__}: {sum(taken.values())} rows"

    return judged(numbers, seed, "tables", trial, ())
