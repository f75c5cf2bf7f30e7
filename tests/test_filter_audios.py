"""The script filter_audios.py: copies, bad audio, thresholds of every kind, and its picture."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.filtering.toy import RATE, SCORE, barks, encoded, run_filter, save_world
from tests.rows import rows_of, write_rows
from tests.tiny_models import save_clap
from tests.toy_clips import FILTER, LABELS, run, save_models, save_noise


@pytest.fixture
def data(tmp_path):
    """Seven gold clips of noise, with prompts."""
    return save_noise(tmp_path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models: flow and v text-to-audio, CLAP."""
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def world(tmp_path):
    """Gold, validation and test clips, and clips to filter."""
    return save_world(tmp_path)


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    """A tiny CLAP."""
    return save_clap(tmp_path_factory.mktemp("models") / "clap")


def add_clip(world, name, label="rain", source="clips.csv"):
    rows = rows_of(world / source)
    write_rows(world / source, [*rows, {"path": name, "label": label}])


def references(world):
    return ["--gold_csv", world / "gold.csv", "--valid_csv", world / "valid.csv", "--test_csv", world / "test.csv"]


def test_copies_of_gold_validation_and_test_clips_are_dropped_with_their_original(world, clap):
    changed = {"gold1": "near.ogg", "valid2": "near.flac", "test0": "near.wav"}
    for original, name in changed.items():
        audio, _ = soundfile.read(world / f"{original}.wav")
        encoded(world, 0.2 * audio, name)
        add_clip(world, name)
    good, rejected, printed = run_filter(world, clap, *references(world))
    assert len(good) == 8 and "rejected: 3 near-duplicates" in printed
    assert [Path(row["path"]).name for row in rejected] == list(changed.values())
    assert [Path(row["resembles"]).stem for row in rejected] == list(changed)
    for row, kind in zip(rejected, ("gold", "validation", "test"), strict=True):
        assert row["reason"].startswith(f"near-duplicate of the {kind} clip {Path(row['resembles']).name} (cosine ")
        assert float(row["nearest_cosine"]) > 0.9
        assert (world / row["resembles"]).is_file()  # relative to the CSV, as all paths
    assert all(row["resembles"] == "" and float(row["nearest_cosine"]) < 0.9 for row in good)
    assert len(run_filter(world, clap, *references(world), "--duplicate_cosine", 1)[0]) == 11
    strict = run_filter(world, clap, *references(world), "--duplicate_cosine", 0)
    assert strict[0] == [] and all("near-duplicate" in row["reason"] for row in strict[1])


def test_test_labels_have_no_part_in_the_filter(world, clap):
    words = [*references(world), "--threshold", "auto"]
    before = run_filter(world, clap, *words)
    rows = [{"path": row["path"]} for row in rows_of(world / "test.csv")]
    write_rows(world / "test.csv", rows)
    assert run_filter(world, clap, *words)[:2] == before[:2]


def test_without_references_nothing_is_a_copy(world, clap):
    shutil.copy(world / "gold0.wav", world / "same.wav")
    add_clip(world, "same.wav")
    good, rejected, _ = run_filter(world, clap)
    assert len(good) == 9 and rejected == [] and "nearest_cosine" not in good[0]


def test_repeats_of_better_clips_are_dropped_when_asked(world, clap):
    audio, _ = soundfile.read(world / "clips2.wav")
    encoded(world, 0.3 * audio, "again.ogg")
    add_clip(world, "again.ogg", "dog_bark")
    assert len(run_filter(world, clap)[0]) == 9
    good, rejected, printed = run_filter(world, clap, "--drop_repeats", "true")
    (out,) = rejected
    assert {Path(out["path"]).name, Path(out["resembles"]).name} == {"again.ogg", "clips2.wav"}
    assert "near-duplicate of the better clip" in out["reason"] and "1 repeats" in printed
    better = next(row for row in good if Path(row["path"]).name == Path(out["resembles"]).name)
    assert float(better["clap_score"]) >= float(out["clap_score"])
    earlier = write_rows(world / "round_0.csv", [{"path": "clips2.wav", "label": "dog_bark"}])
    write_rows(world / "one.csv", [{"path": "again.ogg", "label": "dog_bark"}])
    words = ["--drop_repeats", "true", "--earlier_csvs", earlier]
    _, (row,), _ = run_filter(world, clap, *words, source="one.csv")
    assert "near-duplicate of the earlier clip clips2.wav" in row["reason"]


