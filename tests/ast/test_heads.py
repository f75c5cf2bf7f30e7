"""The script ast/heads.py: what it writes, what it weighs, and what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from synthio.audio import read_audio, write_wav
from synthio.classification import scored
from synthio.classification.heads import TITLES
from synthio.classification.metrics import calibration
from synthio.classification.saved import saved_probabilities
from synthio.models.ast_model import AstEmbedder
from synthio.models.fbank import SAMPLE_RATE
from synthio.models.load import load_scorer
from tests.classification.toy_clips import PITCHES, add_mislabelled, save_named_ast, save_tiny_ast, save_tones
from tests.rows import rows_of
from tests.scripts import ROOT, call_script
from tests.tiny_models import save_clap

HEADS = ROOT / "ast/heads.py"
ALL = set(TITLES) - {"ast"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Models and train, valid, test CSVs of tones, one pitch a label; `named` is an AST that has names for them."""
    folder = tmp_path_factory.mktemp("heads")
    save_tiny_ast(folder / "ast")
    save_named_ast(folder / "named", sorted(PITCHES))
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("train", 18), ("valid", 9), ("test", 9)]):
        save_tones(folder, name, clips, seed)
    return folder


def run(data, out, *heads, models=None, **changes):
    """The script on the data of a folder, its models those of `models`."""
    chosen = {f"{split}_csv": data / f"{split}.csv" for split in ("train", "valid", "test")}
    models = models or data
    chosen |= {"output_folder": out, "ast_model": models / "ast", "clap_model": models / "clap", "device": "cpu"}
    chosen |= {"cache_folder": data / "cache", **changes}
    words = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return call_script(HEADS, *words, *(["--heads", *heads] if heads else []))


def record_of(folder):
    return json.loads((folder / "scores.json").read_text())


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    """(output folder, what was printed) of all heads on an AST that knows the labels."""
    out = tmp_path_factory.mktemp("fitted")
    done = run(data, out, ast_model=data / "named")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_every_head_has_a_folder_with_everything(data, fitted):
    out, printed = fitted
    assert {path.name for path in out.iterdir()} == ALL | {"doubts.csv"}
    lines = dict(line.split(": ", 1) for line in printed.splitlines())
    assert list(lines) == [name for name in TITLES if name in ALL]
    for name in ALL:
        files = {path.relative_to(out / name).as_posix() for path in (out / name).rglob("*") if path.is_file()}
        model = {f"model/{part}" for part in ("README.md", "config.json", "listening.json", "model.safetensors")}
        assert files == model | {"scores.json", "predictions.csv", "valid_predictions.csv"}
        scores = record_of(out / name)
        assert scores["head"] == name and scores["options"]["ast_model"] == str(data / "named")
        assert {"best_valid", "interval_95", "per_class", "confusion", "versions", "seconds"} <= scores.keys()
        found = re.fullmatch(r"test accuracy (\S+), valid (\S+)", lines[name])
        assert found.groups() == (f"{scores['accuracy']:.3f}", f"{scores['best_valid']['accuracy']:.3f}")
    assert record_of(out / "probe")["accuracy"] > 0.8 and record_of(out / "fusion")["accuracy"] > 0.8


def test_it_says_how_sure_it_is_of_training_clips_that_it_has_not_seen(data, fitted):
    rows, clips = rows_of(fitted[0] / "doubts.csv"), rows_of(data / "train.csv")
    assert [row["label"] for row in rows] == [clip["label"] for clip in clips]
    sure = [row for row in rows if row["heard_as"] == row["label"]]
    assert len(sure) >= 0.7 * len(rows)
    for row in rows:
        assert 0 < float(row["label_probability"]) <= float(row["heard_probability"]) < 1
    assert all(row["label_probability"] == row["heard_probability"] for row in sure)


