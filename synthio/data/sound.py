"""Readers of the datasets of everyday sounds, scenes and voices, each in the layout in which it is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthio.cli import UserError, in_range
from synthio.data.common import (
    SEGMENT,
    TEST,
    TRAIN,
    VALID,
    WHERE,
    Dataset,
    Listing,
    OfficialTest,
    PrepareOptions,
    find_root,
    fold_splits,
    list_clips,
    load_json,
    read_lines,
    walk_files,
    where,
)
from synthio.formats.containers import is_sound_name
from synthio.options import Value, option

# ---- ESC-50 and ESC-10

ESC50_HELP = """ESC-50: 2000 clips of 5 s in 50 classes, in 5 folds that share no recording (K. J. Piczak, 2015).

Get it: a clone of https://github.com/karolpiczak/ESC-50 (meta/esc50.csv, audio/). Licence: CC BY-NC 3.0; each clip
also has a licence of its own on Freesound. One fold tests, one validates, three train. The column `group` is the
number of the Freesound recording that a clip was cut from."""

ESC10_HELP = """ESC-10: 400 clips of 5 s in 10 classes, in 5 folds that share no recording.

It is part of ESC-50 (K. J. Piczak, 2015): https://github.com/karolpiczak/ESC-50. ESC-10 is CC BY 3.0 (ESC-50 as a
whole is CC BY-NC 3.0); each clip also has a licence of its own on Freesound. --source is a clone of that repository
(meta/esc50.csv, audio/), or a folder with esc10.csv (path,label,fold). One fold tests, one validates, three train.
The column `group` is the number of the Freesound recording that a clip was cut from."""


def test_fold_of(count: int) -> Value:
    """The option --test_fold among `count` folds; the last one tests."""
    return option(count, "fold to test on", low=1, high=count)


def valid_fold_of(count: int) -> Value:
    """The option --valid_fold among `count` folds."""
    return option(None, "fold to validate on; not given: the one before", reads=in_range(int, 1, count))


@dataclass(frozen=True)
class Folds(OfficialTest):
    """Of a dataset in folds: which one tests and which one validates (None: the one before)."""

    test_fold: int = 1
    valid_fold: int | None = None


@dataclass(frozen=True)
class EscOptions(Folds):
    """Five folds."""

    test_fold: int = test_fold_of(5)
    valid_fold: int | None = valid_fold_of(5)


def freesound_id(path: str) -> str:
    """'audio/1-100032-A.ogg' -> '100032' (fold - recording - take)."""
    parts = Path(path).stem.split("-")
    if len(parts) < 3 or not parts[1].isdigit():
        raise UserError(f"{path}: not a name of ESC-50 (fold-recording-take...)")
    return parts[1]


def esc_rows(source: Path, ten: bool) -> tuple[list[dict[str, Any]], Path]:
    """Clips of ESC-50 or of its part ESC-10, and the CSV that lists them."""
    from synthio.manifest import read_manifest, read_table

    official, own = source / "meta" / "esc50.csv", source / "esc10.csv"
    if ten and own.is_file():
        table, official = read_manifest(own, ("path", "label", "fold"), check_files=False), own
    elif official.is_file():
        table = read_table(official, ("filename", "fold", "category", "esc10"))
        table = table.assign(path=[str(source / "audio" / name) for name in table["filename"]], label=table["category"])
        table = table[table["esc10"].str.lower() == "true"] if ten else table
    else:
        wanted = "neither esc10.csv nor meta/esc50.csv is" if ten else "meta/esc50.csv is not"
        raise UserError(f"{source}: {wanted} there; get ESC-50 (see --help)")
    rows = [
        {"path": path, "label": label, "fold": fold, "group": freesound_id(path), WHERE: where(official, i + 1)}
        for i, path, label, fold in zip(table.index, table["path"], table["label"], table["fold"], strict=True)
    ]
    return rows, official


def with_folds(rows: list[dict[str, Any]], options: Folds, source: Path) -> Listing:
    """A listing split by the fold of each clip."""
    test, valid = str(options.test_fold), str(options.valid_fold or "") or None
    splits = fold_splits([row["fold"] for row in rows], test, valid, source)
    return list_clips([{**row, "split_name": split} for row, split in zip(rows, splits, strict=True)], [source])


def read_esc(options: EscOptions) -> Listing:
    """ESC-50 or ESC-10."""
    rows, official = esc_rows(Path(options.source).absolute(), ten=options.dataset == "esc10")
    return with_folds(rows, options, official)


# ---- UrbanSound8K

US8K_HELP = """UrbanSound8K: 8732 clips of up to 4 s in 10 classes, in 10 folds that share no recording (Salamon, 2014).

