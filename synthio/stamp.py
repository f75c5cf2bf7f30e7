"""Tell whether a stage's finished work still stands, and write down that it does.

    python -m synthio.stamp check --stamp W/stamps/filter.json --inputs a.csv --outputs b.csv --command python x.py ...
    python -m synthio.stamp write (the same options, after the stage)

A stage is up to date when its command, the content of its inputs and the code of its script are those it was last
run with, and its outputs are still what it wrote. `check` answers by its status: 0 up to date, 3 to be done (the
reason is printed), 2 a mistake; `ask` does the same, but writes nothing. Content means: the bytes of a file, every
file of a folder, the name of a hub id; for a CSV among the outputs also that each clip it names in `path` is there
with its size. Where the work was done (interpreter, --device, folder names) is no part of it, so that a result folder
can be moved.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from synthio import __version__
from synthio.cli import UserError, new_parser, run_main
from synthio.files import fingerprint, read_json, sha256_file, sha256_value, write_json
from synthio.shared_stages import counterparts, link_outputs, root_of, sibling_stamps

UP_TO_DATE, TO_DO = 0, 3
ROOT = Path(__file__).resolve().parent.parent
# They say where, how fast and how long a stage works and who is told, not what it makes.
LLM_LIMITS = ("--llm_max_calls", "--llm_max_tokens", "--llm_input_price", "--llm_output_price")
INERT_OPTIONS = ("--device", "--compile", "--gama_env", "--log_to", "--log_folder", *LLM_LIMITS)
LARGE_FILE_BYTES = 1 << 28  # a checkpoint: reading it takes seconds, or a minute


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("action", choices=["ask", "check", "write"], help="check before the stage, write after it")
    parser.add_argument("--stamp", required=True, help="JSON file that holds what is known of the stage")
    parser.add_argument("--inputs", nargs="*", default=[], help="files, folders and hub ids that the stage reads")
    parser.add_argument("--outputs", nargs="*", default=[], help="files and folders that the stage writes")
    parser.add_argument("--watch_audio", nargs="*", default=[], help="input CSVs whose clips may change under them")
    parser.add_argument("--siblings", action="store_true", help="take it over from a result root beside this one")
    parser.add_argument("--command", nargs=argparse.REMAINDER, required=True, help="the stage's command; comes last")
    return parser


def command_key(command: Sequence[str], paths: Sequence[str], folder: Path) -> list[str]:
    """The command without interpreter and inert options; inputs and outputs stand as <0>, <1>, ...

    Other absolute paths are taken relative to `folder`.
    """
    names = {path: f"<{i}>" for i, path in reversed(list(enumerate(paths)))}
    start = script_index(command)
    words, skip = [Path(word).name for word in command[start : start + 1]], False
    for word in command[start + 1 :]:
        if skip or word in INERT_OPTIONS:
            skip = not skip
            continue
        words.append(names.get(word) or (os.path.relpath(word, folder) if Path(word).is_absolute() else word))
    return words


def script_index(command: Sequence[str]) -> int:
    """Where the script, or the module after -m, stands in the command; 0 when there is none."""
    for i, word in enumerate(command):
        if word.endswith(".py") or (i > 0 and command[i - 1] == "-m"):
            return i
    return 0


def code_key(command: Sequence[str]) -> str:
    """Hash of the stage's own script, with the version of the package it builds on."""
    word = command[script_index(command)] if command else ""
    script = Path(word) if word.endswith(".py") else ROOT / (word.replace(".", "/") + ".py")
    return sha256_value([__version__, sha256_file(script) if script.is_file() else ""])


