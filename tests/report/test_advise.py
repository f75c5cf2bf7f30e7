"""Advice from clips: its keys, its numbers on tones, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthio.classification.intervals import Units
from synthio.classification.trials import Trial
from synthio.report import advise as script
from synthio.report.advice import PRIOR_DEVIATION, Advice
from tests.classification.test_trials import made_clips
from tests.classification.toy import make_task
from tests.classification.toy_clips import PITCHES, save_named_ast, save_tones
from tests.scripts import ROOT, call_script
from tests.tiny_models import save_clap

MODULE = ROOT / "synthio/report/advise.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tones: 12 gold ones, 15 to validate, 9 made ones; an AST that knows one label by name."""
    folder = tmp_path_factory.mktemp("advised")
    save_named_ast(folder / "ast", ["rain", "Hund, laut", "dog"])
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("gold", 12), ("valid", 15), ("made", 9)]):
        save_tones(folder, name, clips, seed)
    return folder


def ask(world, out="advise.json", **changes):
    words = {f"{name}_csv": world / f"{name}.csv" for name in ("gold", "valid", "made")}
    words |= {"output_json": world / out, "cache_folder": world / "cache", "device": "cpu"}
    words |= {"ast_model": world / "ast", "clap_model": world / "clap", **changes}
    return call_script(MODULE, *[part for name, value in words.items() for part in (f"--{name}", str(value))])


@pytest.fixture(scope="module")
def record(world):
    done = ask(world)
    assert done.returncode == 0, done.stderr
    return json.loads((world / "advise.json").read_text(encoding="utf-8"))


def test_the_keys_of_the_json(record):
    assert list(record) == [
        *(
            "metric",
            "head",
            "called",
            "losses",
            "knows_before",
            "clips",
            "resampled",
            "draws",
            "folds",
            "synthetic_weights",
        ),
        *("curve", "overall", "labels", "inputs", "options", "versions"),
    ]
    assert list(record["overall"]) == ["score", "gain", "gain_interval_95", "advice", "record", "reason"]
    assert record["clips"] == {"gold": 12, "valid": 15, "made": 9} and record["metric"] == "accuracy"
    assert record["draws"] == script.DRAWS and len(record["synthetic_weights"]) == record["folds"]
    assert [at["clips"] for at in record["curve"]["expected"]] == [12, 24, 48]
    assert [row["label"] for row in record["labels"]] == sorted(PITCHES)
    for row in record["labels"]:
        assert list(row) == [
            *("label", "clips", "score", "known_before", "generator", "nearest"),
            *("gain", "gain_interval_95", "advice", "record", "reason"),
        ]
        assert row["clips"] == 4 and row["generator"]["of"] == 3
        assert row["gain_interval_95"][0] <= row["gain"] <= row["gain_interval_95"][1]
        assert row["advice"] in (*("synthesise", "nothing to gain"), f"record about {row['record']} more")
    assert [path.rpartition("/")[2] for path in record["inputs"]] == ["gold.csv", "valid.csv", "made.csv"]


def test_tones_are_told_and_named(record):
    """One pitch a label: the head tells them, and the made ones are the same tones."""
    assert record["overall"]["score"] > 0.8
    assert all(row["generator"]["named"] == 3 for row in record["labels"])
    nearest = {row["label"]: row["nearest"] for row in record["labels"]}
    assert nearest["Hund, laut"]["name"] == "Hund, laut" and nearest["Hund, laut"]["same_words"]
    assert not nearest["001"]["same_words"] and -1 <= nearest["001"]["cosine"] <= 1


def test_the_table_beside_it_is_that_of_the_record(world, record):
    text = (world / "advise.txt").read_text(encoding="utf-8")
    assert text == script.text_of(record)
    lines = text.splitlines()
    assert lines[0].split()[0] == "label" and len(lines) == 1 + 3 + 1 + 4
    assert "12 gold clips, 9 generated ones" in text and "accuracy expected by number of gold clips: 12: " in text
    assert lines[-1] == f"advice for all labels: {record['overall']['advice']}: {record['overall']['reason']}"


def test_a_label_that_orders_the_terminal_is_shown(record):
    record = {**record, "labels": [{**record["labels"][0], "label": "a\x1b[2Jb"}]}
    assert "\x1b" not in script.text_of(record) and "a\\x1b[2Jb" in script.text_of(record)