Get it: https://urbansounddataset.weebly.com or Zenodo record 1203745, unpacked (metadata/UrbanSound8K.csv,
audio/fold1 to fold10). Licence: CC BY-NC 3.0. One fold tests, one validates, eight train; never shuffle across the
folds. The column `group` is the Freesound recording (fsID)."""


@dataclass(frozen=True)
class Us8kOptions(Folds):
    """Ten folds."""

    test_fold: int = test_fold_of(10)
    valid_fold: int | None = valid_fold_of(10)


def read_us8k(options: Us8kOptions) -> Listing:
    """UrbanSound8K."""
    from synthio.manifest import read_table

    marker = "metadata/UrbanSound8K.csv"
    root = find_root(options, marker, "UrbanSound8K")
    table = read_table(root / marker, ("slice_file_name", "fsID", "fold", "class"))
    rows = [
        {
            "path": root / "audio" / f"fold{row['fold']}" / row["slice_file_name"],
            "label": row["class"],
            "fold": row["fold"],
            "group": row["fsID"],
            WHERE: where(root / marker, i),
        }
        for i, row in enumerate(table.to_dict("records"), 1)
    ]
    return with_folds(rows, options, root / marker)


# ---- TUT Urban Acoustic Scenes 2018

TUT_HELP = """TUT Urban Acoustic Scenes 2018: 8640 clips of 10 s, 10 scenes, 6 European cities (Mesaros et al., 2018).

Get it: Zenodo record 1228142, the development set, all parts unpacked into one folder (meta.csv, audio/,
evaluation_setup/). Licence: the dataset's own, non-commercial. The official fold: fold1_train.txt trains,
fold1_evaluate.txt tests. It has no validation set, so one is cut from the training data. The column `group` is the
recording place (`identifier` in meta.csv), which no two splits share."""


def tut_groups(meta: Path) -> dict[str, str]:
    """File name -> place, from the tab-separated meta.csv."""
    head, *lines = [line.split("\t") for line in read_lines(meta)]
    if "filename" not in head or "identifier" not in head:
        raise UserError(f"{meta}: no columns filename and identifier; the columns found are {', '.join(head)}")
    name, place = head.index("filename"), head.index("identifier")
    return {cells[name]: cells[place] for cells in lines if len(cells) == len(head)}


def read_tut(options: PrepareOptions) -> Listing:
    """TUT Urban Acoustic Scenes 2018, development set."""
    root = find_root(options, "evaluation_setup/fold1_train.txt", "TUT-urban-acoustic-scenes-2018-development")
    places, rows, files = tut_groups(root / "meta.csv"), [], [root / "meta.csv"]
    for split, name in ((TRAIN, "fold1_train.txt"), (TEST, "fold1_evaluate.txt")):
        files.append(root / "evaluation_setup" / name)
        for i, line in enumerate(read_lines(files[-1]), 1):
            clip, _, label = line.partition("\t")
            if not line.strip() or clip == "filename":
                continue
            at = where(files[-1], i)
            if clip not in places or not label.strip():
                raise UserError(f"{at}: expected a file of meta.csv, a tab and a scene, got {line!r}")
            row = {"path": root / clip, "label": label.strip(), "group": places[clip], "split_name": split}
            rows.append({**row, WHERE: at})
    return list_clips(rows, files)


# ---- VocalSound

VOCALSOUND_HELP = """VocalSound: 21,024 laughs, sighs, coughs, throat clearings, sneezes and sniffs (Gong et al., 2022).