def test_what_the_scores_say_is_in_the_predictions(fitted):
    """Accuracy on both sets, and calibration before and after, which of one expert are a temperature apart."""
    for name in ("probe_ast", "zero_shot", "tip_adapter"):
        folder = fitted[0] / name
        scores = scored.read_scores(f"x={folder / 'scores.json'}")
        valid = scored.read_scores(f"x={folder / 'scores.json'}", "valid_predictions.csv")
        for one, score in ((scores, scores["accuracy"]), (valid, scores["best_valid"]["accuracy"])):
            assert (one["predictions"]["label"] == one["predictions"]["predicted"]).mean() == pytest.approx(score)
        truth, chances = scored.truth_and_probabilities(scores)
        before = chances ** scores["calibration"]["temperature"]
        before /= before.sum(axis=1, keepdims=True)
        for when, found in (("before", before), ("after", chances)):
            expected = calibration(truth, found, False)["brier"]
            assert scores["calibration"][when]["brier"] == pytest.approx(expected, abs=1e-5)
    assert record_of(fitted[0] / "fusion")["calibration"]["temperature"] is None


def test_a_saved_head_gives_the_predictions(fitted, tmp_path):
    for name in ALL:
        folder = fitted[0] / name
        scores = scored.read_scores(f"x={folder / 'scores.json'}")
        paths = scores["predictions"]["path"]
        chances, labels = saved_probabilities(folder / "model", paths, tmp_path / "cache")
        assert labels == scores["labels"]
        np.testing.assert_allclose(chances, scored.truth_and_probabilities(scores)[1], atol=1e-5)


def test_a_probes_weights_give_the_predictions(data, fitted):
    """By hand, from the embeddings of both models side by side."""
    folder = fitted[0] / "probe"
    weights = load_file(folder / "model/model.safetensors")
    config = json.loads((folder / "model/config.json").read_text())
    (part,) = config["experts"]
    assert part["form"] == "linear" and part["kinds"] == ["ast", "clap"]
    predictions = scored.read_scores(f"x={folder / 'scores.json'}")["predictions"]
    listeners = (AstEmbedder(str(data / "named")), load_scorer(str(data / "clap")))
    clip = predictions["path"][0]
    heard = [model.embed_audio([read_audio(clip, model.sample_rate)[0]])[0] for model in listeners]
    logits = part["weight"] * (weights["0.weight"] @ np.concatenate(heard) + weights["0.bias"])
    chances = np.exp(logits) / np.exp(logits).sum()
    for label, chance in zip(config["labels"], chances, strict=True):
        assert float(predictions[f"probability_{label}"][0]) == pytest.approx(chance, abs=1e-3)


def test_the_card_says_how_to_load_it(data, fitted):
    card = (fitted[0] / "fusion/model/README.md").read_text()
    assert "A head on frozen models: fusion (probes, own head, zero-shot)." in card and str(data) not in card
    assert 'saved_probabilities("this folder", ["clip.wav"], cache_folder="embeddings")' in card
    assert "expected calibration error" in card and "temperature" not in card and "\n\n\n" not in card
    assert "| base model | named |" in card and "| base model | clap |" in card
    assert "| temperature, already in the weights |" in (fitted[0] / "probe/model/README.md").read_text()


def test_heads_that_know_no_label_are_left_out(data, tmp_path):
    done = run(data, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in tmp_path.glob("*/scores.json")} == ALL - {"own_names", "probe_names"}


def test_what_an_earlier_run_left_goes(data, tmp_path):
    """Of a head that is not fitted now too: its scores would stand in the table of another run."""
    assert run(data, tmp_path, "zero_shot", "own_names", ast_model=data / "named").returncode == 0
    (tmp_path / "notes.txt").write_text("mine")
    assert run(data, tmp_path, "zero_shot").returncode == 0
    assert {path.parent.name for path in tmp_path.glob("*/scores.json")} == {"zero_shot"}
    assert (tmp_path / "notes.txt").is_file()


def test_synthetic_clips_are_weighed(data, tmp_path):
    """Wrong labels on synthetic clips cost accuracy where these count as much as real ones; auto finds that out."""
    mixed, scores = add_mislabelled(data, 36, 7), {}
    for weight in ("1", "auto"):
        done = run(data, tmp_path / weight, "probe", "nearest_mean", train_csv=mixed, synthetic_weight=weight)
        assert done.returncode == 0, done.stderr
        assert ("synthetic_weight auto: a synthetic clip comes 0 times" in done.stderr) == (weight == "auto")
        scores[weight] = {name: record_of(tmp_path / weight / name) for name in ("probe", "nearest_mean")}
    for name in ("probe", "nearest_mean"):
        assert scores["auto"][name]["accuracy"] > scores["1"][name]["accuracy"] + 0.3
    assert scores["auto"]["probe"]["options"]["synthetic_weight"] == 0
    assert scores["auto"]["probe"]["splits"]["train"] == {"clips": 54, "gold": 18, "synthetic": 36}
    assert run(data, tmp_path / "gold", "probe").returncode == 0
    weights = [(tmp_path / part / "probe/model/model.safetensors").read_bytes() for part in ("gold", "auto")]
    assert weights[0] == weights[1]


