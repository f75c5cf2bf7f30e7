"""Tell whether a stage's finished work still stands, and write down that it does.

    python -m synthio.pipeline.stamp check --stamp W/stamps/filter.json --inputs a.csv --outputs b.csv --command x.py
    python -m synthio.pipeline.stamp write (the same options, after the stage)

A step is up to date when its command, the content of its inputs and its code are those it was last run with, and its
outputs are still what it wrote. `check` answers by its status: 0 up to date, 3 to be done (the reason is printed), 2 a
mistake; `ask` does the same, but writes nothing. Content means: the bytes of a file, every file of a folder, the
revision in the cache of a hub id; of an output also the records beside it and, for a CSV, the bytes of each clip that
it names in `path`. Clips and large files are read again where their size, their inode or a time has changed. Code
means: every module of ours that the step's processes loaded (synthio.pipeline.loaded). Where the work was done
(interpreter, --device, folder names) is no part of it, so that a result folder can be moved. A result that was made
with other versions of libraries than are installed stands, but says so; with --strict_env it is made again.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from synthio.cli import UserError, new_parser, run_main
from synthio.files import files_in, fingerprint, read_json, sha256_file, sha256_value, write_json
from synthio.models.model_ids import is_hub_id
from synthio.pipeline.loaded import changed_code, changed_libraries, merged, read_notes
from synthio.pipeline.shared_stages import clips_of, counterparts, files_beside, link_outputs, root_of, sibling_stamps
from synthio.pipeline.variables import inert_options

UP_TO_DATE, TO_DO = 0, 3
INERT_OPTIONS = inert_options()
LARGE_FILE_BYTES = 1 << 28  # a checkpoint: reading it takes seconds, or a minute


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("action", choices=["ask", "check", "write"], help="check before the stage, write after it")
    parser.add_argument("--stamp", required=True, help="JSON file that holds what is known of the stage")
    parser.add_argument("--inputs", nargs="*", default=[], help="files, folders and hub ids that the stage reads")
    parser.add_argument(
        "--tables", nargs="*", default=[], help="inputs of which the records beside them and the clips count, too"
    )
    parser.add_argument("--outputs", nargs="*", default=[], help="files and folders that the stage writes")
    parser.add_argument("--watch_audio", nargs="*", default=[], help="input CSVs whose clips may change under them")
    parser.add_argument("--siblings", action="store_true", help="take it over from a result root beside this one")
    parser.add_argument("--parts", nargs="*", default=[], help="stamps of the shards, whose code is that of the stage")
    parser.add_argument("--strict_env", action="store_true", help="other versions of libraries are a reason to run")
    parser.add_argument("--command", nargs=argparse.REMAINDER, required=True, help="the stage's command; comes last")
    return parser


@dataclass(frozen=True)
class Stage:
    """What the options of the same names say of a stage."""

    action: str
    stamp: str
    inputs: Sequence[str]
    tables: Sequence[str]
    outputs: Sequence[str]
    watch_audio: Sequence[str]
    siblings: bool
    parts: Sequence[str]
    strict_env: bool
    command: Sequence[str]


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


def script_hash(command: Sequence[str]) -> str:
    """Hash of the step's script; '' for a module, which is in the notes of its process."""
    script = Path(command[script_index(command)]) if command else Path()
    return sha256_file(script) if script.is_file() and script.suffix == ".py" else ""


def content(path: str, cache: dict[str, list]) -> str:
    """Hash of a file or a folder, revision of a hub id. What is large is read again where sizes or times changed."""
    if is_hub_id(path):
        from synthio.models.hub import cached_revision

        return f"{path}@{cached_revision(path)}"
    if Path(path).is_dir():
        files = files_in(Path(path))
    elif Path(path).is_file() and Path(path).stat().st_size >= LARGE_FILE_BYTES:
        files = [Path(path)]
    else:
        return fingerprint(path)
    state = sha256_value([[p.relative_to(path).as_posix(), file_state(p)] for p in files])
    return remembered(str(Path(path).absolute()), state, lambda: fingerprint(path), cache)


def remembered(name: str, state: str, read: Callable[[], str], cache: dict[str, list]) -> str:
    """What `read` gives, which is asked where the state is another than at the last time."""
    known = cache.get(name)
    if not known or known[0] != state:
        known = cache[name] = [state, read()]
    return known[1]


def clips(path: str, cache: dict[str, list]) -> str:
    """Hash of the names and bytes of all clips that a CSV names in `path`; '' for what names none."""
    names = clips_of(Path(path))
    if not names:
        return ""
    files = [Path(path).parent / name for name in names]
    state = sha256_value([[name, file_state(file)] for name, file in zip(names, files, strict=True)])
    hashed: dict[str, str] = {}  # a clip may be in several rows

    def read() -> str:
        for name, file in zip(names, files, strict=True):
            if name not in hashed:
                hashed[name] = sha256_file(file) if file_state(file) else ""
        return sha256_value([[name, hashed[name]] for name in names])

    return remembered(f"clips of {Path(path).absolute()}", state, read, cache)


