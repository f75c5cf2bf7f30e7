"""Names, labels and texts that are orders to a terminal: shown, never obeyed; and kept as they are in the files."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from synthio.cli import printable
from synthio.publish.cards import code, escape
from tests.faults.tables import CHECK, save_world
from tests.faults.trials import Outcome, Silent, harmless, judged
from tests.scripts import ROOT, Done, call_script

COUNT, LEAST, WAIT_S = 150, 75, 120

ORDERS = (
    "\x1b[2J", "\x1b]0;owned\x07", "\x1b]8;;http://evil\x1b\\", "\x1b[1A\x1b[2K", "\x9b2J",
    "\x08" * 9, "\x07", "\x7f", "\x0c", "\x00",
    "\rerror", "\u202e", "\u2066x\u2069", "\u200b", "\ufeff", "\u2028", "\u0085", "\x1bP1;2q\x1b\\", "\U000e0041",
)  # fmt: skip


def hostile(rng: random.Random) -> str:
    """Words with orders between them."""
    return "".join(
        rng.choice(["dog", "ok", " ", "<b>", "|", "`", *ORDERS, *ORDERS]) for _ in range(rng.randrange(2, 8))
    )


def check_printed(done: Done) -> str:
    """Nothing that was printed is an order, and it ended as programs do."""
    text = done.stdout + done.stderr
    if done.returncode not in (0, 2):
        raise AssertionError(f"status {done.returncode}: {text[-300:]}")
    if not harmless(text):
        raise Silent(f"an order reaches the terminal: {text[-300:]!r}")
    return text[-100:]


def write_csvs(folder: Path, texts: dict[str, str], change: Callable[[dict], None]) -> list[object]:
    """The CSVs of a set with all rows changed; the options that name them."""
    words: list[object] = []
    for split, text in texts.items():
        rows = list(csv.DictReader(text.splitlines()))
        for row in rows:
            change(row)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        words += [f"--{split}_csv", folder / f"{split}.csv"]
    return words


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    texts = save_world(folder)

    def labels(rng: random.Random) -> str:
        """Two of three labels are hostile; the stages that print them run."""
        names = {"dog_bark": hostile(rng), "Hund, laut": "rain" + hostile(rng)}
        words = write_csvs(folder, texts, lambda row: row.update(label=names.get(row["label"], row["label"])))
        out = folder / "checked"
        shutil.rmtree(out, ignore_errors=True)
        said = check_printed(call_script(CHECK, *words, "--output_folder", out))
        if not (out / "train.csv").exists():
            return said
        written = {row["label"] for row in csv.DictReader((out / "train.csv").open(newline="", encoding="utf-8"))}
        if "001" not in written or not any("rain" in label for label in written):
            raise Silent(f"the labels were changed: {written}")
        prompts = folder / "prompts.csv"
        words = [
            "--input_csv",
            out / "train.csv",
            "--output_csv",
            prompts,
            "--mode",
            rng.choice(["template", "supcon"]),
        ]
        return said + check_printed(call_script(ROOT / "generate_captions_gpt.py", *words, "--domain", hostile(rng)))

    def paths(rng: random.Random) -> str:
        """Clips that are not there, with hostile names."""
        name = hostile(rng)
        words = write_csvs(folder, texts, lambda row: row.update(path=f"{name}.wav", note=name))
        return check_printed(call_script(CHECK, *words, "--output_folder", folder / f"out {name}".replace("\0", "")))

    def options(rng: random.Random) -> str:
        """Words of a command line."""
        word = hostile(rng).replace("\0", "")
        script = rng.choice(
            ["stratify_dataset.py", "split_csvs.py", "merge_csv.py", "filter_audios.py", "ast/train.py"]
        )
        words = rng.choice([[f"--{word}"], ["--input_csv", word], ["--seed", word], [word]])
        return check_printed(call_script(ROOT / script, *words))

    def cards(rng: random.Random) -> str:
        """Text in a line of Markdown."""
        text = "".join(rng.choice("ab \n|`*_<>[]()#!~&$\\@:/.w") for _ in range(rng.randrange(30))) + hostile(rng)
        for shown in (escape(text), code(text)):
            if not harmless(shown) or "\n" in shown:
                raise Silent(f"a card takes {text!r} for more than text: {shown!r}")
        bare = escape(text).replace("\\\\", "")
        if any(bare.count(mark) != bare.count(f"\\{mark}") for mark in "|<[`*_#$~&!@"):
            raise Silent(f"a card takes {text!r} for marks: {bare!r}")
        if not printable(text).replace("\r", "").replace("\n", "").replace("\t", "").isprintable():
            raise Silent(f"{text!r} is not shown as an escape")
        return repr(text)

    def trial(rng: random.Random) -> str:
        kind = rng.choice([labels, labels, paths, options, cards])
        return f"{kind.__name__}: {kind(rng)}"

    return judged(numbers, seed, "terminal", trial, ())