def test_runs_share_a_cache_and_test_clips_do_not_touch_the_models(data, tmp_path):
    assert run(data, tmp_path / "a", cache_folder=tmp_path / "cache").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(before) == 2
    save_tones(data, "wrong", 9, 2, swap=True)  # the test clips with other labels
    done = run(data, tmp_path / "b", cache_folder=tmp_path / "cache", test_csv=data / "wrong.csv")
    assert done.returncode == 0 and before == {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()}
    scores = [record_of(tmp_path / name / "probe")["accuracy"] for name in "ab"]
    assert scores[0] > 0.8 and scores[1] < 0.2
    for name in ALL - {"own_names", "probe_names"}:
        files = [(tmp_path / part / name / "model/model.safetensors").read_bytes() for part in "ab"]
        assert files[0] == files[1], name
        valid = [(tmp_path / part / name / "valid_predictions.csv").read_text() for part in "ab"]
        assert valid[0] == valid[1], name


def test_without_a_cache_folder_embeddings_lie_in_the_output(data, tmp_path):
    assert run(data, tmp_path, "zero_shot", cache_folder="").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"zero_shot", "embeddings", "doubts.csv"}


def test_multi_label(data, tmp_path):
    for name, seed in (("train", 5), ("valid", 6), ("test", 7)):
        table = pd.read_csv(save_tones(tmp_path, name, 16, seed, {"low": 300, "high": 2700}), dtype=str)
        for i in range(0, 16, 2):  # every pair of clips once more, together
            low, high = (read_audio(tmp_path / name / f"{j}.wav")[0][:, :6400] for j in (i, i + 1))
            write_wav(tmp_path / name / f"both{i}.wav", (low + high) / 2, SAMPLE_RATE)
            table.loc[len(table)] = [f"{name}/both{i}.wav", "high;low"]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    done = run(tmp_path, tmp_path / "out", models=data, multi_label="true")
    assert done.returncode == 0, done.stderr
    for name in ALL - {"own_names", "probe_names"}:
        scores = record_of(tmp_path / "out" / name)
        assert scores["metric"] == "mAP" and "accuracy" not in scores and set(scores["best_valid"]) == {"mAP", "loss"}
        assert scores["mAP"] > (0.4 if name == "zero_shot" else 0.7), name
    assert record_of(tmp_path / "out/fusion")["mAP"] > 0.9
    predicted = pd.read_csv(tmp_path / "out/fusion/predictions.csv", keep_default_na=False)["predicted"]
    assert {"", "high", "low", "high;low"} >= set(predicted) and "high;low" in set(predicted)


@pytest.mark.parametrize(
    ("heads", "part"),
    [
        (["fusoin"], "there is no head 'fusoin'; choose among nearest_mean, "),
        (["own_names"], "own_names needs an AST whose own head has names for the labels; choose another head"),
        (["probe", "probe_names"], "probe_names needs an AST with a head of its own"),
    ],
)
def test_a_head_that_cannot_be_is_refused_in_one_line(data, tmp_path, heads, part):
    done = run(data, tmp_path / "out", *heads)
    assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1
    assert not list((tmp_path / "out").glob("*/scores.json"))


def test_a_folder_that_holds_another_model_is_refused(data, tmp_path):
    done = run(data, tmp_path / "out", ast_model=data / "clap")
    assert done.returncode == 2 and "a 'clap' is no audio classifier" in done.stderr and done.stderr.count("\n") == 1


def test_a_weight_that_is_no_number_is_refused(data, tmp_path):
    done = run(data, tmp_path / "bad", synthetic_weight="some")
    assert done.returncode == 2 and "'some' is not a number; give a number or auto" in done.stderr