def file_state(path: Path) -> list[int]:
    """What changes with the bytes of a file; empty where it is missing."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # the second: a zero byte in a damaged CSV
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def work_key(stage: Stage, cache: dict[str, list]) -> dict[str, Any]:
    """All that decides a stage's result, in parts, so that a change can be named."""
    return {
        "command": command_key(stage.command, [*stage.inputs, *stage.tables, *stage.outputs], Path(stage.stamp).parent),
        "script": script_hash(stage.command),
        "inputs": [
            *(content(path, cache) for path in stage.inputs),
            *(sha256_value(output_state(path, cache)) for path in stage.tables),
        ],
        "clips": [clips(path, cache) for path in stage.watch_audio],
    }


# A state is JSON: the kind of output, then what says that it is the same.
def output_state(path: str, cache: dict[str, list]) -> list[Any]:
    """[content, clips, {name: content} of the records beside it] of an output; empty when it is missing."""
    if not Path(path).exists():
        return []
    beside = {file.name: sha256_file(file) for file in files_beside(Path(path))}
    return [content(path, cache), clips(path, cache), beside]


# Two states, as above.
def output_change(path: str, was: list[Any], now: list[Any]) -> str:
    """How an output differs from what was written, in words; '' for not at all."""
    if now == was:
        return ""
    if not now:
        return f"{path} is missing"
    if len(was) != len(now) or now[0] != was[0] or not isinstance(was[2], dict):
        return f"{path} is not what was written"
    if now[1] != was[1]:
        is_there = all((Path(path).parent / name).is_file() for name in clips_of(Path(path)))
        return f"{path} names a clip that is not what was written" if is_there else f"{path} lacks a clip"
    names = [name for name in was[2] if now[2].get(name) != was[2][name]] or sorted(now[2].keys() - was[2].keys())
    word = "is missing" if names[0] not in now[2] else "is not what was written"
    return f"{Path(path).with_name(names[0])} {word}"