@pytest.mark.parametrize(
    ("name", "audio", "reason"),
    [
        ("silent", np.zeros(RATE), "silent: peak -inf dBFS"),
        ("offset", np.full(RATE, 0.25), "silent"),  # a constant is no sound
        ("faint", np.full(RATE, 1e-4) * np.sin(np.arange(RATE)), "silent: peak -80 dBFS"),
        ("nan", np.where(np.arange(RATE) == 7, np.nan, 0.1), "NaN"),
        ("clipped", np.clip(4 * np.sin(np.arange(RATE)), -1, 1), "clipped: 83"),
    ],
)
def test_bad_audio_is_rejected_whatever_its_score(world, clap, name, audio, reason):
    soundfile.write(world / f"{name}.wav", audio.astype(np.float32), RATE, subtype="FLOAT")
    add_clip(world, f"{name}.wav")
    good, (row,), printed = run_filter(world, clap)
    assert len(good) == 8 and reason in row["reason"] and row["clap_score"] == ""
    assert "rejected: 1 unusable" in printed


def test_clipping_is_a_share_of_the_samples(world, clap):
    audio = 0.2 * barks(7, 1.0)
    audio[:160] = 1.0  # 1 % of a second
    for channels, name in ((1, "mono"), (2, "stereo")):
        sound = np.stack([audio, 0.2 * audio], axis=1)[:, :channels]
        soundfile.write(world / f"{name}.wav", sound, RATE, subtype="FLOAT")
        add_clip(world, f"{name}.wav")
    assert len(run_filter(world, clap)[0]) == 10  # 1 % and .5 %: not more than allowed
    _, (row,), _ = run_filter(world, clap, "--max_clipped", 0.009)
    assert Path(row["path"]).name == "mono.wav" and row["reason"] == "clipped: 1.0 % of the samples are at full scale"


def test_auto_threshold_is_the_quantile_of_the_validation_clips_scores(world, clap):
    real, _, _ = run_filter(world, clap, source="valid.csv", name="real")
    everything, _, _ = run_filter(world, clap)
    words = ["--threshold", "auto", "--auto_quantile", 0.5, "--valid_csv", world / "valid.csv"]
    good, rejected, printed = run_filter(world, clap, *words)
    median = {
        label: round(float(np.median([float(row[SCORE]) for row in real if row["label"] == label])), 6)
        for label in ("dog_bark", "rain")
    }
    expected = [row["path"] for row in everything if float(row[SCORE]) >= median[row["label"]]]
    assert [row["path"] for row in good] == expected and len(rejected) == 8 - len(expected)
    assert all("quantile of its 5 validation clips" in row["reason"] for row in rejected)
    assert "take that of all together" not in printed
    write_rows(world / "valid.csv", rows_of(world / "valid.csv")[:9])  # now 4 clips of rain
    assert "1 of 2 classes have fewer than 5" in run_filter(world, clap, *words)[2]
    soundfile.write(world / "silent.wav", np.zeros(RATE), RATE)
    write_rows(world / "valid.csv", [{"path": "silent.wav", "label": "rain"}])
    assert "no validation clip can be used" in run_filter(world, clap, *words, ok=False)


@pytest.mark.parametrize("kind", ["class_quantile", "rank"])
def test_each_class_keeps_its_share(world, clap, kind):
    good, rejected, _ = run_filter(world, clap, "--threshold_kind", kind, "--keep_percent", 50)
    assert Counter(row["label"] for row in good) == {"dog_bark": 2, "rain": 2}
    for label in ("dog_bark", "rain"):
        lowest = min(float(row[SCORE]) for row in good if row["label"] == label)
        assert all(float(row[SCORE]) < lowest for row in rejected if row["label"] == label)


