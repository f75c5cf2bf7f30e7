"""quality.json: its numbers against closed forms and other libraries, the script, and the report's table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthio.audio import read_audio, write_wav
from synthio.report import quality, quality_metrics
from tests.classification.toy_clips import RATE, TRAIN, save_tiny_ast, save_tones
from tests.report.test_page import LABELS, Page, make_report, save_run
from tests.scripts import ROOT, call_script
from tests.tiny_models import save_clap

SCRIPT, HEADS = ROOT / "synthio/report/quality.py", ROOT / "ast/heads.py"


# ---------------------------------------------------------------- the script


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Models; tones as gold, validation and test clips; a merged CSV whose synthetic clips are tones and odd ones."""
    folder = tmp_path_factory.mktemp("quality")
    save_tiny_ast(folder / "ast")
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("gold", 12), ("valid", 12), ("test", 6), ("made", 12)]):
        save_tones(folder, name, clips, seed)
    gold, made = (pd.read_csv(folder / f"{n}.csv", dtype=str, keep_default_na=False) for n in ("gold", "made"))
    rng = np.random.default_rng(0)
    texture = {name: rng.normal(size=(1, RATE)).astype(np.float32) * 0.1 for name in ("gold", "test", "own")}
    write_wav(folder / "gold/0.wav", texture["gold"], RATE)  # noise, as tones are steady: no copy is told from a like
    write_wav(folder / "test/0.wav", texture["test"], RATE)
    for place, name in (("made/0", "gold"), ("made/3", "test"), ("made/6", "own"), ("made/9", "own")):
        write_wav(folder / f"{place}.wav", 0.5 * texture[name], RATE)
    made.loc[1, "label"], made.loc[2, "label"] = "Hund, laut", "001"  # two that sound like another label
    made = made.assign(
        source_path=list(gold["path"]), prompt=[f"A {label} number {i}" for i, label in made["label"].items()]
    )
    pd.concat([gold, made]).fillna("").to_csv(folder / "merged.csv", index=False)
    return folder


def train(data: Path, script: Path, out: Path, **more) -> Path:
    csvs = {"train_csv": data / "gold.csv", "valid_csv": data / "valid.csv", "test_csv": data / "test.csv"}
    chosen = csvs | {"output_folder": out, "device": "cpu", **more}
    done = call_script(script, *(part for name, value in chosen.items() for part in (f"--{name}", value)))
    assert done.returncode == 0, done.stderr
    return out


def measure(data: Path, out: Path, **changes):
    chosen = {f"{name}_csv": data / f"{name}.csv" for name in ("gold", "valid", "test")}
    chosen |= {
        "input_csv": data / "merged.csv",
        "ast_model": data / "ast",
        "output_json": out,
        "device": "cpu",
        **changes,
    }
    chosen |= {"cache_folder": data / "cache"}
    done = call_script(SCRIPT, *(part for name, value in chosen.items() for part in (f"--{name}", value)))
    return done, json.loads(out.read_text()) if out.is_file() else {}


@pytest.fixture(scope="module")
def measured(data):
    """(what was printed, quality.json) with an AST as the classifier and CLAP."""
    recipe = {"num_steps": 60, "batch_size": 8, "learning_rate": 3e-3, "seed": 3}
    train(data, TRAIN, data / "classifier", model=data / "ast", **recipe)
    done, record = measure(data, data / "quality.json", classifier=data / "classifier", clap_model=data / "clap")
    assert done.returncode == 0, done.stderr
    return done.stderr, record


def test_everything_is_there_for_each_class_and_for_all(measured):
    printed, record = measured
    assert [part["label"] for part in record["per_class"]] == ["001", "Hund, laut", "NA"]
    wanted = {"clips", "kad", "fad", "diversity", "agreement", "duplicates", "captions"}
    assert all(part.keys() == wanted | {"label"} for part in record["per_class"])
    assert record["overall"].keys() == wanted | {"balance"}
    assert record["overall"]["clips"] == {"synthetic": 12, "gold": 12, "valid": 12}
    assert [part["clips"]["synthetic"] for part in record["per_class"]] == [4, 4, 4]
    assert record["overall"]["balance"] == {"evenness_gold": pytest.approx(1), "evenness_synthetic": pytest.approx(1)}
    assert record["dimensions"] == 32 and record["overall"]["captions"]["unique"] == 1
    assert len(record["inputs"]) == 4 and record["judges"]["embeddings"]["note"] == "independent of the filter"
    assert "not independent" in record["judges"]["clap"]["note"]
    assert len([line for line in printed.splitlines() if line.startswith(("KAD", "label heard"))]) == 2


