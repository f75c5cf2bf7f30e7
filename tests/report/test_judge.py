"""Whether clips are made with the adapter: the rule on known numbers, and the script on tones."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from synthio.report import judge
from tests.classification.toy_clips import save_tiny_ast, save_tones
from tests.scripts import ROOT, call_script

SCRIPT = ROOT / "synthio/report/judge.py"


def hits(of: int, clips: int = 60) -> np.ndarray:
    """1 for the first `of` clips, else 0."""
    return (np.arange(clips) < of).astype(float)


@pytest.mark.parametrize(
    ("without", "having", "told", "used"),
    [
        (40, 20, "worse", False),
        (40, 38, "not to be told", True),
        (20, 40, "better", True),
        (40, 40, "not to be told", True),
    ],
)
def test_only_what_is_worse_beyond_chance_is_not_used(without, having, told, used):
    found = judge.verdict(hits(without), hits(having), seed=0)
    row = found["agreement"]
    assert found["used"] is used and row["told"] == told and found["clips"] == 60
    assert row["difference"] == pytest.approx((having - without) / 60)
    assert row["interval_95"][0] <= row["difference"] <= row["interval_95"][1]
    # of pairs, 20 of 60 of which changed: the standard error is that of a share of a third
    if without - having == 20:
        assert np.ptp(row["interval_95"]) == pytest.approx(2 * 1.96 * np.sqrt(2 / 9 / 60), rel=0.15)


def test_four_clips_tell_nothing():
    found = judge.verdict(np.ones(4), np.zeros(4), seed=0)
    assert found["used"] is True and found["agreement"]["interval_95"] is None
    assert judge.sentence(found) == (
        "the label is heard in 0% of 4 clips with the adapter and in 100% of those without it: it is used"
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Gold tones; losers that sound like their labels; and as many with the adapter, half as they are, half not."""
    folder = tmp_path_factory.mktemp("judged")
    save_tiny_ast(folder / "ast")
    for seed, (name, clips) in enumerate([("gold", 12), ("losers", 30)]):
        save_tones(folder, name, clips, seed)
    losers = pd.read_csv(folder / "losers.csv", dtype=str, keep_default_na=False)
    losers = losers.assign(seed=[str(row) for row in range(len(losers))])
    losers.to_csv(folder / "losers.csv", index=False)
    # the sounds of other labels; in another order, for pairs are of one seed
    strange = losers.assign(path=np.roll(losers["path"], 1), part="alignment")[::-1]
    strange.to_csv(folder / "strange.csv", index=False)
    losers.assign(part="alignment")[::2].to_csv(folder / "same.csv", index=False)
    save_adapter(folder / "adapter", "{}")
    return folder


def save_adapter(folder, config):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(config)
    (folder / "adapter_model.safetensors").touch()


def ask(world, again: str, out: str, **more):
    chosen = {
        "losers_csv": world / "losers.csv",
        "again_csv": world / again,
        "gold_csv": world / "gold.csv",
        "adapter": world / "adapter",
        "output_json": world / out,
        "ast_model": world / "ast",
        "device": "cpu",
        **more,
    }
    return call_script(SCRIPT, *(part for name, value in chosen.items() for part in (f"--{name}", value)))


@pytest.mark.parametrize(("again", "clips", "used"), [("strange.csv", 30, False), ("same.csv", 15, True)])
def test_the_script_says_which(world, again, clips, used):
    done = ask(world, again, f"{again}.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((world / f"{again}.json").read_text())
    assert record["used"] is used and record["clips"] == clips and record["adapter"] == "adapter"
    assert record["agreement"]["before"] > 0.9, "the probe learnt from tones of these labels"
    assert done.stderr.splitlines()[-1].endswith(": it is used" if used else ": it is not used")


def test_another_adapter_makes_another_file(world):
    first = json.loads((world / "same.csv.json").read_text()) if (world / "same.csv.json").is_file() else None
    if first is None:
        assert ask(world, "same.csv", "same.csv.json").returncode == 0
        first = json.loads((world / "same.csv.json").read_text())
    save_adapter(world / "other", '{"r": 4}')
    assert ask(world, "same.csv", "other.json", adapter=world / "other").returncode == 0
    second = json.loads((world / "other.json").read_text())
    assert second["fingerprint"] != first["fingerprint"] and second["adapter"] == "other"


def test_a_clip_without_its_partner_is_told(world):
    again = pd.read_csv(world / "same.csv", dtype=str, keep_default_na=False).assign(seed="99")
    again.to_csv(world / "odd.csv", index=False)
    done = ask(world, "odd.csv", "odd.json")
    assert done.returncode == 2 and "odd.csv: seed 99 is not in" in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"adapter": "nowhere"}, "nowhere: no adapter_config.json"),
        ({"losers_csv": "gold.csv"}, "gold.csv: no column 'seed'"),
        ({"again": "gold.csv"}, "gold.csv: no column 'seed'"),
    ],
)
def test_what_is_no_adapter_and_no_pair_is_told_before_anything_is_heard(world, given, said):
    given = {name: world / value for name, value in given.items()}
    done = ask(world, given.pop("again", "same.csv"), "none.json", **given)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (world / "none.json").exists()
