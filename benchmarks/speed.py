#!/usr/bin/env python3
"""Our loops beside those that people use: a table of ratios, and docs/benchmarks.md.

    sh benchmarks/run.sh [--device cuda] [--cases filter classifier] [--growth false]

What is done on each side says benchmarks/loops.py; how it is timed, benchmarks/side_by_side.py. With --demo true the
demo set is run whole, too. What one call measures is kept in --folder, and the page is written of all that is there.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from loops import CASES
from side_by_side import compare, machine_words, ratio

from synthio.cli import in_range, new_parser, pick_device, run_main, set_threads, str2bool

PAGE = ROOT / "docs/benchmarks.md"
DEMO_BEFORE_S, DEMO_WANTED_S = 279, 150  # on the clock
DEMO_TITLE, DEMO_OTHER = "`sh run.sh`, the demo set, on the clock", "release 0.1.0 on 2 cores"
HEADER = ["work", "the other side", "ours", "other", "ratio", "wanted", "peak, ours", "peak, other"]
ABOUT = """# Benchmarks

Our loops beside those that people use today, and how cost grows. `sh benchmarks/run.sh` measures it and writes this.

A turn of ours and one of the other side follow each other, each side in a process of its own; the ratio is the median
over the turns. Of a CPU seconds are those of the processor, so that other work on the machine does not count; of a GPU
they are on the clock. Memory is the highest that a process had resident, of a GPU what its tensors took. The model of
the first two rows is random and has the format of Stable Audio Open, its rates and its autoencoder's depth: times do
not depend on weights that nobody may share. Models of full size are not measured here. Of the classifier one epoch is
timed and fifty are counted. A slope is d log(seconds) / d log(count) between the two largest counts: 1 is linear. The
other sides are a library's own call, or written for this from descriptions (`benchmarks/loops.py`).
"""


# By case, why a ratio is what it is: profiles on one core of an Intel Xeon with AVX-512, in seconds of the processor.
PROFILES = {
    "classifier": "Both sides train the same network. A step of 16 clips is 16.9 GFLOP at the 384 frames that clips of "
    "4 s fill and 44.6 at 1024: 2.6 times. In seconds it is 2.9 times (.184 and .531), for attention "
    "grows with the square, and 3.1 with the filterbank (.040). With two threads what is not shared out "
    "(optimiser, Python) weighs more on the shorter step.",
    "embedded": "8 network evaluations without guidance take .034 s a clip, 48 take .18: 5.3 times. The rest is the "
    "same on both sides, and of ours, .109 s, it is two thirds: decoding (.055, most of it Griffin-Lim's "
    "33 transforms there and back) and loading the model for 8 clips (.02). Four times would need that "
    "rest in .015 s. Half the iterations were tried and not taken: log-mels then miss what they should be"
    " by .0385 of their deviation in place of .0347, with a quarter by .0447 (20 clips).",
}


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--cases", nargs="*", default=list(CASES), choices=list(CASES), help="what is timed")
    add("--turns", type=in_range(int, 1), default=5, help="turns of each side")
    add("--size", default="full", help="how much there is of it, see benchmarks/loops.py")
    add("--device", default="cpu", help="cpu or cuda")
    add("--growth", type=str2bool, default=True, help="measure growth and start-up, too")
    add("--demo", type=str2bool, default=False, help="run the demo set whole, too")
    add("--folder", type=Path, default=ROOT / "runs/benchmarks", help="keeps what was measured")
    add("--page", type=Path, default=PAGE, help="what is written")
    return parser


def measure_case(name: str, size: str, device: str, turns: int) -> dict[str, Any]:
    """The cells of a row but the first two."""
    command = [sys.executable, str(ROOT / "benchmarks/loops.py"), name]
    words = ["--size", size, "--device", device]
    ours, others = compare([*command, "ours", *words], [*command, "others", *words], turns)
    return {
        "title": CASES[name].title,
        "other": CASES[name].other,
        "cells": [
            f"{ours.median_s:.2f} s",
            f"{others.median_s:.2f} s",
            f"{ratio(ours, others):.1f}",
            wanted_of(name, device),
            f"{ours.peak_mb:.0f} MB",
            f"{others.peak_mb:.0f} MB",
        ],
        "turns": turns,
    }


def measure_demo(folder: Path) -> dict[str, Any]:
    """The row of a whole run of the demo set, which is made anew."""
    import shutil

    root = folder / "demo_run"
    shutil.rmtree(root, ignore_errors=True)
    started = time.perf_counter()
    subprocess.run(["sh", str(ROOT / "run.sh"), "--results_root", str(root)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    gain = [f"{seconds:.0f} s", f"{DEMO_BEFORE_S} s", f"{DEMO_BEFORE_S / seconds:.1f}"]
    cells = [*gain, f"{DEMO_BEFORE_S / DEMO_WANTED_S:.1f}", "-", "-"]
    return {"title": DEMO_TITLE, "other": DEMO_OTHER, "cells": cells, "turns": 1}


def tables_of(record: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """(header, rows) of each table that a record has for itself."""
    if "cells" in record:
        return [(HEADER, [[record["title"], record["other"], *record["cells"]]])]
    return list(record["tables"].values())


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the columns after the first are flush right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page_of(found: Mapping[str, Any]) -> str:
    """The page of all that was measured: records by device and name, each with the machine and the command."""
    parts = [ABOUT]
    for device, title in (("cpu", "CPU"), ("cuda", "GPU")):
        records = {
            name: found[f"{device} {name}"] for name in (*CASES, "demo", "growth") if f"{device} {name}" in found
        }
        if not records:
            parts.append(f"## {title}\n\nNot measured.\n")
            continue
        machines = "; ".join(dict.fromkeys(record["machine"] for record in records.values()))
        commands = "\n".join(dict.fromkeys(f"    {record['command']}" for record in records.values()))
        turns = max(record.get("turns", 1) for record in records.values())
        parts.append(f"## {title}\n\n{machines}. Median of {turns} turns.\n\n{commands}\n")
        parts.append(as_markdown(HEADER, [row_of(name, device, records) for name in (*CASES, "demo")]))
        if device == "cpu":
            parts.extend(f"**{CASES[name].title}.** {text}\n" for name, text in PROFILES.items() if name in records)
        for name, (header, lines) in records.get("growth", {}).get("tables", {}).items():
            parts.append(f"### {name}\n\n{as_markdown(header, lines)}")
    return "\n".join(parts)


def row_of(name: str, device: str, records: Mapping[str, Any]) -> list[str]:
    """The row of a case, or of the demo run; one that was not measured says so."""
    if name in records:
        return [records[name]["title"], records[name]["other"], *records[name]["cells"]]
    title, other, wanted = DEMO_TITLE, DEMO_OTHER, f"{DEMO_BEFORE_S / DEMO_WANTED_S:.1f}"
    if name in CASES:
        title, other, wanted = CASES[name].title, CASES[name].other, wanted_of(name, device)
    return [title, other, "not measured", "", "", wanted, "", ""]


def wanted_of(name: str, device: str) -> str:
    wanted = CASES[name].wanted[device.startswith("cuda")]
    return "-" if wanted is None else f"{wanted:g}"


def command_of(args) -> str:
    """The call, without what is the machine's own."""
    words = ["sh benchmarks/run.sh"]
    if args.device != "cpu":
        words.append(f"--device {args.device}")
    return " ".join([*words, *(["--demo true"] if args.demo else [])])


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import read_json, write_json, write_text
    from synthio.report.tables import plain_table

    set_threads()
    device, path = pick_device(args.device).partition(":")[0], args.folder / "measured.json"
    about = {"device": device, "machine": machine_words(device), "command": command_of(args)}

    def keep(name: str, record: dict[str, Any]) -> None:
        known = read_json(path) if path.is_file() else {}  # another call may have measured meanwhile
        write_json(path, known | {f"{device} {name}": record | about})
        for header, rows in tables_of(record):
            print(plain_table(header, rows), flush=True)

    for name in args.cases:
        keep(name, measure_case(name, args.size, device, args.turns))
    if args.demo:
        keep("demo", measure_demo(args.folder))
    if args.growth:
        from growth import sections

        keep("growth", {"tables": sections([50, 100, 200, 400], [10**3, 10**4, 10**5, 10**6], 4.0, device)})
    write_text(args.page, page_of(read_json(path) if path.is_file() else {}))
    return 0


if __name__ == "__main__":
    run_main(main)
