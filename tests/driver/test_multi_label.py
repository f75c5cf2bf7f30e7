"""FSD50K and DCASE 2017 at 50 clips: trees in their layout, procedural sounds, the embedded models, the real run."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from synthio.audio import write_wav
from synthio.classification.metrics import macro_f1, predicted_matrix
from synthio.classification.scored import read_scores, truth_and_probabilities
from synthio.data.check_inputs import main as check_inputs
from synthio.files import read_json
from synthio.manifest import split_labels
from synthio.sounds import DEMO_LABELS, SAMPLE_RATE, make_clip
from tests.scripts import call_script

ROOT = Path(__file__).resolve().parent.parent.parent
SHELL = shutil.which("dash") or "sh"
LEAVES, PARENTS, ROOTS = 150, 40, 10  # the 200 labels of a tree like FSD50K's


def names_of(leaf: int) -> list[str]:
    """A leaf with its parents, as FSD50K has them; names of several words, as there."""
    parent = leaf % PARENTS
    kind = DEMO_LABELS[leaf % len(DEMO_LABELS)]
    return [f"{kind}_of_kind_{leaf}", f"Sounds_of_group_{parent}", f"Sounds_of_things_{parent % ROOTS}"]


def save_sound(path: Path, leaves: list[int], seed: int) -> None:
    """Half a second of the leaves' procedural sounds together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        make_clip(DEMO_LABELS[leaf % len(DEMO_LABELS)], np.random.default_rng([seed, leaf]), 0.5) for leaf in leaves
    ]
    samples = min(len(part.audio) for part in parts)
    mix = np.mean([part.audio[:samples] for part in parts], axis=0, dtype=np.float32)
    write_wav(path, mix[None], SAMPLE_RATE)


def save_fsd50k(root: Path) -> Path:
    """FSD50K.dev_audio, FSD50K.eval_audio and FSD50K.ground_truth: 450 training, 75 validation and 75 test clips."""
    rng, clip = random.Random(0), 0
    for part, split, count in (("dev", "train", 450), ("dev", "val", 75), ("eval", "", 75)):
        rows = []
        for number in range(count):
            clip += 1
            leaves = sorted({number % LEAVES, *rng.sample(range(LEAVES), rng.randint(0, 1))})
            save_sound(root / f"FSD50K.{part}_audio/{clip}.wav", leaves, clip)
            labels = list(dict.fromkeys(name for leaf in leaves for name in names_of(leaf)))
            rows.append([clip, ",".join(labels), "", split][: 4 if split else 3])
        path = root / f"FSD50K.ground_truth/{part}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="") as stream:
            header = [] if split == "val" else [["fname", "labels", "mids", "split"][: 4 if split else 3]]
            csv.writer(stream).writerows([*header, *rows])
    return root


def save_dcase(root: Path) -> Path:
    """The lists and clips of task 4: 17 labels without parents, one or two a clip; 120, 34 and 34 clips."""
    rng = random.Random(1)
    for split, count in (("training", 120), ("testing", 34), ("evaluation", 34)):
        lines = []
        for number in range(count):
            name = f"{split}{number:07d}_0.000_0.500.wav"
            leaves = sorted({number % 17, *rng.sample(range(17), rng.randint(0, 1))})
            save_sound(root / "audio" / name, leaves, hash_of(split, number))
            lines += [
                f"{name}\t0.000\t0.500\tNoise of a {DEMO_LABELS[leaf % len(DEMO_LABELS)].replace('_', ' ')}, {leaf}"
                for leaf in leaves
            ]
        (root / f"groundtruth_weak_label_{split}_set.csv").write_text("\n".join(lines) + "\n")
    return root


def hash_of(split: str, number: int) -> int:
    return 1000 * ["training", "testing", "evaluation"].index(split) + number