def test_what_parts_bought_is_measured_where_their_clips_are_given(data, measured, tmp_path):
    """The gold clips stand for losers, and themselves for what the adapter makes of these: nothing was bought."""
    gold = pd.read_csv(data / "gold.csv", dtype=str, keep_default_na=False)
    gold["path"] = [str(data / path) for path in gold["path"]]
    losers = gold.assign(seed=[str(row) for row in range(len(gold))], part="alignment")
    losers.to_csv(tmp_path / "losers.csv", index=False)
    csvs = {"losers_csv": tmp_path / "losers.csv", "again_csvs": tmp_path / "losers.csv"}
    done, record = measure(data, tmp_path / "q.json", classifier=data / "classifier", **csvs)
    assert done.returncode == 0, done.stderr
    rows = record["attribution"]["parts"]["alignment"]
    assert {row["told"] for row in rows} == {"not to be told"} and all(row["difference"] == 0 for row in rows)
    heard = next(row for row in rows if row["measure"] == "agreement")
    assert heard["before"] > 0.5, "it was trained on these"
    assert "alignment: not to be told: KAD to validation clips, " in done.stderr
    assert measured[1]["attribution"] == {"parts": {}, "rounds": []}


def test_copies_are_counted_where_they_are(measured):
    """made/0 is a gold clip at half its level, made/3 a test clip, and made/9 is made/6."""
    copies = measured[1]["overall"]["duplicates"]
    assert copies == {"gold": 1, "valid": 0, "test": 1, "synthetic": 1, "gold_among_gold": 0}
    by_class = {part["label"]: part["duplicates"] for part in measured[1]["per_class"]}
    assert by_class["NA"] == {"gold": 1, "valid": 0, "test": 1, "synthetic": 1, "gold_among_gold": 0}
    assert by_class["001"] == dict.fromkeys(copies, 0)


def test_agreement_is_what_the_classifier_says_of_each_clip(data, measured):
    from transformers import pipeline

    listen = pipeline("audio-classification", model=str(data / "classifier/model"))
    merged = pd.read_csv(data / "merged.csv", dtype=str, keep_default_na=False)
    made = merged[merged["source_path"] != ""]
    heard = [listen(read_audio(data / path, RATE)[0][0])[0]["label"] for path in made["path"]]
    found = measured[1]["overall"]["agreement"]["classifier"]
    assert found["synthetic"] == pytest.approx(np.mean([a == b for a, b in zip(heard, made["label"], strict=True)]))
    scores = json.loads((data / "classifier/scores.json").read_text())
    assert found["valid"] == pytest.approx(scores["best_valid"]["accuracy"])
    assert found["synthetic"] < found["valid"]  # two labels are wrong


def test_noise_is_farther_from_real_clips_than_tones_are(data, measured, tmp_path):
    folder = tmp_path / "noise"
    shutil.copytree(data / "made", folder / "made")
    shutil.copytree(data / "gold", folder / "gold")
    shutil.copy(data / "merged.csv", folder)
    rng = np.random.default_rng(0)
    for path in (folder / "made").glob("*.wav"):
        write_wav(path, rng.normal(size=(1, RATE)).astype(np.float32) * 0.2, RATE)
    done, noise = measure(data, tmp_path / "q.json", input_csv=folder / "merged.csv")
    assert done.returncode == 0 and noise["overall"]["agreement"] == {}
    tones = measured[1]
    for name in ("fad", "kad"):
        far, near = (record["overall"][name]["synthetic_to_valid"]["value"] for record in (noise, tones))
        assert far > 2 * near
        floor = [record["overall"][name]["gold_to_valid"] for record in (noise, tones)]
        assert floor[0] == floor[1]
    assert "extrapolated" not in tones["overall"]["fad"]["synthetic_to_valid"]  # 12 clips, 32 dimensions


@pytest.fixture(scope="module")
def heads(data):
    """Two heads of ast/heads.py on the gold clips."""
    chosen = {"train_csv": "gold.csv", "valid_csv": "valid.csv", "test_csv": "test.csv", "ast_model": "ast"}
    chosen |= {"clap_model": "clap", "output_folder": "heads", "cache_folder": "cache"}
    words = [part for name, value in chosen.items() for part in (f"--{name}", data / value)]
    done = call_script(HEADS, *words, "--device", "cpu", "--heads", "probe_ast", "probe")
    assert done.returncode == 0, done.stderr
    return data / "heads"


NOTES = {"probe_ast": "independent of the filter", "probe": quality.NOT_INDEPENDENT}