def content(path: str, cache: dict[str, list]) -> str:
    """Hash of a file, a folder or a hub id. What is large is read again only when a size or a time in it changed."""
    if Path(path).is_dir():
        files = sorted(p for p in Path(path).rglob("*") if p.is_file() and not p.name.startswith("."))
    elif Path(path).is_file() and Path(path).stat().st_size >= LARGE_FILE_BYTES:
        files = [Path(path)]
    else:
        return fingerprint(path)
    state = sha256_value([[p.relative_to(path).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in files])
    name = str(Path(path).absolute())
    if cache.get(name, [None])[0] != state:
        cache[name] = [state, fingerprint(path)]
    return cache[name][1]


def clips(path: str, with_time: bool) -> str:
    """Hash of name and size (and time) of every clip a CSV names in `path`; '' for what names none."""
    if not path.endswith(".csv") or not Path(path).is_file():
        return ""
    with Path(path).open(newline="", encoding="utf-8-sig") as stream:
        names = [row["path"] for row in csv.DictReader(stream) if row.get("path")]
    return sha256_value([[name, clip_state(Path(path).parent / name, with_time)] for name in names])


def clip_state(path: Path, with_time: bool) -> list[int]:
    """Size (and time of change) of a clip; empty where it is missing."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns] if with_time else [found.st_size]


def work_key(args, cache: dict[str, list]) -> dict[str, Any]:
    """All that decides a stage's result, in parts, so that a change can be named."""
    return {
        "command": command_key(args.command, [*args.inputs, *args.outputs], Path(args.stamp).parent),
        "code": code_key(args.command),
        "inputs": [content(path, cache) for path in args.inputs],
        "clips": [clips(path, with_time=True) for path in args.watch_audio],
    }


def output_state(path: str, cache: dict[str, list]) -> list[str]:
    """[content, clips] of an output; empty when it is missing."""
    return [content(path, cache), clips(path, with_time=False)] if Path(path).exists() else []


def difference(args, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Why the work has to be done (again): the first part that changed, in words; '' for none."""
    if old.get("code") != new["code"]:
        return "its code changed"
    if old["command"] != new["command"]:
        return "changed: " + " ".join(changed_words(old["command"], new["command"]))
    for path, was, now in zip(args.inputs, old["inputs"], new["inputs"], strict=False):
        if was != now:
            return f"{path} changed"
    return "" if old == new else "its clips changed"


def changed_words(old: list[str], new: list[str]) -> list[str]:
    """The options of `new` that `old` had not, each with its value."""
    old_pairs = set(pairwise(old))
    words = [f"{a} {b}" for a, b in pairwise(new) if a.startswith("--") and (a, b) not in old_pairs]
    return words or ["options"]


def reason_to_run(args, stamp: dict[str, Any], key: dict[str, Any], cache: dict[str, list]) -> str:
    """Why the stage has to run; '' when it is up to date."""
    if not stamp:
        return "not done yet"
    reason = difference(args, stamp["key"], key)
    if reason:
        return reason
    for path, was in zip(args.outputs, stamp["outputs"], strict=False):
        now = output_state(path, cache)
        if now != was:
            part = "is missing" if not now else "is not what was written" if now[0] != was[0] else "lacks a clip"
            return f"{path} {part}"
    return ""


def counts(outputs: Sequence[str]) -> str:
    """'100 rows in, 98 out, 2 dropped' from the records beside the outputs; '' without one."""
    for path in outputs:
        record_path = Path(path).with_suffix(".json")
        if not (path.endswith(".csv") and record_path.is_file()):
            continue
        record = read_json(record_path)
        text = f"{record['rows_in']} rows in, {record['rows_out']} out"
        if record["rows_dropped"]:
            text += f", {record['rows_dropped']} dropped (see {Path(path).with_suffix('.dropped.csv').name})"
        return text
    return ""


def read_quietly(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is missing or broken: then the work is done again."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def check(args, stamp: Path, cache: dict[str, list]) -> int:
    """Print the reason to run, or the counts; remember the inputs as they are now, not as they may be at the end."""
    key = work_key(args, cache)
    reason = reason_to_run(args, read_quietly(stamp), key, cache)
    if reason and args.siblings and (root := find_sibling(args, stamp, key)):
        if args.action == "check":
            link_outputs(args.outputs, root_of(stamp), root)
            write_json(stamp, {"key": key, "outputs": [output_state(path, cache) for path in args.outputs]})
        print(f"taken over from {root.name}")
        return UP_TO_DATE
    print(reason or counts(args.outputs))
    if reason and args.action == "check":
        write_json(stamp.with_suffix(".begun"), key)
    return TO_DO if reason else UP_TO_DATE


def find_sibling(args, stamp: Path, key: dict[str, Any]) -> Path | None:
    """A result root beside this one whose stage did this very work, and whose outputs still are what it wrote."""
    for other in sibling_stamps(stamp):
        known, root = read_quietly(other), root_of(other)
        paths = counterparts(args.outputs, root_of(stamp), root)
        if paths and known.get("key") == key and known.get("outputs") == [output_state(str(p), {}) for p in paths]:
            return root
    return None


def write(args, stamp: Path, cache: dict[str, list]) -> int:
    """Write the stamp of a stage that ended well and print the counts."""
    missing = [path for path in args.outputs if not Path(path).exists()]
    if missing:
        raise UserError(f"the stage ended well, but did not write {', '.join(missing)}")
    begun = stamp.with_suffix(".begun")
    key = read_quietly(begun) or work_key(args, cache)
    write_json(stamp, {"key": key, "outputs": [output_state(path, cache) for path in args.outputs]})
    begun.unlink(missing_ok=True)
    print(counts(args.outputs))
    return 0


def main() -> int:
    args = get_parser().parse_args()
    stamp = Path(args.stamp)
    cache_path = stamp.parent / "folders.json"
    cache = read_quietly(cache_path)
    before = dict(cache)
    status = (write if args.action == "write" else check)(args, stamp, cache)
    if cache != before and args.action != "ask":
        write_json(cache_path, cache)
    return status


if __name__ == "__main__":
    run_main(main)