TREES = {"fsd50k": save_fsd50k, "dcase2017": save_dcase}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """name -> folder with train.csv, valid.csv and test.csv as dataset_csvs/prepare.py makes them."""
    made: dict[str, Path] = {}

    def prepare(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source, output = TREES[name](folder / "source"), folder / "csvs"
            done = call_script(ROOT / "dataset_csvs/prepare.py", name, "--source", source, "--output_folder", output)
            assert done.returncode == 0, done.stderr
            made[name] = output
        return made[name]

    return prepare


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_a_run_at_fifty_clips(prepared, tmp_path, name):
    """Everything but the alignment, in few steps: what is made, by label, and how it is scored."""
    csvs = prepared(name)
    options = {"dataset_name": name, "results_root": tmp_path, "multi_label": "true", "num_samples": 50, "num_steps": 4}
    options |= {"input_train_file": csvs / "train.csv", "valid_csv": csvs / "valid.csv", "test_csv": csvs / "test.csv"}
    options |= {"dpo": "false", "num_iters": 1, "ast_num_steps": 4, "reflect_rounds": 1, "balance": "true"}
    options |= {"threshold_kind": "rank", "keep_percent": 70, "device": "cpu", "report_clips": 4}
    words = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    done = subprocess.run([SHELL, ROOT / "run.sh", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    work = tmp_path / name
    gold, valid = (rows_of(work / f) for f in ("train_50.csv", "checked/valid.csv"))
    assert len(gold) == 50 and len({label for row in valid for label in split_labels(row["label"])}) > 15
    kept, rejected = (rows_of(work / f"round_0/{part}.csv") for part in ("kept", "rejected"))
    assert 0.6 * 50 <= len(kept) <= 0.9 * 50 and rejected  # not all, as where each combination is a class
    for row in (*kept, *rejected):
        if name == "fsd50k":
            assert "group" not in row["prompt"] and "things" not in row["prompt"]
    scores = {arm: read_json(work / f"classifier/{arm}/scores.json") for arm in ("gold_only", "synthio")}
    for arm, record in scores.items():
        found = read_scores(f"{arm}={work / f'classifier/{arm}/scores.json'}", "valid_predictions.csv")
        truth, chances = truth_and_probabilities(found)
        best = max(macro_f1(truth, predicted_matrix(chances, True, t)) for t in np.unique(chances[truth > 0]))
        chosen = macro_f1(truth, predicted_matrix(chances, True, record["threshold"]))
        assert chosen == pytest.approx(best, abs=0.02)
        assert read_json(work / f"classifier/{arm}/model/config.json")["threshold"] == record["threshold"]
        assert f"(from {record['threshold']:.2g})" in done.stdout
        low, high = record["interval_95"]
        assert low <= record["mAP"] and high <= 1 and len(record["labels"]) == (200 if name == "fsd50k" else 17)


@pytest.mark.slow
def test_fsd50k_has_leaves_and_fewer_clips_than_labels(prepared, tmp_path, capsys, monkeypatch):
    """Stage 0 warns, stage 1 covers most labels and names the others, prompts say leaves alone."""
    csvs, checked = prepared("fsd50k"), tmp_path / "checked"
    words = [f"--{split}_csv={csvs / f'{split}.csv'}" for split in ("train", "valid", "test")]
    monkeypatch.setattr(
        "sys.argv", ["check", *words, f"--output_folder={checked}", "--num_samples=50", "--multi_label=true"]
    )
    assert check_inputs() == 0
    said = capsys.readouterr()
    assert "num_samples 50 is below the 200 labels" in said.err and "Stage 1 names them" in said.err
    assert f"labels: {PARENTS + ROOTS} are parents of others" in said.out
    for split in ("train", "valid", "test"):
        for row in rows_of(checked / f"{split}.csv"):
            leaves = [label for label in split_labels(row["label"]) if "_of_kind_" in label]
            assert split_labels(row["leaf_labels"]) == leaves
    drawn = tmp_path / "train_50.csv"
    script = ROOT / "stratify_dataset.py"
    done = call_script(script, "--input_csv", checked / "train.csv", "--output_csv", drawn, "--num_samples", 50)
    assert done.returncode == 0, done.stderr
    missing = json.loads(drawn.with_suffix(".json").read_text())["labels_without_clips"]
    assert 50 <= len(missing) <= 75  # of 150 leaves 50 clips of one or two hold at most 100
    assert all("_of_kind_" in label for label in missing)
    prompts = tmp_path / "prompts.csv"
    script = ROOT / "generate_captions_gpt.py"
    done = call_script(script, "--mode", "template", "--input_csv", drawn, "--output_csv", prompts)
    assert done.returncode == 0, done.stderr
    for row in rows_of(prompts):
        words = " and ".join(label.replace("_", " ") for label in split_labels(row["leaf_labels"]))
        assert row["prompt"] == f"Sound of a {words}"