def test_all_rejected_and_empty_input(world, clap):
    good, rejected, printed = run_filter(world, clap, "--threshold", 1)
    assert good == [] and len(rejected) == 8 and "8 below the threshold" in printed
    assert list(rejected[0]) == ["path", "label", SCORE, "clap_probability", "reason", "resembles"]
    write_rows(world / "none.csv", [])
    for kind in ("absolute", "class_quantile", "rank"):
        words = ["--threshold_kind", kind, *references(world), "--drop_repeats", "true"]
        assert run_filter(world, clap, *words, source="none.csv")[:2] == ([], [])


def test_columns_of_an_earlier_round_are_replaced(world, clap):
    plain = run_filter(world, clap)[0]
    stale = {"reason": "old", SCORE: "9", "resembles": "x.wav", "classifier_probability": "9", "rank_score": "9"}
    write_rows(world / "clips.csv", [row | stale for row in rows_of(world / "clips.csv")])
    assert run_filter(world, clap)[0] == plain


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "85"], "outside [0, 1]; give a probability or auto"),
        (["--threshold", "auto"], "give --valid_csv"),
        (["--threshold", "auto", "--threshold_kind", "rank"], "needs --threshold_kind absolute"),
        (["--classifier", "x"], "--threshold_kind rank"),
        (["--earlier_csvs", "x"], "--drop_repeats true"),
        (["--classifier", "x", "--threshold_kind", "rank"], "no model/ and scores.json"),
        (["--gold_csv", "/not/there.csv"], "no such CSV file"),
    ],
)
def test_mistakes_end_with_one_line(world, clap, words, message):
    printed = run_filter(world, clap, *words, ok=False)
    assert message in printed and "Traceback" not in printed


def test_a_reference_that_cannot_be_read_is_named(world, clap):
    (world / "gold1.wav").write_bytes(b"RIFF")
    assert "gold.csv row 2:" in run_filter(world, clap, *references(world), ok=False)


# ---- the picture


def test_the_picture_shows_kept_clips_rejected_clips_and_thresholds(world, clap):
    from matplotlib.image import imread

    green, black = (0, 158, 115), (0, 0, 0)

    def shows(colour):
        pixels = np.round(255 * imread(world / "f_kept.png")[..., :3]).astype(int)
        return bool((pixels == colour).all(axis=-1).any())

    write_rows(
        world / "clips.csv", [row | {"label": f"{row['label']} $x$ {'y' * 99}"} for row in rows_of(world / "clips.csv")]
    )
    run_filter(world, clap, "--threshold_kind", "rank", "--keep_percent", 50)
    first = (world / "f_kept.png").read_bytes()
    assert shows(green) and shows(black)
    run_filter(world, clap, "--threshold_kind", "rank", "--keep_percent", 50)
    assert (world / "f_kept.png").read_bytes() == first  # the same picture from the same scores
    write_rows(world / "none.csv", [])
    run_filter(world, clap, source="none.csv")
    assert not shows(green) and shows(black)  # "no clip has a score"


