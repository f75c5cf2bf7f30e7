"""Readers of data in a common form: a folder per class, Hugging Face audiofolder, Kaldi, any table (any_table.py)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthio.cli import UserError
from synthio.data import any_table
from synthio.data.any_table import group_of, group_option
from synthio.data.check_inputs import listed, number, warn
from synthio.data.common import (
    SEGMENT,
    SPLIT_WORDS,
    TRAIN,
    WHERE,
    Dataset,
    Listing,
    PrepareOptions,
    is_hidden,
    list_clips,
    read_lines,
    walk_files,
    where,
)
from synthio.formats.containers import AUDIO_SUFFIXES, is_sound_name
from synthio.options import option

# How the data may be split, said once for the three kinds of folders.
SPLIT_FOLDERS_HELP = """Splits: folders train, valid (or validation, val, dev) and test (or eval, evaluation); what is
not there is cut from the training data by --seed. The licence is that of your data."""


def split_folders(source: Path) -> dict[Path, str]:
    """Folder -> split; the source alone, as training data, unless it holds folders of two splits, train among them."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    folders = subfolders(source)
    found = {path: SPLIT_WORDS[path.name.lower()] for path in folders if path.name.lower() in SPLIT_WORDS}
    if len(set(found.values())) < 2 or TRAIN not in found.values():
        return {source: TRAIN}
    if len(set(found.values())) < len(found):
        raise UserError(f"{source}: two folders of one split: {', '.join(path.name for path in found)}; keep one")
    beside = [path.name for path in folders if path not in found]
    if beside:
        warn(f"{source}: not read, because their names are no splits: {', '.join(beside)}")
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, linked ones too, without hidden ones and those of the system."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


# ---- a folder per class

FOLDER_HELP = f"""A folder per class: SOURCE/CLASS/clip.wav, or SOURCE/train/CLASS/clip.wav, SOURCE/test/CLASS/clip.wav.

The class is the first folder; clips may lie deeper. {SPLIT_FOLDERS_HELP}"""


@dataclass(frozen=True)
class FolderOptions(PrepareOptions):
    """What tells which clips belong together."""

    group_regex: str | None = group_option()


def class_rows(
    source: Path, folder: Path, split: str, options: FolderOptions, passed: list[Path]
) -> Iterator[dict[str, Any]]:
    """Every sound in the class folders of one split; files that are none are added to `passed`."""
    out = Path(options.output_folder).resolve()
    passed += [path for path in sorted(folder.iterdir()) if not path.is_dir() and not is_hidden(path.name)]
    for label in (path for path in subfolders(folder) if path.resolve() != out):
        refuse_splits_of(label)
        files = list(walk_files(label, frozenset({source.resolve(), folder.resolve()})))
        sounds = [path for path in files if is_sound_name(path)]
        others = [path for path in files if not is_sound_name(path)]
        passed += others
        if not sounds:
            warn_of_empty(label, others, options.missing)
        for path in sounds:
            group = group_of(path.relative_to(source), options.group_regex)
            yield {"path": path, "label": label.name, "group": group, "split_name": split, WHERE: str(path)}


def refuse_splits_of(label: Path) -> None:
    """Splits are looked for above the classes; below one, test clips would become training clips."""
    found = {
        SPLIT_WORDS[path.name.lower()]: path.name for path in subfolders(label) if path.name.lower() in SPLIT_WORDS
    }
    if TRAIN in found and len(found) > 1:
        names = ", ".join(found.values())
        raise UserError(
            f"{label}: holds folders of splits ({names}), but a class folder lies within its split: move them to "
            f"{label.parent / found[TRAIN] / label.name} and so on"
        )


def warn_of_empty(label: Path, files: Sequence[Path], missing: str) -> None:
    """Stop where a class would vanish, or with --missing drop, say so."""
    kinds = (
        f"none of its {number(len(files), 'file')} is a sound ({by_suffix(files)})" if files else "it holds no files"
    )
    text = f"{label}: no clip of this class would be left: {kinds}"
    if missing == "stop":
        raise UserError(f"{text}; convert them to WAV, remove the folder, or leave it out with --missing drop")
    warn(text)


