#!/usr/bin/env python3
"""Make a folder of a run's synthetic clips that Hugging Face datasets loads, with labels, captions and a card.

    python extras/export_dataset.py --input_csv W/train_100_synthetic.csv --output_folder W/dataset

    datasets.load_dataset("audiofolder", data_dir="W/dataset")

The folder holds audio/, metadata.jsonl, README.md, the card (how the clips were made, by which models, under which
licences, and what was rejected), and croissant.json with records.json, which say the same to machines. Each synthetic
clip is a copy with the samples of the one that was trained on, and says in its tags (LIST/INFO of a WAV, Vorbis
comments of a FLAC) that it is synthetic, by which model, seed and run, and under which licence. What is trained on is
left as it is. Recordings have no such tags: rows without source_path stay out, but for --with_gold, and those of a
corpus (extras/retrieve.py) are hard links. Beside the folder: <name>.json, the record.

--watermark puts AudioSeal's inaudible mark into these copies, and into nothing that is trained on; its library has an
environment of its own (.envs/watermark/bin/python runs this script then).

metadata.jsonl is JSON Lines and not CSV because datasets would read the labels 001 and NA of a CSV as 1 and as nothing.
The names of the clips are hashes because it takes words such as "train" in a file name for a split.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, new_parser, run_main, str2bool

if TYPE_CHECKING:
    from synthio.models.audioseal import Seal
    from synthio.report.run_folder import Run

METADATA = "metadata.jsonl"


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="merged CSV of gold and kept clips, or of kept clips")
    parser.add_argument("--output_folder", required=True, help="output: the folder; an earlier one is replaced")
    parser.add_argument("--work", default="", help="the run's folder, for the card; empty: that of the CSV")
    parser.add_argument(
        "--watermark", default="", help="checkpoint of AudioSeal's generator: the synthetic copies get its mark"
    )
    parser.add_argument(
        "--detector",
        default="",
        help="for --watermark, checkpoint of AudioSeal's detector, which then counts the marks",
    )
    parser.add_argument("--with_gold", type=str2bool, default=False, help="the recordings of the CSV, too")
    return parser


@dataclass(frozen=True)
class Export:
    """What goes into a folder.

    Attributes:
        rows: what metadata.jsonl says of each clip.
        paths: where each clip is.
        tags: what each is to say of itself; empty of a recording.
        seal: marks the synthetic ones; None: they keep their samples.
    """

    rows: list[dict]
    paths: list[str]
    tags: list[dict[str, str]]
    seal: Seal | None = None

    @property
    def recordings(self) -> int:
        return sum(not row["synthetic"] for row in self.rows)


def read_clips(csv: str, with_gold: bool):
    """(the rows to export, number of the others).

    Raises:
        UserError: the CSV has no synthetic row.
    """
    from synthio.data.contents import check_contents
    from synthio.manifest import LABEL, PATH, PROMPT, SOURCE, read_manifest

    table = read_manifest(csv, (PATH, LABEL, PROMPT, SOURCE))
    check_contents(table, csv)
    is_made = table[SOURCE] != ""
    if not is_made.any():
        raise UserError(f"{csv}: no row has a source_path, so none is synthetic; give the CSV of merge_csv.py")
    chosen = table if with_gold else table[is_made].reset_index(drop=True)
    return chosen, len(table) - len(chosen)


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


def is_synthetic(record: dict[str, str]) -> bool:
    """Whether a model generated a clip; of a corpus, and gold, it is a recording."""
    from synthio.manifest import MODEL, RETRIEVED, SOURCE

    return bool(record.get(SOURCE)) and not record.get(MODEL, "").startswith(RETRIEVED)


def metadata_row(record: dict[str, str], csv: str, run: Run, watermark: str = "") -> dict:
    """What metadata.jsonl says of a clip, but for the hash of its file."""
    from synthio.files import sha256_value
    from synthio.manifest import DURATION, LABEL, MODEL, PATH, PROMPT, SCORE, SEED, SOURCE, SOURCE_CONTENT
    from synthio.report.dataset_card import generator_of

    name = sha256_value(os.path.relpath(record[PATH], Path(csv).absolute().parent))[:16]
    synthetic, generator = is_synthetic(record), generator_of(run.records, record.get(MODEL, ""))
    return {
        "file_name": f"audio/{name}{Path(record[PATH]).suffix.lower()}",
        "label": record[LABEL],
        "caption": record[PROMPT],
        "synthetic": synthetic,
        "generator": generator.name if synthetic else "",
        "model": record.get(MODEL, ""),
        "seed": number_in(record, SEED, int, csv),
        "run": run.name,
        "licence": generator.licence if synthetic else "",
        "watermark": watermark if synthetic else "",
        "source": Path(record[SOURCE]).name,
        "source_sha256": record.get(SOURCE_CONTENT, ""),
        "duration_s": number_in(record, DURATION, float, csv),
        "clap_score": number_in(record, SCORE, float, csv),
    }


def tags_of(row: dict) -> dict[str, str]:
    """What a clip says of itself."""
    from synthio.publish.provenance import Provenance

    names = ("label", "generator", "model", "seed", "run", "licence")
    said = Provenance(**{name: row[name] for name in names}, is_watermarked=bool(row["watermark"]))
    return said.tags() if row["synthetic"] else {}


def place(source: str, target: Path) -> bool:
    """Give a file a second name, or copy it where that cannot be; returns whether it was copied."""
    source = os.path.realpath(source)  # a second name of a link would be a link, to a place that is elsewhere then
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        return True
    return False


def put(path: str, target: Path, tags: dict[str, str], seal: Seal | None) -> bool:
    """Bring a clip into the folder, with its tags; whether a recording had to be copied."""
    from synthio.publish.provenance import write_tagged

    if not tags:
        return place(path, target)
    write_tagged(path, target, tags, seal.mark if seal else None)
    return False


def write_folder(clips: Export, card: str, describe: Callable[[Path], dict], folder: Path) -> int:
    """Build the folder under another name and then give it its own; returns how many recordings were copied.

    Args:
        clips: what goes in.
        card: the text of README.md.
        describe: what croissant.json says of the folder that is all but ready.
        folder: its name.

    Raises:
        UserError: something else is in its place.
    """
    from synthio.cli import progress
    from synthio.files import atomic_folder, sha256_file, sweep
    from synthio.report.croissant import CROISSANT, RECORDS

    sweep([folder.parent])
    if folder.exists() and not is_ours(folder):
        raise UserError(f"{folder}: is there, but is no dataset of this script; name another folder")
    with atomic_folder(folder) as temporary:
        (temporary / "audio").mkdir()
        copied, parts = 0, list(zip(clips.rows, clips.paths, clips.tags, strict=True))
        for row, path, tags in progress(parts, "export: clips"):
            copied += put(path, temporary / row["file_name"], tags, clips.seal)
        rows = [row | {"sha256": sha256_file(temporary / row["file_name"])} for row in clips.rows]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (temporary / METADATA).write_bytes("".join(lines).encode())
        (temporary / RECORDS).write_bytes(("[\n" + ",\n".join(line[:-1] for line in lines) + "\n]\n").encode())
        (temporary / "README.md").write_bytes(card.encode())
        said = json.dumps(describe(temporary), ensure_ascii=False, indent=1)
        (temporary / CROISSANT).write_bytes(f"{said}\n".encode())
    return copied


def is_ours(folder: Path) -> bool:
    """Whether a folder is empty or was written by this script; earlier releases took it away file by file."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    record = folder.with_name(f"{folder.name}.json")
    was_exported = record.is_file() and "recordings_left_out" in record.read_text(encoding="utf-8", errors="replace")
    return (
        not names
        or METADATA in names
        or (was_exported and names <= {"audio", "README.md", "records.json", "croissant.json"})
    )