@pytest.fixture
def clips(data):
    """Clips to filter: noise of several colours, and one each of silence, NaN and a missing file."""
    rows = []
    rng = np.random.default_rng(1)
    for i in range(9):
        audio = np.cumsum(rng.normal(0, 0.01, 30000 + 9000 * i)) * 0.1 if i % 2 else rng.normal(0, 0.1, 20000)
        soundfile.write(data / f"audio/c{i}.wav", audio.astype(np.float32), 16000)
        rows.append({"path": f"audio/c{i}.wav", "label": LABELS[i % 3], "prompt": "x"})
    soundfile.write(data / "audio/silent.wav", np.zeros(16000), 16000)
    soundfile.write(data / "audio/nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    rows += [{"path": f"audio/{name}.wav", "label": "rain", "prompt": "x"} for name in ("silent", "nan", "missing")]
    write_rows(data / "clips.csv", rows)
    return data


def filtered(data, models, threshold, name="f", source="clips.csv", ok=True, **options):
    extra = [part for key, value in options.items() for part in (f"--{key}", value)]
    kept, rejected = data / f"{name}_kept.csv", data / f"{name}_rejected.csv"
    args = ["--input_csv", data / source, "--kept_csv", kept, "--rejected_csv", rejected, "--threshold", threshold]
    done = run(FILTER, *args, "--model", models / "clap", *extra, ok=ok)
    return rows_of(kept), rows_of(rejected), done


def test_filter_accounts_for_every_row_and_names_each_reason(models, clips):
    kept, rejected, _ = filtered(clips, models, 0)
    assert len(kept) == 9
    reasons = {Path(row["path"]).stem: row["reason"] for row in rejected}
    assert reasons.keys() == {"silent", "nan", "missing"}
    assert "silent" in reasons["silent"] and "NaN" in reasons["nan"] and "no such file" in reasons["missing"]
    assert all(row["reason"] == "" for row in kept)


def test_filter_threshold_splits_at_the_score(models, clips):
    everything, _, _ = filtered(clips, models, 0)
    scores = sorted(float(row["clap_probability"]) for row in everything)
    middle = (scores[3] + scores[4]) / 2
    kept, rejected, done = filtered(clips, models, middle, "half")
    assert len(kept) == 5
    assert all(float(row["clap_probability"]) >= middle for row in kept)
    assert sum("is below" in row["reason"] for row in rejected) == 4
    assert f"kept {len(kept)} of 12 clips" in done.stderr


def test_filter_score_is_the_models_own_cosine(models, clips):
    """Against ClapModel called directly on one clip of a single window, and on the mean of two windows."""
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    kept, _, _ = filtered(clips, models, 0)
    folder = models / "clap"
    model, extractor = ClapModel.from_pretrained(folder).eval(), ClapFeatureExtractor.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(
        ["Sound of a dog bark", "Sound of a rain"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        text = model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        text = torch.nn.functional.normalize(text, dim=-1)

        def embedded(window):
            features = extractor(window, sampling_rate=16000, return_tensors="pt")
            return torch.nn.functional.normalize(model.get_audio_features(**features).pooler_output, dim=-1)[0]

        audio = {i: soundfile.read(clips / f"audio/c{i}.wav", dtype="float32")[0] for i in (0, 1)}
        tiled = np.tile(audio[0], 2)[:32000]
        first = float(embedded(tiled) @ text[0])
        assert len(audio[1]) == 39000
        mean = (embedded(audio[1][:32000]) + embedded(audio[1][7000:])) / 2
        second = float(torch.nn.functional.normalize(mean, dim=-1) @ text[1])
    assert float(kept[0]["clap_score"]) == pytest.approx(first, abs=1e-5)
    assert float(kept[1]["clap_score"]) == pytest.approx(second, abs=1e-5)
    probability = 1 / (1 + math.exp(-float(model.logit_scale_a.exp()) * first))
    assert float(kept[0]["clap_probability"]) == pytest.approx(probability, abs=1e-5)


def test_filter_does_not_depend_on_batch_or_order(models, clips):
    kept, _, _ = filtered(clips, models, 0, batch_size=1)
    write_rows(clips / "back.csv", rows_of(clips / "clips.csv")[::-1])
    turned, _, _ = filtered(clips, models, 0, "back", source="back.csv", batch_size=5)
    assert {(r["path"], r["clap_score"]) for r in kept} == {(r["path"], r["clap_score"]) for r in turned}


def test_filter_empty_input(models, clips):
    write_rows(clips / "none.csv", [], ["path", "label"])
    kept, rejected, _ = filtered(clips, models, 0.5, source="none.csv")
    assert (kept, rejected) == ([], [])


def test_filter_refuses_a_threshold_that_is_no_probability(models, clips):
    done = run(FILTER, "--input_csv", "x", "--kept_csv", "x", "--rejected_csv", "x", "--threshold", "85", ok=False)
    assert "outside [0, 1]" in done.stderr