Get it: https://github.com/YuanGongND/vocalsound, vs_release_16k.zip or vs_release_44k.zip, unpacked (audio_16k/ or
audio_44k/, datafiles/, class_labels_indices_vs.csv). Licence: CC BY-SA 4.0. The official lists: tr.json trains,
val.json validates, te.json tests. The column `group` is the speaker (f0003 in f0003_0_cough.wav)."""


def read_vocalsound(options: PrepareOptions) -> Listing:
    """VocalSound. The lists hold paths of their author's machine: only the names are used."""
    from synthio.manifest import read_table

    root = find_root(options, "datafiles/tr.json", "data")
    audio = next((root / name for name in ("audio_16k", "audio_44k") if (root / name).is_dir()), root / "audio_16k")
    classes = root / "class_labels_indices_vs.csv"
    table = read_table(classes, ("mid", "display_name"))
    names = dict(zip(table["mid"], table["display_name"], strict=True))
    rows, files = [], [classes]
    for split, name in ((TRAIN, "tr.json"), (VALID, "val.json"), (TEST, "te.json")):
        files.append(root / "datafiles" / name)
        for i, clip in enumerate(load_json(files[-1]).get("data", []), 1):
            wav, label, at = clip.get("wav", ""), clip.get("labels"), where(files[-1], i)
            if not wav or label not in names:
                raise UserError(f"{at}: expected wav and one of the labels of {classes}, got {clip}")
            path = audio / Path(wav).name
            row = {"path": path, "label": names[label], "group": path.name.split("_")[0]}
            rows.append({**row, "split_name": split, WHERE: at})
    return list_clips(rows, files)


# ---- DCASE 2017 task 4

DCASE_HELP = """DCASE 2017 task 4: 10 s clips of YouTube, 17 sounds of vehicles and warnings (use multi_label=true).

Get it: the lists from
https://github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars
(groundtruth_weak_label_training_set.csv, ..._testing_set.csv, ..._evaluation_set.csv, anywhere below --source), the
audio by the same repository's download_audio.py, anywhere below --source. Licence: the labels are CC BY 4.0 (as
AudioSet); the sounds belong to those who uploaded them. Its training set trains, its testing set (of development)
validates, its evaluation set tests. The weak labels of a clip are joined by `;`. The column `group` is the video.

Audio is found by name: ID_START_END.wav (with or without a leading Y; .m4a or another suffix will do) is taken as it
is. Where only the whole sound of the video is there, ID.wav, the clip is cut from it: START to END seconds, or to the
end of a shorter recording.
Many videos are gone by now: --missing drop leaves their clips out, and lists them."""


def dcase_clips(path: Path) -> dict[str, dict[str, Any]]:
    """File name -> first row, start and end in s, labels; the list has one line a label."""
    clips: dict[str, dict[str, Any]] = {}
    for i, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        try:
            name, start, end, label = cells
            segment = float(start), float(end)
        except ValueError:
            raise UserError(f"{where(path, i)}: expected name, start, end and label with tabs, got {line!r}") from None
        clip = clips.setdefault(name, {"row": i, "segment": segment, "labels": []})
        if label not in clip["labels"]:
            clip["labels"].append(label)
    return clips


def dcase_audio(root: Path) -> dict[str, Path]:
    """Every sound below the source, by its name as a WAV file, without the leading Y that the download script adds."""
    found: dict[str, Path] = {}
    for path in walk_files(root):
        if is_sound_name(path):
            found.setdefault(f"{path.stem.removeprefix('Y')}.wav", path)
            found.setdefault(f"{path.stem}.wav", path)  # an ID may begin with Y itself
    return found


def read_dcase(options: PrepareOptions) -> Listing:
    """DCASE 2017 task 4."""
    root = Path(options.source).absolute()
    audio, rows, files = dcase_audio(root), [], []
    for split, name in ((TRAIN, "training"), (VALID, "testing"), (TEST, "evaluation")):
        lists = sorted(root.rglob(f"groundtruth_weak_label_{name}_set.csv"))
        if not lists:
            raise UserError(f"{root}: no groundtruth_weak_label_{name}_set.csv; get the lists (see dcase2017 --help)")
        files.append(lists[0])
        for clip, found in dcase_clips(lists[0]).items():
            video = clip.rsplit("_", 2)[0]
            whole = None if clip in audio else audio.get(f"{video}.wav")
            row = {"path": whole or audio.get(clip, root / clip), SEGMENT: found["segment"] if whole else None}
            row |= {"label": ";".join(found["labels"]), "group": video, "split_name": split}
            rows.append({**row, WHERE: where(lists[0], found["row"])})
    return list_clips(rows, files)


# ---- FSD50K