def read_run(csv: str, work: str) -> Run:
    """What the stages left in the run's folder."""
    from synthio.report.run_folder import read_synthesis

    return read_synthesis(Path(work or Path(csv).parent), csv)


def make_card(table, clips: Export, run: Run) -> str:
    """The card, from the records of the stages."""
    from synthio.manifest import LABEL, MODEL
    from synthio.report.dataset_card import dataset_card
    from synthio.report.page import options_of, rounds_of

    return dataset_card(
        title=run.name,
        counts=Counter(table[LABEL]),
        rejected=Counter(label for part in run.rounds for label in part.rejected[LABEL]),
        generators=sorted(set(table.get(MODEL, [])) - {""}),
        records=run.records,
        rounds=rounds_of(run),
        stages=[stage for stage in options_of(run) if stage["name"] != "merge"],
        recordings=clips.recordings,
        is_watermarked=clips.seal is not None,
    )


def seal_of(args, run: Run) -> Seal | None:
    """What marks the copies, if that is asked for.

    Raises:
        UserError: a detector without a watermark.
    """
    from synthio.models.audioseal import Seal, message_of

    if args.detector and not args.watermark:
        raise UserError("--detector goes with --watermark")
    return Seal(args.watermark, message_of(run.name)) if args.watermark else None