@pytest.mark.parametrize(("head", "note"), NOTES.items())
def test_a_head_as_the_classifier(data, measured, heads, tmp_path, head, note):
    """One that hears through CLAP, which filters, is no independent judge."""
    done, record = measure(data, tmp_path / "q.json", classifier=heads / head)
    assert done.returncode == 0, done.stderr
    scores = json.loads((heads / head / "scores.json").read_text())
    assert record["overall"]["agreement"]["classifier"]["valid"] == pytest.approx(scores["best_valid"]["accuracy"])
    assert record["judges"]["classifier"]["note"] == note


def test_a_classifier_in_the_filter_is_told(data, measured, tmp_path):
    _, record = measure(data, tmp_path / "q.json", classifier=data / "classifier", classifier_weight=0.3)
    assert record["judges"]["embeddings"]["note"] == record["judges"]["classifier"]["note"] == quality.NOT_INDEPENDENT


def test_labels_of_test_clips_are_not_read(data, measured, tmp_path):
    table = pd.read_csv(data / "test.csv", dtype=str, keep_default_na=False)
    table[["path"]].to_csv(data / "unlabelled.csv", index=False)
    _, record = measure(data, tmp_path / "q.json", test_csv=data / "unlabelled.csv", classifier=data / "classifier")
    assert record["overall"]["duplicates"] == measured[1]["overall"]["duplicates"]


def test_a_class_with_one_clip_has_no_distances(data, tmp_path):
    merged = pd.read_csv(data / "merged.csv", dtype=str, keep_default_na=False)
    is_made = merged["source_path"] != ""
    few = pd.concat([merged[~is_made], merged[is_made].iloc[[1, 2, 4]]])
    few.to_csv(data / "few.csv", index=False)
    done, record = measure(data, tmp_path / "q.json", input_csv=data / "few.csv")
    assert done.returncode == 0, done.stderr
    by_class = {part["label"]: part for part in record["per_class"]}
    assert by_class["NA"]["clips"]["synthetic"] == 0 and by_class["NA"]["captions"]["distinct_1"] == 0
    assert by_class["NA"]["fad"]["synthetic_to_valid"]["value"] is None
    row = quality.table(record)["rows"][3]
    assert row[:4] == ["NA", "0", "4", "-"] and row[5] == "- (-), 0"


def test_gold_alone_is_refused(data, tmp_path):
    merged = pd.read_csv(data / "merged.csv", dtype=str, keep_default_na=False)
    merged[merged["source_path"] == ""].to_csv(data / "recordings.csv", index=False)
    done, _ = measure(data, tmp_path / "q.json", input_csv=data / "recordings.csv")
    assert done.returncode == 2 and "none is synthetic" in done.stderr


# ---------------------------------------------------------------- the report


def test_the_report_shows_it_while_it_is_of_this_run(data, tmp_path):
    work = save_run(tmp_path / "w", "hub/clap", rounds=1, dpo=False)
    csvs = {"input_csv": work / "train_8_synthetic.csv", "gold_csv": work / "train_8.csv"}
    done, record = measure(data, work / "quality.json", **csvs, valid_csv=work / "train_8.csv")
    assert done.returncode == 0, done.stderr
    page = Page(make_report(work, "--map", "false", "--max_clips", 0)[0])
    assert "quality" in page.sections and "#quality" in {link["href"] for link in page.all("a")}
    text = " ".join(page.text.split())
    assert "KAD to validation" in text and "embeddings: independent of the filter." in text
    near = record["overall"]["kad"]["synthetic_to_valid"]
    assert f"all 6 8 {near['value']:.2f} ± {near['error']:.2f}" in text
    assert LABELS[1] in page.text and "script" not in {tag for tag, _ in page.elements}
    assert "bought" not in page.sections, "there was nothing to compare"
    row = {"measure": "agreement", "before": 0.25, "after": 0.5, "difference": 0.25, "interval_95": [0.1, 0.4]}
    record["attribution"]["parts"] = {"alignment": [row | {"told": "better"}]}
    (work / "quality.json").write_text(json.dumps(record))
    page = Page(make_report(work, "--map", "false", "--max_clips", 0)[0])
    assert "bought" in page.sections and "label heard 0.25 0.50 +0.25; +0.10 to +0.40 better" in " ".join(
        page.text.split()
    )
    record["inputs"] = {"of another run": "0"}
    (work / "quality.json").write_text(json.dumps(record))
    assert "quality" not in Page(make_report(work, "--map", "false", "--max_clips", 0)[0]).sections