@pytest.mark.slow
def test_a_label_without_generated_clips_is_not_advised_to_synthesise(world):
    table = pd.read_csv(world / "made.csv", dtype=str, keep_default_na=False)
    table[table["label"] != "001"].to_csv(world / "fewer.csv", index=False)
    done = ask(world, "fewer.json", made_csv=world / "fewer.csv")
    assert done.returncode == 0, done.stderr
    row = json.loads((world / "fewer.json").read_text(encoding="utf-8"))["labels"][0]
    assert row["label"] == "001" and row["generator"] is None and row["advice"] != "synthesise"
    assert " - " in (world / "fewer.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("broken", ["gold", "valid", "made"])
def test_an_empty_table_is_refused(world, broken):
    (world / "none.csv").write_text("path,label\n", encoding="utf-8")
    done = ask(world, "none.json", **{f"{broken}_csv": world / "none.csv"})
    assert done.returncode == 2 and f"none.csv: no clips; the {broken} data needs at least one" in done.stderr
    assert not (world / "none.json").exists()


# the numbers, of a trial made by hand


def question(clips=12, valid=8):
    task = make_task(clips=clips, valid=valid)
    return script.Question(task, made_clips(6), ["a", "b", "c"], Units(np.arange(clips + valid), "clips"))


def trial(gain, right=None, sizes=(4.0, 8.0, 16.0), weights=()):
    """20 pairs whose labels come in turn."""
    gain = np.broadcast_to(gain, (2, 20)).astype(float)
    right = np.full((3, 20), 0.5) if right is None else right
    labels = np.arange(20) % 3
    return Trial("fusion", {}, np.arange(20), labels, np.array(sizes), right, gain, gain, np.array(weights))


def test_no_change_is_no_gain_and_not_sure():
    """Of 20 clips one could have been another: an interval of 0 to 0 would say too much."""
    whole, each = script.gains_of(trial(0.0), question(), 0)
    assert whole.mean == 0 and whole.error == pytest.approx(PRIOR_DEVIATION * 0.05 / np.hypot(PRIOR_DEVIATION, 0.05))
    assert [gain.mean for gain in each] == [0, 0, 0]


def test_the_same_gain_everywhere_is_found_but_for_the_shrinkage():
    whole, each = script.gains_of(trial(0.04), question(), 0)
    kept = PRIOR_DEVIATION**2 / (PRIOR_DEVIATION**2 + 0.05**2)
    assert whole.mean == pytest.approx(0.04 * kept) and {gain.mean for gain in each} == {whole.mean}


def test_a_label_that_gains_much_more_has_its_own_gain():
    labels = np.arange(20) % 3
    whole, each = script.gains_of(trial(np.where(labels == 0, 0.9, 0.0)), question(), 0)
    assert each[0].mean > 0.8 and abs(each[1].mean) < 0.05 and each[0].interval[0] > 0
    assert 0 < whole.mean < 0.315  # what was measured of all


def test_the_error_now_is_that_of_all_gold_clips():
    """1 - right is .4, .2, .1 at 4, 8, 16 clips: 1.6 / n, and every clip says so, but for half a clip more."""
    right = np.repeat([[0.6], [0.8], [0.9]], 20, axis=1)
    one, asked = trial(0.0, right), question(clips=12)
    curve = script.curve_of(one, asked, 0)
    assert curve.exponent[0] == pytest.approx(1, abs=0.15)
    error, errors = script.label_errors_now(one, 3, curve, 32)
    assert error == pytest.approx(0.1 / 2, rel=0.15)
    np.testing.assert_allclose(errors, error)  # all labels alike
    assert script.label_errors_now(one, 3, None, 32)[0] == pytest.approx(0.1)


def test_too_few_clips_have_no_curve():
    one = trial(0.0, sizes=(3.0, 3.0, 3.0))
    assert script.curve_of(one, question(), 0) is None and script.curve_record(one, None, 3) is None
    assert script.said(script.gains_of(one, question(), 0)[0], 0.4, 3, 0.0, False)["advice"] == "nothing to gain"


def test_one_recording_tells_nothing():
    asked = replace(question(), units=Units(np.zeros(20, int), "groups"))
    whole, _ = script.gains_of(trial(0.5), asked, 0)
    assert whole.interval[0] < 0 < whole.interval[1] and whole.mean < 0.01
    assert isinstance(script.said(whole, 0.3, 12, 0.5, False)["advice"], str) and Advice("record", 3, "").text
