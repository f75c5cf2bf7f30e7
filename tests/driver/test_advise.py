"""sh run.sh --advise: the real models on a few tones, and again."""

from __future__ import annotations

import json

import pytest

from tests.driver.test_run import LABELS, call, save_tones


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("advice wanted")
    for split, clips in {"train": 9, "valid": 6, "test": 3}.items():
        save_tones(folder, split, clips)
    return folder


def advise(world, *more):
    csvs = [f"--{name}={split}.csv" for name, split in (("input_train_file", "train"), ("valid_csv", "valid"))]
    words = [*csvs, "--test_csv=test.csv", "--results_root=out", "--dataset_name=tones", "--num_samples=6"]
    return call("--advise", *words, "--num_steps=2", "--cpu_threads=1", *more, cwd=world)


@pytest.mark.slow
def test_advice_with_the_embedded_models_and_again_without_work(world):
    done = advise(world)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((world / "out/tones/advise.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in record["labels"]] == sorted(LABELS)
    assert record["clips"] == {"gold": 6, "valid": 6, "made": 30}
    assert (world / "out/tones/advise.txt").read_text(encoding="utf-8") in done.stdout
    assert "advice for all labels: " in done.stdout
    work = world / "out/tones"
    assert not (work / "classifier").exists() and not (work / "scores.json").exists()  # nothing is tested
    assert len(list((world / "out/tones_synthetic/advise").glob("*.wav"))) == 30
    again = advise(world)
    assert again.returncode == 0 and again.stdout.count("\n    up to date") == 5 and "running" not in again.stdout
    assert "advice for all labels: " in again.stdout


def test_what_advice_takes_no_part_in_is_refused(world):
    for word in ("--augment=false", "--retrieval_csv=train.csv"):
        done = advise(world, word)
        assert done.returncode == 2 and "advise=true asks what generated clips would bring" in done.stderr


def test_a_dry_run_of_it_writes_nothing(world):
    done = advise(world, "--dry_run", "--results_root=dry")
    assert done.returncode == 0 and "synthio.report.advise" in done.stdout and not (world / "dry").exists()
    assert "stage 10 classify" not in done.stdout