# ---------------------------------------------------------------- distances of few clips


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> np.ndarray:
    """AST's embeddings of procedural clips of the demo's labels, 4 of each: one distribution, [40, 192]."""
    from synthio.classification.listening import Listener
    from synthio.files import EMBEDDED
    from synthio.sounds import DEMO_LABELS, SAMPLE_RATE, make_clip

    folder = tmp_path_factory.mktemp("sounds")
    paths = []
    for label in DEMO_LABELS[:10]:
        for i in range(4):
            paths.append(folder / f"{label} {i}.wav")
            write_wav(paths[-1], make_clip(label, np.random.default_rng(i), 1.0).audio[None], SAMPLE_RATE)
    listener = Listener({"ast": str(EMBEDDED / "ast")}, folder / "cache", "cpu")
    return listener.hear([str(path) for path in paths], "sounds.csv")["ast"]


def halves_of(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(seed).permutation(len(x))
    return x[rows[: len(x) // 3]], x[rows[len(x) // 3 :]]


def test_kernel_distance_of_one_distribution_is_0_within_its_error(embedded):
    """Of real embeddings, in parts of 13 and 27 clips, where the Fréchet distance is far above 0."""
    bandwidth = quality_metrics.median_distance(embedded)
    found = [quality_metrics.kernel_distance(*halves_of(embedded, seed), bandwidth) for seed in range(60)]
    values, errors = np.array(found).T
    assert abs(values.mean()) < values.std() / 3 and abs(values.mean()) < errors.mean() / 3
    assert (values < 0).mean() > 0.3  # an unbiased estimate of 0 is as often below it
    assert np.mean(np.abs(values) < 2 * errors) > 0.9
    frechet = [quality_metrics.frechet_distance(*halves_of(embedded, seed)) for seed in range(10)]
    spread = np.var(embedded, axis=0).sum()
    assert min(frechet) > 0.3 * spread  # all of it bias


def test_kernel_distance_tells_two_distributions_apart(embedded):
    bandwidth = quality_metrics.median_distance(embedded)
    value, error = quality_metrics.kernel_distance(
        embedded[:20], embedded[20:], bandwidth
    )  # five labels and five others
    assert value > 2 * error


def test_kernel_distance_by_hand_and_its_error_by_leaving_out():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(8, 3)) + 0.5

    def by_hand(a, b):
        k = lambda p, q: np.exp(-((p - q) ** 2).sum() / (2 * 1.7**2))  # noqa: E731
        within = [np.mean([k(c[i], c[j]) for i in range(len(c)) for j in range(len(c)) if i != j]) for c in (a, b)]
        return 100 * (sum(within) - 2 * np.mean([k(p, q) for p in a for q in b]))

    value, error = quality_metrics.kernel_distance(x, y, 1.7)
    assert value == pytest.approx(by_hand(x, y))
    without_x = [by_hand(np.delete(x, i, axis=0), y) for i in range(6)]
    without_y = [by_hand(x, np.delete(y, i, axis=0)) for i in range(8)]
    assert error == pytest.approx(np.sqrt(5 * np.var(without_x) + 7 * np.var(without_y)))
    with pytest.raises(ValueError, match="3 clips on either side, not 2 and 8"):
        quality_metrics.kernel_distance(x[:2], y, 1.0)


def test_the_bandwidth_is_the_median_distance():
    assert quality_metrics.median_distance(np.array([[0.0], [1.0], [3.0]])) == 2  # 1, 2, 3
    assert quality_metrics.median_distance(np.zeros((3, 2))) == 1  # all equal: any does


def test_frechet_distances_are_of_as_many_clips(embedded):
    """60 synthetic clips of the gold clips' own distribution are as far as those, not nearer because they are more."""
    rng = np.random.default_rng(1)
    sets = {
        "synthetic": rng.normal(size=(90, 12)),
        "gold": rng.normal(size=(15, 12)),
        "valid": rng.normal(size=(40, 12)),
    }
    found = quality.fad(sets, 0)
    assert all(record["clips"] == [15, 15] for record in found.values())
    to_valid = [found[f"{name}_to_valid"]["value"] for name in ("synthetic", "gold")]
    assert to_valid[0] == pytest.approx(to_valid[1], rel=0.3)
    plain = [quality_metrics.frechet_distance(sets[name], sets["valid"]) for name in ("synthetic", "gold")]
    assert plain[0] < 0.6 * plain[1]


@pytest.mark.parametrize(("clips", "is_there"), [(12, False), (13, True)])
def test_the_extrapolation_is_left_out_up_to_as_many_clips_as_dimensions(clips, is_there):
    rng = np.random.default_rng(0)
    sets = {
        "synthetic": rng.normal(size=(clips, 12)),
        "gold": rng.normal(size=(40, 12)),
        "valid": rng.normal(size=(50, 12)),
    }
    found = quality.fad(sets, 0)
    assert all(("extrapolated" in record) == is_there for record in found.values())
    if not is_there:
        with pytest.raises(ValueError, match="more than 12 dimensions"):
            quality_metrics.frechet_extrapolated(sets["synthetic"], sets["valid"], rng)
