#!/usr/bin/env python3
"""Make a folder of a run's synthetic clips that Hugging Face datasets loads, with labels, captions and a card.

    python extras/export_dataset.py --input_csv W/train_100_synthetic.csv --output_folder W/dataset

    datasets.load_dataset("audiofolder", data_dir="W/dataset")

The folder holds audio/ (hard links, which take no space; copies where the file system has none), metadata.jsonl and
README.md, the card: how the clips were made, by which models, under which licences, and what was rejected. Rows of
the CSV without source_path are recordings and stay out. Beside the folder: <name>.json, the record.

It is JSON Lines and not CSV because datasets would read the labels 001 and NA of a CSV as 1 and as nothing. The names
of the clips are hashes because it takes words such as "train" in a file name for a split.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, new_parser, run_main

METADATA = "metadata.jsonl"


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="merged CSV of gold and kept clips, or of kept clips")
    parser.add_argument("--output_folder", required=True, help="output: the folder; an earlier one is replaced")
    parser.add_argument("--work", default="", help="the run's folder, for the card; empty: that of the CSV")
    return parser


def read_synthetic(csv: str):
    """(the synthetic rows, number of the others).

    Raises:
        UserError: the CSV has none.
    """
    from synthio.contents import check_contents
    from synthio.manifest import LABEL, PATH, PROMPT, SOURCE, read_manifest

    table = read_manifest(csv, (PATH, LABEL, PROMPT, SOURCE))
    check_contents(table, csv)
    synthetic = table[table[SOURCE] != ""].reset_index(drop=True)
    if synthetic.empty:
        raise UserError(f"{csv}: no row has a source_path, so none is synthetic; give the CSV of merge_csv.py")
    return synthetic, len(table) - len(synthetic)


def check_sounds(paths: list[str], csv: str) -> None:
    """Refuse what is no sound: a CSV or a link of a stranger's could name any file, and datasets are published.

    Raises:
        UserError: a file is none.
    """
    from synthio.audio import BadAudio, probe

    for path in paths:
        try:
            probe(path)
        except BadAudio as error:
            raise UserError(f"{csv}: {path} cannot be exported: {error}; remove its row") from None


def number_in(record: dict[str, str], column: str, kind: Callable[[str], float], csv: str) -> float | None:
    """A cell that holds a number, or None where it is empty.

    Raises:
        UserError: it holds something else.
    """
    cell = record.get(column, "")
    try:
        return kind(cell) if cell else None
    except ValueError:
        raise UserError(f"{csv}: {column} {cell!r} is no number; empty the cell or mend it") from None


def metadata_row(record: dict[str, str], csv: str) -> dict:
    """What metadata.jsonl says of a clip."""
    from synthio.files import sha256_value
    from synthio.manifest import DURATION, LABEL, MODEL, PATH, PROMPT, SCORE, SEED, SOURCE, SOURCE_CONTENT

    name = sha256_value(os.path.relpath(record[PATH], Path(csv).absolute().parent))[:16]
    return {
        "file_name": f"audio/{name}{Path(record[PATH]).suffix.lower()}",
        "label": record[LABEL],
        "caption": record[PROMPT],
        "source": Path(record[SOURCE]).name,
        "source_sha256": record.get(SOURCE_CONTENT, ""),
        "model": record.get(MODEL, ""),
        "seed": number_in(record, SEED, int, csv),
        "duration_s": number_in(record, DURATION, float, csv),
        "clap_score": number_in(record, SCORE, float, csv),
    }


def place(source: str, target: Path) -> bool:
    """Give a file a second name, or copy it where that cannot be; returns whether it was copied."""
    source = os.path.realpath(source)  # a second name of a link would be a link, to a place that is elsewhere then
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        return True
    return False


def write_folder(rows: list[dict], paths: list[str], card: str, folder: Path) -> int:
    """Build the folder under another name and then give it its own; returns how many clips were copied.

    Raises:
        UserError: something else is in its place.
    """
    from synthio.files import atomic_folder, sweep

    sweep([folder.parent])
    if folder.exists() and not is_ours(folder):
        raise UserError(f"{folder}: is there, but is no dataset of this script; name another folder")
    with atomic_folder(folder) as temporary:
        (temporary / "audio").mkdir()
        copied = sum(place(path, temporary / row["file_name"]) for path, row in zip(paths, rows, strict=True))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (temporary / METADATA).write_bytes("".join(lines).encode())
        (temporary / "README.md").write_bytes(card.encode())
    return copied


def is_ours(folder: Path) -> bool:
    """Whether a folder is empty or was written by this script; earlier releases took it away file by file."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    record = folder.with_name(f"{folder.name}.json")
    was_exported = record.is_file() and "recordings_left_out" in record.read_text(encoding="utf-8", errors="replace")
    return not names or METADATA in names or (was_exported and names <= {"audio", "README.md"})


def make_card(table, args) -> str:
    """The card, from the records that the stages left in the run's folder."""
    from synthio.manifest import LABEL, MODEL
    from synthio.report.dataset_card import dataset_card
    from synthio.report.page import options_of, rounds_of
    from synthio.report.run_folder import read_synthesis

    run = read_synthesis(Path(args.work or Path(args.input_csv).parent), args.input_csv)
    return dataset_card(
        title=run.work.absolute().name,
        counts=Counter(table[LABEL]),
        rejected=Counter(label for part in run.rounds for label in part.rejected[LABEL]),
        generators=sorted(set(table.get(MODEL, []))),
        records=run.records,
        rounds=rounds_of(run),
        stages=[stage for stage in options_of(run) if stage["name"] != "merge"],
    )


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import sha256_file, write_json
    from synthio.manifest import PATH, versions

    table, recordings = read_synthetic(args.input_csv)
    check_sounds(list(table[PATH]), args.input_csv)
    rows = [metadata_row(record, args.input_csv) for record in table.to_dict("records")]
    folder = Path(args.output_folder)
    copied = write_folder(rows, list(table[PATH]), make_card(table, args), folder)
    record = {"rows_in": recordings + len(rows), "rows_out": len(rows), "recordings_left_out": recordings}
    record |= {"copied": copied, "options": vars(args), "inputs": {args.input_csv: sha256_file(args.input_csv)}}
    write_json(folder.with_name(f"{folder.name}.json"), record | {"versions": versions()})
    how = f", {copied} of them copies, as they cannot be links" if copied else ""
    print(f"{len(rows)} clips of {len(set(table['label']))} labels{how}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
