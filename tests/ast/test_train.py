"""The script ast/train.py: what it writes, what it learns, and going on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import ASTConfig, pipeline

from synthio.audio import read_audio, write_wav
from synthio.classification import metrics, scored
from synthio.classification.options import ALPHAS
from synthio.classification.weighting import TOTALS
from synthio.cli import UserError
from synthio.options import from_args
from tests.classification.toy_clips import (
    RATE,
    TRAIN,
    add_mislabelled,
    load_script,
    options,
    save_named_ast,
    save_problem,
    save_tones,
    train,
)
from tests.scripts import distance, kill_at, launch, launched


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Model and train, valid, test CSVs of a separable toy problem."""
    return save_problem(tmp_path_factory.mktemp("tones"))


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """An unbroken run of the script, as a user starts it."""
    out = tmp_path_factory.mktemp("unbroken")
    command = [sys.executable, str(TRAIN), *options(data, out, eval_every=10)]
    run = subprocess.run(
        command, cwd="/", env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "step 60/60: train loss" in run.stderr
    return out


def test_classes_do_not_depend_on_the_order_of_rows(data, tmp_path):
    rows = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    script, found = load_script(), []
    for order in (rows, rows.iloc[::-1]):
        order.to_csv(data / "order.csv", index=False)
        args = script.get_parser().parse_args(options(data, tmp_path, train_csv=data / "order.csv"))
        _, labels, targets = script.read_splits(from_args(script.Evaluation, args), args.multi_label)
        found.append((labels, [labels[i] for i in targets["train"].argmax(axis=1)], list(order["label"])))
    assert found[0][0] == found[1][0] == ["001", "Hund, laut", "NA"]
    assert all(decoded == cells for _, decoded, cells in found)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_unseen_label_names_file_row_and_label(data, tmp_path, split):
    rows = pd.read_csv(data / f"{split}.csv", dtype=str, keep_default_na=False)
    rows.loc[4, "label"] = "cat"
    rows.to_csv(data / "unseen.csv", index=False)
    script = load_script()
    args = script.get_parser().parse_args(options(data, tmp_path, **{f"{split}_csv": data / "unseen.csv"}))
    with pytest.raises(UserError, match=r"unseen\.csv row 5: the label 'cat' is not among the 3 classes"):
        script.read_splits(from_args(script.Evaluation, args), args.multi_label)


def test_script_learns_and_writes_everything(data, trained):
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["accuracy"] > 0.9
    assert scores["interval_95"][0] <= scores["accuracy"] <= scores["interval_95"][1]
    assert scores["splits"]["train"] == {"clips": 24, "gold": 24, "synthetic": 0}
    assert scores["input"]["frames"] <= 80 and scores["head"] == "ast"
    assert {"options", "versions", "seconds", "best_step", "per_class", "confusion", "macro_f1"} <= scores.keys()
    matrix = np.array(scores["confusion"]["rows_true_columns_predicted"])
    assert matrix.sum() == 15
    assert np.trace(matrix) / 15 == pytest.approx(scores["accuracy"])
    history = pd.read_csv(trained / "history.csv")
    assert list(history["step"]) == [10, 20, 30, 40, 50, 60]
    assert set(history["alpha"]) == {1} and history["valid_loss"].nunique() == 6
    assert scores["best_step"] == history["step"][history["valid_loss"].idxmin()]
    names = ["finished.pt", "history.csv", "model", "predictions.csv", "scores.json", "valid_predictions.csv"]
    assert sorted(p.name for p in trained.iterdir()) == names
    heard = pd.read_csv(trained / "valid_predictions.csv", dtype=str, keep_default_na=False)
    assert [Path(path).name for path in heard["path"]] == [f"{i}.wav" for i in range(12)]
    assert (heard["label"] == heard["predicted"]).mean() == scores["best_valid"]["accuracy"]


def assert_pipeline_gives_the_predictions(folder: Path) -> None:
    """Each probability of each test clip."""
    predictions = scored.read_scores(f"x={folder / 'scores.json'}")["predictions"]
    listen = pipeline("audio-classification", model=str(folder / "model"), top_k=None)
    for row in predictions.to_dict("records"):
        found = {answer["label"]: answer["score"] for answer in listen(read_audio(row["path"], RATE)[0][0])}
        expected = {
            name.partition("_")[2]: float(cell) for name, cell in row.items() if name.startswith("probability_")
        }
        assert found == pytest.approx(expected, abs=1e-4)


def test_pipeline_gives_the_same_probabilities(data, trained):
    assert_pipeline_gives_the_predictions(trained)


def test_the_temperature_is_in_the_weights(trained):
    """Probabilities at the temperature that was divided by are those before calibration."""
    scores = scored.read_scores(f"x={trained / 'scores.json'}")
    truth, chances = scored.truth_and_probabilities(scores)
    record = scores["calibration"]
    assert record["temperature"] != pytest.approx(1, abs=0.05)
    before = torch.from_numpy(np.log(chances) * record["temperature"]).softmax(dim=1).numpy()
    for name, found in (("before", before), ("after", chances)):
        assert metrics.calibration(truth, found, False)["brier"] == pytest.approx(record[name]["brier"], abs=1e-6)
    assert record["after"]["ece"] < record["before"]["ece"] and record["after"]["brier"] < record["before"]["brier"]


def test_the_model_has_a_card(data, trained):
    card = (trained / "model/README.md").read_text(encoding="utf-8")
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert head.splitlines() == [
        *("library_name: transformers", "pipeline_tag: audio-classification"),
        *("tags:", "- audio-classification", "- synthio"),
    ]
    scores = json.loads((trained / "scores.json").read_text())
    assert "Labels: 001, Hund, laut, NA\n" in text and "| train | 24 | 24 | 0 |" in text
    assert f"| accuracy | {scores['accuracy']:.3f} |" in text and "| optimiser steps | 60 |" in text
    assert f"| step chosen on the validation clips | {scores['best_step']} |" in text
    after, before = (scores["calibration"][when]["ece"] for when in ("after", "before"))
    assert f"| expected calibration error | {after:.3f}, before calibration {before:.3f} |" in text
    assert f"| temperature, already in the weights | {scores['calibration']['temperature']:.3g} |" in text
    assert "| base model | model |" in text and "| its licence | not known here |" in text
    assert text.count("| 5 |") == 3  # test clips of each label
    assert str(data) not in card and "\n\n\n" not in card
    assert 'pipeline("audio-classification", model="this folder", top_k=None)' in text


def test_test_clips_do_not_touch_the_weights(data, trained, tmp_path, monkeypatch):
    save_tones(data, "wrong", 9, 9, swap=True)
    scores = train(monkeypatch, data, tmp_path / "out", test_csv=data / "wrong.csv", eval_every=10)
    assert scores["accuracy"] < 0.1
    assert weights(tmp_path / "out") == weights(trained)


def test_a_killed_run_goes_on_to_the_same_weights(data, trained, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(TRAIN), *options(data, out, eval_every=10)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (out / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
    assert (out / "checkpoint.pt").exists()
    assert not (out / "scores.json").exists()
    step = torch.load(out / "checkpoint.pt", weights_only=True)["state"]["step"]
    assert 10 <= step < 60
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"step {step}/60" not in run.stderr, "it must not repeat what the checkpoint holds"
    assert weights(out) == weights(trained)
    for name, paths in (("predictions", ["path"]), ("history", [])):
        tables = [pd.read_csv(folder / f"{name}.csv").drop(columns=paths) for folder in (out, trained)]
        pd.testing.assert_frame_equal(*tables)
    assert not (out / "checkpoint.pt").exists()


def test_a_run_that_was_killed_after_its_last_evaluation_writes_its_history(data, tmp_path, monkeypatch):
    """What is left to do is only the test, and no evaluation comes any more that would write history.csv."""
    script, words = load_script(), options(data, tmp_path / "out", num_steps=4, eval_every=2)
    monkeypatch.setattr(sys, "argv", [str(TRAIN), *words])
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(script, "test_once", Mock(side_effect=KeyboardInterrupt))
        script.main()
    written = (tmp_path / "out/history.csv").read_bytes()
    assert script.main() == 0
    assert (tmp_path / "out/history.csv").read_bytes() == written
    assert pd.read_csv(tmp_path / "out/history.csv")["step"].tolist() == [2, 4]


def test_the_key_follows_data_and_options_but_not_paths(data, tmp_path):
    script = load_script()

    def key(folder, **changes):
        args = script.get_parser().parse_args(options(folder, tmp_path, **changes))
        tables, labels, _ = script.read_splits(from_args(script.Evaluation, args), args.multi_label)
        return script.run_key(args, script.make_recipe(args, len(tables["train"])), "cpu", tables, labels)

    first = key(data)
    mixed = [key(data, train_csv=add_mislabelled(data, 9, 8), synthetic_weight=weight) for weight in (0, 1, 2)]
    assert first == mixed[0] == key(data, synthetic_weight=2) and len(set(mixed)) == 3
    shutil.copytree(data, tmp_path / "moved")
    assert key(tmp_path / "moved") == first
    assert len({first, key(data, seed=4), key(data, max_length_s=0.5), key(data, mixup=0.3)}) == 4
    write_wav(tmp_path / "moved/train/0.wav", np.ones((1, 8000)) * 0.1, RATE)
    assert key(tmp_path / "moved") != first


def test_multi_label_with_augmentation(data, tmp_path, monkeypatch):
    pitches = {"low": 300, "high": 2700}
    rows = {}
    for name, seed in (("train", 5), ("valid", 6), ("test", 7)):
        table = pd.read_csv(save_tones(tmp_path, name, 24, seed, pitches), dtype=str)
        for i in range(0, 24, 3):  # every third clip holds both sounds
            low, high = (read_audio(tmp_path / name / f"{j}.wav")[0][:, :6400] for j in (i - i % 2, i - i % 2 + 1))
            write_wav(tmp_path / name / f"both{i}.wav", (low + high) / 2, RATE)
            table.loc[len(table)] = [f"{name}/both{i}.wav", "high;low"]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        rows[name] = len(table)
    shutil.copytree(data / "model", tmp_path / "model")
    scores = train(monkeypatch, tmp_path, tmp_path / "out", multi_label="true", mixup=0.3, spec_augment="true")
    assert scores["metric"] == "mAP"
    assert scores["mAP"] > 0.95
    assert scores["macro_f1"] > 0.8
    assert "accuracy" not in scores
    predictions = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False)
    assert len(predictions) == rows["test"]
    assert set(predictions["predicted"]) <= {"", "high", "low", "high;low"}
    assert "high;low" in set(predictions["predicted"])
    assert ASTConfig.from_pretrained(tmp_path / "out/model").problem_type == "multi_label_classification"
    assert_pipeline_gives_the_predictions(tmp_path / "out")
    # said in words, because transformers before 5.23 applies softmax unless it is told
    assert 'function_to_apply="sigmoid"' in (tmp_path / "out/model/README.md").read_text()
    assert "a probability of its own" in (tmp_path / "out/model/README.md").read_text()


@pytest.mark.parametrize(("head_init", "steps"), [("probe", [0, 1]), ("random", [1])])
def test_a_head_that_starts_at_a_probe_knows_the_classes_untrained(data, tmp_path, monkeypatch, head_init, steps):
    words = {"head_init": head_init, "num_steps": 1, "learning_rate": 1e-9, "wise_ft_alpha": "auto"}
    scores = train(monkeypatch, data, tmp_path / "out", **words)
    assert scores["options"]["wise_ft_alpha"] in ALPHAS  # a number: what was chosen
    assert list(pd.read_csv(tmp_path / "out/history.csv")["step"]) == steps
    assert (scores["accuracy"] > 0.9) == (head_init == "probe")


@pytest.fixture(scope="module")
def mislabelled(data) -> dict:
    """Options for 24 real clips and 45 synthetic ones whose labels are wrong."""
    return {"train_csv": add_mislabelled(data, 45, 11), "num_steps": 80, "eval_every": 80}


def test_synthetic_clips_of_weight_0_are_as_if_they_had_no_label(data, mislabelled, tmp_path, monkeypatch):
    """Wrong labels on synthetic clips do harm at weight 1, none at weight 0."""
    ignored = train(monkeypatch, data, tmp_path / "ignored", synthetic_weight=0, **mislabelled)
    trusted = train(monkeypatch, data, tmp_path / "trusted", synthetic_weight=1, **mislabelled)
    assert ignored["accuracy"] > 0.9 > trusted["accuracy"]
    assert ignored["synthetic_weights"] == []


@pytest.fixture(scope="module")
def gold_alone(data, tmp_path_factory) -> dict:
    """Options for a training from the pretrained head on, whose chosen step and share are some of several."""
    folder = tmp_path_factory.mktemp("gold_alone")
    words = {"head_init": "probe", "wise_ft_alpha": "auto", "num_steps": 80, "eval_every": 20}
    command = [sys.executable, str(TRAIN), *options(data, folder, **words, synthetic_weight="auto")]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    return words | {"finished_folder": folder}


@pytest.mark.parametrize("weight", ["auto", 0])
def test_where_no_synthetic_clip_comes_the_finished_training_is_taken_over(
    data, mislabelled, gold_alone, tmp_path, monkeypatch, capsys, weight
):
    """All that is written is what training anew writes, but for times and paths."""
    words = mislabelled | gold_alone | {"synthetic_weight": weight}
    anew = train(monkeypatch, data, tmp_path / "anew", **{**words, "finished_folder": ""})
    assert "taken over" not in capsys.readouterr().err
    with monkeypatch.context() as broken:
        broken.setattr("synthio.classification.training.train_step", Mock(side_effect=AssertionError("trains anew")))
        taken = train(monkeypatch, data, tmp_path / "taken", **words)
    assert f"no other clip comes than in {gold_alone['finished_folder']}: its training is taken over" in (
        capsys.readouterr().err
    )
    assert taken["seconds"]["train"] == 0 < anew["seconds"]["train"]
    for scores in (anew, taken):
        del scores["seconds"], scores["options"]["output_folder"], scores["options"]["finished_folder"]
    assert taken == anew
    for path in sorted(path for path in (tmp_path / "anew").rglob("*") if path.is_file()):
        other = tmp_path / "taken" / path.relative_to(tmp_path / "anew")
        if path.name not in ("scores.json", "finished.pt"):  # a torch file has its temporary name in it
            assert other.read_bytes() == path.read_bytes(), path
    assert (tmp_path / "taken/finished.pt").stat().st_size == (tmp_path / "anew/finished.pt").stat().st_size


@pytest.mark.parametrize("change", ["weight", "recipe", "seed", "clip", "label", "weights", "damage"])
def test_another_training_is_not_taken_over(data, mislabelled, gold_alone, tmp_path, monkeypatch, capsys, change):
    words = mislabelled | gold_alone | {"synthetic_weight": 0, "num_steps": 80, "eval_every": 20}
    words["finished_folder"] = shutil.copytree(gold_alone["finished_folder"], tmp_path / "finished")
    rows = pd.read_csv(words["train_csv"], dtype=str, keep_default_na=False)
    rows["path"] = [str(data / path) for path in rows["path"]]
    if change == "clip":
        write_wav(tmp_path / "other.wav", 0.5 * read_audio(rows["path"][0], RATE)[0], RATE)
        rows.loc[0, "path"] = str(tmp_path / "other.wav")
    elif change == "label":
        rows.loc[0, "label"] = rows.loc[1, "label"]
    elif change == "weights":
        shutil.copy(data / "model/model.safetensors", tmp_path / "finished/model/model.safetensors")
    elif change == "damage":
        (tmp_path / "finished/finished.pt").write_bytes((tmp_path / "finished/finished.pt").read_bytes()[:-100])
    else:
        words |= {"weight": {"synthetic_weight": 1}, "recipe": {"learning_rate": 2e-3}, "seed": {"seed": 4}}[change]
    rows.to_csv(tmp_path / "train.csv", index=False)
    scores = train(monkeypatch, data, tmp_path / "out", **words | {"train_csv": tmp_path / "train.csv"})
    assert "taken over" not in capsys.readouterr().err and scores["seconds"]["train"] > 0


def test_auto_lets_wrong_synthetic_clips_count_little(data, mislabelled, tmp_path, monkeypatch, capsys):
    scores = train(monkeypatch, data, tmp_path, synthetic_weight="auto", **mislabelled)
    chosen, tried = scores["options"]["synthetic_weight"], scores["synthetic_weights"]
    assert [row["synthetic_weight"] for row in tried] == [pytest.approx(total * 24 / 45) for total in (0, *TOTALS)]
    assert chosen == 0 and scores["accuracy"] > 0.9
    assert f"synthetic_weight auto: a synthetic clip comes {chosen:.3g} times as often as a real one" in (
        capsys.readouterr().err
    )
    assert f"| synthetic clips for a real one | {chosen} |" in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize(("head_init", "is_right"), [("names", True), ("probe", False)])
def test_a_head_that_starts_at_names_knows_what_the_pretrained_one_knew(
    data, trained, mislabelled, tmp_path, monkeypatch, head_init, is_right
):
    """All training labels are wrong, so a probe learns nothing; validation clips show that the old head is right."""
    words = {"model": trained / "model", "train_csv": data / "mislabelled.csv", "num_steps": 1, "learning_rate": 1e-9}
    scores = train(monkeypatch, data, tmp_path, head_init=head_init, **words)
    assert (scores["accuracy"] > 0.9) == is_right
    assert scores["options"]["head_init"] == head_init


def test_names_of_other_labels_start_at_the_probe(data, tmp_path, monkeypatch):
    """Byte for byte, and so does an AST without a head."""
    for model in (save_named_ast(tmp_path / "named", ["dog", "rain", "siren"]), data / "model"):
        outs = [tmp_path / f"{model.name} {head_init}" for head_init in ("names", "probe")]
        for out in outs:
            train(monkeypatch, data, out, head_init=out.name.split()[1], num_steps=1, model=model)
        assert weights(outs[0]) == weights(outs[1])


def test_a_loss_that_is_not_finite_stops_with_advice(data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="lower --learning_rate"):
        train(monkeypatch, data, tmp_path / "out", learning_rate=1e30, num_steps=4)


# ---- several processes

SAME_TRAINING = 1e-3  # of the way that the weights go: sums in another order, and AdamW's step for small gradients


@pytest.mark.parametrize("changes", [{"supcon": "true", "head_init": "probe"}, {"wise_ft_alpha": "auto", "mixup": 0.3}])
@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(data, tmp_path, monkeypatch, changes):
    """Seven clips a step, four and three in two processes. Killed with two and gone on alone, and the reverse."""
    config = json.loads((data / "model/config.json").read_text())
    shutil.copytree(data / "model", tmp_path / "model")
    still = config | {"hidden_dropout_prob": 0.0}  # as AST's own
    (tmp_path / "model/config.json").write_text(json.dumps(still))
    changes = {"batch_size": 7, "num_steps": 30, "eval_every": 3, "learning_rate": 1e-3, "head_init": "probe"} | changes
    changes |= {"model": tmp_path / "model", "spec_augment": "true"}
    words = {out: options(data, tmp_path / out, **changes) for out in ("alone", "together_alone", "alone_together")}
    train(monkeypatch, data, tmp_path / "alone", **changes)
    kill_at(launched(2, TRAIN, *words["together_alone"]), tmp_path / "together_alone/checkpoint.pt")
    train(monkeypatch, data, tmp_path / "together_alone", **changes)

    script = load_script()
    monkeypatch.setattr(sys, "argv", [str(TRAIN), *words["alone_together"]])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        evaluations = [None, None, KeyboardInterrupt]
        patch.setattr(script, "report_evaluation", Mock(side_effect=evaluations))
        script.main()
    done = launch(2, TRAIN, *words["alone_together"])
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("going on after step 9\n") == 1 and done.stderr.count("step 30/30: train loss") == 1

    train(monkeypatch, data, tmp_path / "start", **changes | {"num_steps": 1, "eval_every": 1, "learning_rate": 1e-12})
    start = load_file(tmp_path / "start/model/model.safetensors")
    histories = {out: pd.read_csv(tmp_path / out / "history.csv") for out in words}
    for out in ("together_alone", "alone_together"):
        pd.testing.assert_frame_equal(histories[out], histories["alone"], rtol=SAME_TRAINING, atol=1e-6)
        files = [tmp_path / one / "model/model.safetensors" for one in (out, "alone")]
        assert distance(*files, start) < SAME_TRAINING
        assert not (tmp_path / out / "checkpoint.pt").exists()