def difference(stage: Stage, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Why the work has to be done (again): the first part that changed, in words; '' for none."""
    if old.get("script") != new["script"]:
        return f"{Path(stage.command[script_index(stage.command)]).name} changed"
    if old["command"] != new["command"]:
        return "changed: " + " ".join(changed_words(old["command"], new["command"]))
    for path, was, now in zip([*stage.inputs, *stage.tables], old["inputs"], new["inputs"], strict=False):
        if was != now:
            return f"{path} changed"
    if len(old["inputs"]) != len(new["inputs"]):
        return "its inputs are others"
    return "" if old == new else "its clips changed"


def changed_words(old: list[str], new: list[str]) -> list[str]:
    """The options of `new` that `old` had not, each with its value."""
    old_pairs = set(pairwise(old))
    words = [f"{a} {b}" for a, b in pairwise(new) if a.startswith("--") and (a, b) not in old_pairs]
    return words or ["options"]


def reason_to_run(stage: Stage, stamp: dict[str, Any], key: dict[str, Any], cache: dict[str, list]) -> str:
    """Why the stage has to run; '' when it is up to date."""
    if not stamp:
        return f"{Path(stage.stamp).name} is damaged" if Path(stage.stamp).exists() else "not done yet"
    if "code" not in stamp:
        return "which code made it is not known"
    if name := changed_code(stamp["code"]):
        return f"{name} changed"
    if reason := difference(stage, stamp["key"], key):
        return reason
    if stage.strict_env and (text := changed_libraries(stamp["libraries"], stage.command[0])):
        return f"made with {text}"
    if len(stamp["outputs"]) != len(stage.outputs):
        return "its outputs are others"
    pairs = zip(stage.outputs, stamp["outputs"], strict=True)
    changes = (output_change(path, was, output_state(path, cache)) for path, was in pairs)
    return next(filter(None, changes), "")


def counts(outputs: Sequence[str]) -> str:
    """'100 rows in, 98 out, 2 dropped' from the records beside the outputs; '' without one."""
    for path in outputs:
        record_path = Path(path).with_suffix(".json")
        if not (path.endswith(".csv") and record_path.is_file()):
            continue
        record = read_quietly(record_path)
        text = f"{record.get('rows_in', '?')} rows in, {record.get('rows_out', '?')} out"
        if record.get("rows_dropped"):
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


def read_stamp(path: Path) -> dict[str, Any]:
    """A stamp, or an empty object where it is missing or damaged. Those of earlier releases have no "code"."""
    stamp = read_quietly(path)
    outputs = stamp.get("outputs")
    is_whole = is_key(stamp.get("key")) and isinstance(outputs, list) and all(isinstance(one, list) for one in outputs)
    notes = [stamp[part] for part in ("code", "libraries") if part in stamp]
    return stamp if is_whole and all(map(is_texts, notes)) and len(notes) in (0, 2) else {}


def read_part(path: Path) -> dict[str, Any]:
    """The code and libraries of a shard, from its stamp; of a damaged one, what no code is: the stage is done again."""
    part = read_quietly(path)
    is_whole = all(is_texts(part.get(name)) for name in ("code", "libraries"))
    return part if is_whole else {"code": {path.name: ""}, "libraries": {}}


def is_key(value: object) -> bool:
    """Whether it has the form of `work_key`."""
    if not isinstance(value, dict) or not isinstance(value.get("script"), str):
        return False
    lists = [value.get(part) for part in ("command", "inputs", "clips")]
    return all(isinstance(part, list) and all(isinstance(word, str) for word in part) for part in lists)


def is_texts(value: object) -> bool:
    """Whether it is an object of texts."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def read_cache(path: Path) -> dict[str, list]:
    """What is remembered of large files and clips: [state, hash] each."""
    return {name: pair for name, pair in read_quietly(path).items() if isinstance(pair, list) and len(pair) == 2}


def check(stage: Stage, stamp: Path, cache: dict[str, list]) -> int:
    """Print the reason to run, or the counts; remember the inputs as they are now, not as they may be at the end."""
    key, known = work_key(stage, cache), read_stamp(stamp)
    reason = reason_to_run(stage, known, key, cache)
    if reason and stage.siblings and (other := find_sibling(stage, stamp, key)):
        if stage.action == "check":
            link_outputs(stage.outputs, root_of(stamp), root_of(other))
            write_stamp(stage, stamp, key, read_stamp(other), cache)
        print(f"taken over from {root_of(other).name}")
        return UP_TO_DATE
    print(reason or standing(stage, known))
    if reason and stage.action == "check":
        shutil.rmtree(notes_of(stamp), ignore_errors=True)
        write_json(stamp.with_suffix(".begun"), key)
    return TO_DO if reason else UP_TO_DATE


def standing(stage: Stage, stamp: dict[str, Any]) -> str:
    """What is said of a step that is up to date."""
    text = changed_libraries(stamp["libraries"], stage.command[0])
    return ", ".join(part for part in (counts(stage.outputs), f"made with {text}" if text else "") if part)


def notes_of(stamp: Path) -> Path:
    """The folder of what the processes of a step loaded."""
    return stamp.with_suffix(".loaded")


def write_stamp(stage: Stage, stamp: Path, key: dict[str, Any], loaded: dict[str, Any], cache: dict[str, list]) -> None:
    """Write a stamp for the outputs as they are."""
    outputs = [output_state(path, cache) for path in stage.outputs]
    write_json(stamp, {"key": key, "code": loaded["code"], "libraries": loaded["libraries"], "outputs": outputs})


def find_sibling(stage: Stage, stamp: Path, key: dict[str, Any]) -> Path | None:
    """The stamp of this very work in a result root beside this one, if its outputs still are what it wrote."""
    for other in sibling_stamps(stamp):
        known = read_stamp(other)
        paths = counterparts(stage.outputs, root_of(stamp), root_of(other))
        if not paths or known.get("key") != key or "code" not in known or changed_code(known["code"]):
            continue
        if known.get("outputs") == [output_state(str(path), {}) for path in paths]:
            return other
    return None


def write(stage: Stage, stamp: Path, cache: dict[str, list]) -> int:
    """Write the stamp of a stage that ended well and print the counts."""
    missing = [path for path in stage.outputs if not Path(path).exists()]
    if missing:
        raise UserError(f"the stage ended well, but did not write {', '.join(missing)}")
    begun = stamp.with_suffix(".begun")
    key = read_quietly(begun)
    if not is_key(key) or len(key["inputs"]) != len(stage.inputs) + len(stage.tables):
        key = work_key(stage, cache)
    for i, path in enumerate(stage.inputs):
        if is_hub_id(path):  # it is downloaded, or found to be newer, only when it is loaded
            key["inputs"][i] = content(path, cache)
    loaded = merged([read_notes(notes_of(stamp)), *(read_part(Path(part)) for part in stage.parts)])
    write_stamp(stage, stamp, key, loaded, cache)
    begun.unlink(missing_ok=True)
    shutil.rmtree(notes_of(stamp), ignore_errors=True)
    print(counts(stage.outputs))
    return 0


def main() -> int:
    stage = Stage(**vars(get_parser().parse_args()))
    stamp = Path(stage.stamp)
    cache_path = stamp.parent / "folders.json"
    cache = read_cache(cache_path)
    before = dict(cache)
    status = (write if stage.action == "write" else check)(stage, stamp, cache)
    if cache != before and stage.action != "ask":
        write_json(cache_path, cache)
    return status


if __name__ == "__main__":
    run_main(main)
