"""Which clips tell what a part bought: pairs by seed, kept and dropped, before and after the channel."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from synthio.cli import UserError
from synthio.manifest import read_manifest
from synthio.report.again import PartsOptions
from synthio.report.attribution import Reference
from synthio.report.parts import Arm, Ears, arms_of, by_seed, hits_of, measure_parts


def level(paths, csv) -> np.ndarray:
    """An ear that hears levels: embeddings [N, 2]."""
    rms = np.array([np.std(soundfile.read(path)[0]) for path in paths])
    return np.stack([rms, np.ones(len(rms))], axis=1)


def judge(paths, csv):
    """A classifier that hears "loud" above a level of .1."""
    loud = (level(paths, csv)[:, 0] > 0.1).astype(float)
    return np.stack([loud, 1 - loud], axis=1), ["loud", "quiet"]


@pytest.fixture
def run(tmp_path, make_wav, make_manifest):
    """Losers that are quiet, the same ones loud; two rounds of the filter; merged clips with unmatched ones."""

    def rows(name: str, loudness: float, seeds, **more):
        found = []
        for seed in seeds:
            path = f"{name}/{seed}.wav"
            make_wav(path, 0.3, seed=int(seed), level=loudness)
            found.append({"path": path, "label": "loud", "prompt": "p", "seed": str(seed), "source_path": path, **more})
        return found

    make_manifest("losers.csv", rows("losers", 0.05, range(8)))
    make_manifest("first.csv", rows("first", 0.5, range(20, 26)))
    make_manifest("again.csv", rows("again", 0.5, (5, 3, 1, 0, 2, 4), part="alignment"))
    make_manifest("plain.csv", rows("plain", 0.5, (22, 21), part="captions"))
    for number, (kept, dropped) in enumerate([(6, 4), (2, 1)]):
        reasons = ["clap_probability 0.1 is below 0.8", "near-duplicate of a.wav"]
        gone = rows(f"dropped_{number}", 0.05, range(dropped))
        make_manifest(f"round_{number}/kept.csv", [])
        table = [
            {**row, "path": f"../{row['path']}", "source_path": "", "reason": ""}
            for row in rows(f"kept_{number}", 0.5, range(kept))
        ]
        make_manifest(f"round_{number}/kept.csv", table)
        bad = [
            {**row, "path": f"../{row['path']}", "source_path": "", "reason": reasons[i == 3]}
            for i, row in enumerate(gone)
        ]
        make_manifest(f"round_{number}/rejected.csv", bad)
    merged = [{**row, "unmatched_path": f"losers/{i}.wav"} for i, row in enumerate(rows("merged", 0.5, range(6)))]
    make_manifest("merged.csv", merged)
    make_manifest("gold.csv", rows("gold", 0.5, range(4)))
    return tmp_path


def options_of(run, **more) -> PartsOptions:
    csvs = {f"{name}_csv": str(run / f"{name}.csv") for name in ("losers", "first")}
    again = tuple(str(run / f"{name}.csv") for name in ("again", "plain"))
    kept = tuple(str(run / f"round_{number}/kept.csv") for number in (0, 1))
    return PartsOptions(**{**csvs, "again_csvs": again, "kept_csvs": kept, "attribution_clips": 6, **more})


def arm(run, name) -> Arm:
    return Arm(read_manifest(run / f"{name}.csv"), str(run / f"{name}.csv"))


def test_pairs_have_one_seed_and_sets_are_of_all_rounds(run):
    arms = arms_of(options_of(run), arm(run, "merged"))
    assert {name: paired for name, (_, _, paired) in arms.items()} == {
        "alignment": True, "captions": True, "channel": True, "filter": False,
    }  # fmt: skip
    before, after, _ = arms["alignment"]
    assert list(before.table["seed"]) == list(after.table["seed"]) == ["5", "3", "1", "0", "2", "4"]
    assert all("/losers/" in path for path in before.table["path"]) and all("/again/" in p for p in after.table["path"])
    without, own, _ = arms["captions"]
    assert all("/plain/" in path for path in without.table["path"]) and all("/first/" in p for p in own.table["path"])
    assert list(own.table["seed"]) == ["22", "21"]
    unmatched, matched, _ = arms["channel"]
    assert all("/losers/" in p for p in unmatched.table["path"]) and all("/merged/" in p for p in matched.table["path"])
    dropped, kept, _ = arms["filter"]
    assert (len(dropped.table), len(kept.table)) == (4, 8), "a near-copy did not sound wrong"


def test_a_seed_without_a_partner_is_told(run):
    with pytest.raises(UserError, match=r"seed 22 is not in .*losers.csv"):
        by_seed(arm(run, "losers"), arm(run, "plain"))


def test_what_is_measured_of_a_run(run):
    valid = level([str(run / f"gold/{i}.wav") for i in range(4)], "")
    ears = Ears(level, judge, Reference(valid, 0.1))
    found = measure_parts(options_of(run), arm(run, "merged"), arm(run, "gold"), ears, seed=0)
    assert list(found["parts"]) == ["alignment", "captions", "channel", "filter"]
    alignment = {row["measure"]: row for row in found["parts"]["alignment"]}
    assert (alignment["agreement"]["before"], alignment["agreement"]["after"]) == (0, 1)
    assert alignment["kad"]["told"] == "better" and alignment["background_db"]["told"] == "better"
    assert alignment["background_db"]["difference"] == pytest.approx(-20, abs=3), "0.05 to 0.5"
    assert [(row["kept"], row["dropped"], row["agreement"]["share"]) for row in found["rounds"]] == [
        (6, 4, 1),
        (2, 1, 1),
    ]


def test_a_filter_that_drops_nothing_is_compared_with_nothing(run):
    """Its tables of rejected clips have a header and no row."""
    for number in (0, 1):
        csv = run / f"round_{number}/rejected.csv"
        csv.write_text(csv.read_text().splitlines()[0] + "\n")
    ears = Ears(level, judge, Reference(level([str(run / "gold/0.wav")], ""), 0.1))
    found = measure_parts(options_of(run), arm(run, "merged"), arm(run, "gold"), ears, seed=0)
    assert list(found["parts"]) == ["alignment", "captions", "channel"]
    assert [(row["kept"], row["dropped"]) for row in found["rounds"]] == [(6, 0), (2, 0)]


def test_without_a_judge_and_without_parts(run):
    ears = Ears(level, None, Reference(level([str(run / "gold/0.wav")], ""), 0.1))
    assert np.isnan(hits_of(arm(run, "gold"), ears.judge)).all()
    bare = Arm(arm(run, "merged").table.drop(columns="unmatched_path"), "merged.csv")
    assert measure_parts(PartsOptions(), bare, arm(run, "gold"), ears, seed=0) == {"parts": {}, "rounds": []}