def count_marks(folder: Path, rows: list[dict], detector: str) -> int:
    """In how many of the synthetic clips the detector hears the mark."""
    from synthio.audio import read_audio
    from synthio.models.audioseal import Detector

    ear = Detector(detector)
    return sum(ear.hears(*read_audio(folder / row["file_name"], mono=False)) for row in rows if row["watermark"])


def describe(folder: Path, csv: str, clips: Export, run: Run) -> dict:
    """What croissant.json says."""
    from synthio.files import sha256_file
    from synthio.report.croissant import croissant
    from synthio.report.dataset_card import COLUMNS, generator_of, responsible

    made, generator = len(clips.rows) - clips.recordings, generator_of(run.records)
    return croissant(
        folder,
        title=run.name,
        description=f"{made} clips that {generator.name} generated, and {clips.recordings} recordings, with labels and "
        "captions, from one run of Synthio, to train a sound classifier.",
        licence=generator.licence,
        version=f"1.0.0+{sha256_file(csv)[:12]}",
        date=datetime.fromtimestamp(Path(csv).stat().st_mtime, UTC).date().isoformat(),
        columns=COLUMNS,
        responsible=responsible(made, clips.recordings, run.records),
    )


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import sha256_file, write_json
    from synthio.manifest import PATH, versions

    table, left_out = read_clips(args.input_csv, args.with_gold)
    check_sounds(list(table[PATH]), args.input_csv)
    run = read_run(args.input_csv, args.work)
    seal = seal_of(args, run)
    mark = "AudioSeal" if seal else ""
    rows = [metadata_row(record, args.input_csv, run, mark) for record in table.to_dict("records")]
    clips = Export(rows, list(table[PATH]), [tags_of(row) for row in rows], seal)
    folder = Path(args.output_folder)
    card = make_card(table, clips, run)
    copied = write_folder(clips, card, lambda made: describe(made, args.input_csv, clips, run), folder)
    record = {"rows_in": left_out + len(rows), "rows_out": len(rows), "recordings_left_out": left_out}
    record |= {"copied": copied, "options": vars(args), "inputs": {args.input_csv: sha256_file(args.input_csv)}}
    if seal:
        record["watermark"] = {"kind": mark, "message": seal.message[0].tolist()}
    if args.detector:
        record["watermark"]["heard"] = heard = count_marks(folder, rows, args.detector)
        made = len(rows) - clips.recordings
        print(f"AudioSeal's detector hears its mark in {heard} of {made} synthetic clips", file=sys.stderr)
    write_json(folder.with_name(f"{folder.name}.json"), record | {"versions": versions()})
    how = f", {copied} of the recordings are copies, as they cannot be links" if copied else ""
    what = f", {clips.recordings} of them recordings" if clips.recordings else ""
    print(f"{len(rows)} clips of {len(set(table['label']))} labels{what}{how}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