def by_suffix(files: Sequence[Path]) -> str:
    """'12 .txt, 1 without a suffix', the most frequent first."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


def warn_of_passed(source: Path, passed: Sequence[Path], why: str) -> None:
    """Name and count the files that are passed over."""
    if passed:
        names = listed([str(path.relative_to(source)) for path in passed])
        warn(f"{source}: {number(len(passed), 'file')} passed over, {why} ({by_suffix(passed)}): {names}")


def read_folder(options: FolderOptions) -> Listing:
    """A folder per class."""
    source = Path(options.source).absolute()
    passed: list[Path] = []
    folders = split_folders(source).items()
    rows = [row for folder, split in folders for row in class_rows(source, folder, split, options, passed)]
    if not rows:
        raise UserError(f"{source}: no audio in class folders (CLASS/clip.wav; {' '.join(AUDIO_SUFFIXES)})")
    warn_of_passed(source, passed, "no sounds in a class folder by their names")
    return list_clips(rows)


# ---- Hugging Face audiofolder

AUDIOFOLDER_HELP = f"""\
Hugging Face audiofolder: metadata.csv or metadata.jsonl with `file_name` and a label, or a folder per class.

The metadata lies in SOURCE or in each split's folder; file_name starts at the metadata's folder. A list of labels in
metadata.jsonl becomes a multi-label. {SPLIT_FOLDERS_HELP}"""


@dataclass(frozen=True)
class AudiofolderOptions(FolderOptions):
    """How the metadata is read."""

    label_column: str = option("label", "column of the metadata that holds the label")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, one a line."""
    records = []
    for i, line in enumerate(read_lines(path), 1):
        try:
            record = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise UserError(f"{where(path, i)}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise UserError(f"{where(path, i)}: not a JSON object: {line!r}")
        records.append(record)
    return records


def label_text(value: object) -> str:
    """A label as the CSVs want it: a list is joined by `;`, a number becomes text."""
    return ";".join(map(str, value)) if isinstance(value, list) else str(value)


def metadata_rows(source: Path, path: Path, split: str | None, options: AudiofolderOptions) -> Iterator[dict[str, Any]]:
    """The clips of one metadata file; without a split, the first folder of file_name tells it."""
    from synthio.manifest import read_table

    wanted = ("file_name", options.label_column)
    records = read_jsonl(path) if path.suffix == ".jsonl" else read_table(path, wanted).to_dict("records")
    for i, record in enumerate(records, 1):
        if not record:
            continue
        lacking = [name for name in wanted if record.get(name) in (None, "", [])]
        if lacking:
            raise UserError(f"{where(path, i)}: no {' or '.join(lacking)}; --label_column names the label's column")
        clip = path.parent / record["file_name"]
        first = Path(record["file_name"]).parts[0].lower()
        row = {"path": clip, "label": label_text(record[options.label_column]), WHERE: where(path, i)}
        row["group"] = group_of(Path(os.path.relpath(clip, source)), options.group_regex)
        yield {**row, "split_name": split or SPLIT_WORDS.get(first, TRAIN)}


def metadata_file(folder: Path) -> Path | None:
    """metadata.csv or metadata.jsonl of a folder."""
    return next((path for path in (folder / "metadata.csv", folder / "metadata.jsonl") if path.is_file()), None)


def read_audiofolder(options: AudiofolderOptions) -> Listing:
    """Hugging Face audiofolder."""
    source = Path(options.source).absolute()
    folders = split_folders(source)
    top = metadata_file(source)
    if top:
        return with_unlisted(source, list(metadata_rows(source, top, None, options)), [top])
    files = {folder: path for folder in folders if (path := metadata_file(folder))}
    if not files:
        return read_folder(options)
    for folder in folders:
        if folder not in files:
            raise UserError(f"{folder}: no metadata.csv or metadata.jsonl, which the other split folders have")
    rows = [row for folder, path in files.items() for row in metadata_rows(source, path, folders[folder], options)]
    return with_unlisted(source, rows, list(files.values()))


def with_unlisted(source: Path, rows: list[dict[str, Any]], files: Sequence[Path]) -> Listing:
    """The clips of the metadata; sounds that it does not list are named."""
    known = {os.path.normpath(row["path"]) for row in rows}
    passed = [path for path in walk_files(source) if is_sound_name(path) and os.path.normpath(path) not in known]
    warn_of_passed(source, passed, f"not listed in {', '.join(path.name for path in files)}")
    return list_clips(rows, files)


# ---- Kaldi

KALDI_HELP = f"""Kaldi data folders: wav.scp, utt2label and, if there, utt2spk (the speaker is the group) and segments.

wav.scp maps a recording to a file; a relative path starts at --audio_root. A line that is a command (it ends with
`|`) is refused and never run: write the sounds to files first. With `segments`, each utterance is cut to WAV, from
its start to its end in seconds (an end below 0, or past the recording, is the recording's end). What follows the
utterance in utt2label is its label; labels of one utterance are joined by `;`. {SPLIT_FOLDERS_HELP}"""


@dataclass(frozen=True)
class KaldiOptions(PrepareOptions):
    """Where the sounds are."""

    audio_root: str | None = option(None, "where relative paths in wav.scp start; not given: --source")


def read_map(path: Path) -> dict[str, tuple[int, str]]:
    """Key -> (row, the rest of the line) of a Kaldi text map."""
    out: dict[str, tuple[int, str]] = {}
    for i, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        key, *rest = line.split(None, 1)
        if not rest:
            raise UserError(f"{where(path, i)}: {key!r} has no value")
        if key in out:
            raise UserError(f"{where(path, i)}: {key!r} is also in row {out[key][0]}")
        out[key] = i, rest[0].strip()
    return out


def read_wav_scp(path: Path, root: Path) -> dict[str, tuple[str, Path]]:
    """Recording -> (row named, file). Commands are refused: nothing of a data folder is ever run."""
    out = {}
    for recording, (i, value) in read_map(path).items():
        if "|" in (value[0], value[-1]):
            raise UserError(
                f"{where(path, i)}: {recording!r} is a command, which is never run: {value!r}; write its output to "
                "a sound file and name that"
            )
        out[recording] = where(path, i), root / value
    return out


def read_segments(path: Path) -> dict[str, tuple[str, str, tuple[float, float]]]:
    """Utterance -> (row named, recording, (start, end) in seconds)."""
    out = {}
    for utterance, (i, value) in read_map(path).items():
        try:
            recording, start, end = value.split()
            out[utterance] = where(path, i), recording, (float(start), float(end))
        except ValueError:
            raise UserError(f"{where(path, i)}: expected utterance, recording, start and end") from None
    return out


def kaldi_rows(folder: Path, split: str, root: Path) -> Iterator[dict[str, Any]]:
    """The utterances of one data folder."""
    audio, labels = read_wav_scp(folder / "wav.scp", root), read_map(folder / "utt2label")
    speakers = read_map(folder / "utt2spk") if (folder / "utt2spk").is_file() else {}
    whole = {name: (at, name, None) for name, (at, _) in audio.items()}
    utterances = read_segments(folder / "segments") if (folder / "segments").is_file() else whole
    for name, (i, _) in labels.items():
        if name not in utterances:
            raise UserError(f"{where(folder / 'utt2label', i)}: {name!r} has no sound in wav.scp (or segments)")
    for name, (at, recording, segment) in utterances.items():
        if recording not in audio:
            raise UserError(f"{at}: recording {recording!r} is not in {folder / 'wav.scp'}")
        if name not in labels:
            raise UserError(f"{at}: {name!r} has no label in {folder / 'utt2label'}")
        row = {"path": audio[recording][1], "label": labels[name][1], SEGMENT: segment, WHERE: at}
        # the parts of a recording stay together where no speaker is known
        yield {**row, "group": speakers.get(name, (0, recording))[1], "split_name": split}


def read_kaldi(options: KaldiOptions) -> Listing:
    """Kaldi data folders."""
    source = Path(options.source).absolute()
    folders = {source: TRAIN} if (source / "wav.scp").is_file() else split_folders(source)
    root = Path(options.audio_root or source).absolute()
    rows = [row for folder, split in folders.items() for row in kaldi_rows(folder, split, root)]
    maps = [folder / name for folder in folders for name in ("wav.scp", "utt2label", "utt2spk", "segments")]
    return list_clips(rows, [path for path in maps if path.is_file()])


DATASETS = {
    "folder": Dataset(FOLDER_HELP, read_folder, FolderOptions),
    "audiofolder": Dataset(AUDIOFOLDER_HELP, read_audiofolder, AudiofolderOptions),
    "kaldi": Dataset(KALDI_HELP, read_kaldi, KaldiOptions),
    "csv": Dataset(any_table.HELP, any_table.read, any_table.TableOptions),
}