FSD50K_HELP = """FSD50K: 51,197 clips of 0.3 to 30 s with 200 classes of AudioSet, multi-label (use multi_label=true).

Get it: Zenodo record 4060432, unpacked (FSD50K.dev_audio/, FSD50K.eval_audio/, FSD50K.ground_truth/ and, for the
groups, FSD50K.metadata/). Licence: CC BY 4.0; each clip also has a licence of its own, some of them non-commercial.
The official split: dev.csv's `train` trains, its `val` validates, eval.csv tests. The labels of a clip, parent
classes among them, are joined by `;`. The column `group` is the uploader, if FSD50K.metadata/ is there: clips of an
uploader in both training and validation are then dropped from the smaller part. AudioSet's ontology.json
(https://github.com/audioset/ontology), anywhere below --source, says which labels of a clip are parents of others: the
column `leaf_labels` has the rest, by which prompts, filter and quotas go. Without it they are told by the labels that
never come without others."""


def ontology_ancestors(root: Path) -> tuple[dict[str, set[str]], list[Path]]:
    """Class id -> ids of all classes above it, and the file that tells; both empty where it was not downloaded."""
    path = next(iter(sorted(root.rglob("ontology.json"))), None)
    if path is None:
        return {}, []
    found: dict[str, set[str]] = {}
    parents: dict[str, list[str]] = {}
    for entry in load_json(path):
        for child in entry["child_ids"]:
            parents.setdefault(child, []).append(entry["id"])
    for name in parents:
        above, waiting = set[str](), [name]
        while waiting:
            new = set(parents.get(waiting.pop(), ())) - above
            above |= new
            waiting += new
        found[name] = above
    return found, [path]


def fsd50k_uploaders(root: Path, part: str) -> tuple[dict[str, str], list[Path]]:
    """Clip -> uploader, and the file that tells; both empty where the metadata was not downloaded."""
    path = root / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
    if not path.is_file():
        return {}, []
    return {clip: str(info.get("uploader", "")) for clip, info in load_json(path).items()}, [path]


def fsd50k_leaves(labels: str, ids: str, ancestors: Mapping[str, set[str]]) -> str:
    """The labels of a clip (joined by commas, as their class ids) that are above no other of them."""
    names, keys = labels.split(","), ids.split(",")
    if not ancestors or len(names) != len(keys):
        return ""
    above = {key for one in keys for key in ancestors.get(one, ())}
    return ";".join(name for name, key in zip(names, keys, strict=True) if key not in above)


def fsd50k_rows(
    root: Path, part: str, uploaders: dict[str, str], ancestors: Mapping[str, set[str]]
) -> Iterator[dict[str, Any]]:
    """Clips of dev or eval."""
    from synthio.manifest import LEAVES, read_table

    path = root / "FSD50K.ground_truth" / f"{part}.csv"
    columns = ("fname", "labels", "split") if part == "dev" else ("fname", "labels")
    for i, row in enumerate(read_table(path, columns).to_dict("records"), 1):
        split = {"train": TRAIN, "val": VALID}.get(row["split"]) if part == "dev" else TEST
        if split is None:
            raise UserError(f"{where(path, i)}: split {row['split']!r} is neither train nor val")
        audio = root / f"FSD50K.{part}_audio" / f"{row['fname']}.wav"
        clip = {"path": audio, "label": row["labels"].replace(",", ";"), "group": uploaders.get(row["fname"], "")}
        clip |= {LEAVES: fsd50k_leaves(row["labels"], row.get("mids", ""), ancestors)}
        yield {**clip, "split_name": split, WHERE: where(path, i)}


def read_fsd50k(options: PrepareOptions) -> Listing:
    """FSD50K."""
    root = find_root(options, "FSD50K.ground_truth/dev.csv", "FSD50K")
    rows: list[dict[str, Any]] = []
    ancestors, files = ontology_ancestors(root)
    for part in ("dev", "eval"):
        uploaders, known = fsd50k_uploaders(root, part)
        rows += fsd50k_rows(root, part, uploaders, ancestors)
        files += [root / "FSD50K.ground_truth" / f"{part}.csv", *known]
    return list_clips(rows, files)


DATASETS = {
    "esc10": Dataset(ESC10_HELP, read_esc, EscOptions),
    "esc50": Dataset(ESC50_HELP, read_esc, EscOptions),
    "us8k": Dataset(US8K_HELP, read_us8k, Us8kOptions),
    "tut2018": Dataset(TUT_HELP, read_tut),
    "vocalsound": Dataset(VOCALSOUND_HELP, read_vocalsound),
    "dcase2017": Dataset(DCASE_HELP, read_dcase),
    "fsd50k": Dataset(FSD50K_HELP, read_fsd50k),
}
