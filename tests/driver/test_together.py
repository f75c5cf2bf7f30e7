"""What extends a run, in one: several generators, `--add_csv`, `--review`, and labels given to suggested recordings."""

from __future__ import annotations

import shutil

import pytest

from synthio.files import read_json
from tests.browser import needs_chromium, opened, saved
from tests.driver.test_review import save_review
from tests.driver.test_run import LABELS, call, options, save_tones, save_world, stage_answers
from tests.rows import rows_of
from tests.scripts import ROOT, call_script
from tests.tiny_models import save_text_to_audio

ADDED = ("--add_csv", "data/more.csv")
PAIR = {"text_to_audio_model": "models/t2a,models/t2b"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = save_world(tmp_path_factory.mktemp("a world"))
    save_tones(folder / "data", "more", 3)
    save_text_to_audio(folder / "models/t2b", seed=1)
    return folder


@pytest.fixture(scope="module")
def finished(world):
    """The folder of a run with two generators, up to its training CSV."""
    done = call(*options("two", stop_stage=9, **PAIR), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    return world / "two"


def models_of(rows) -> set[str]:
    return {row["model"].partition("@")[0] for row in rows}


@pytest.mark.slow
def test_clips_are_added_to_a_run_of_two_generators_and_reviewed(world, finished):
    """The generators share the new clips' prompts; decisions about old and new clips hold; nothing is made again."""
    work, clips = finished / "tiny set", finished / "tiny set_synthetic"
    before = {path: path.read_bytes() for path in clips.rglob("*.wav")}
    done = call(*options("two", stop_stage=9, **PAIR), *ADDED, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    new = rows_of(work / "added/round_0/generated.csv")
    assert models_of(new) == {"t2a", "t2b"} and {row["label"] for row in new} == set(LABELS)
    assert len(new) == 6 and [row["model"][:3] for row in new] == ["t2a", "t2b", "t2b", "t2a", "t2a", "t2b"]
    assert {path: path.read_bytes() for path in before} == before

    kept = [row for n in (0, 1) for row in rows_of(work / f"added/round_{n}/kept.csv")]
    rejected = [row for n in (0, 1) for row in rows_of(work / f"added/round_{n}/rejected.csv")]
    old, trained = rows_of(work / "round_0/kept.csv")[0], rows_of(work / "train_6_added_synthetic.csv")
    gold = rows_of(work / "checked/added.csv")
    other = next(label for label in LABELS if label != gold[0]["label"])
    decided = [(old, "drop", ""), (kept[0], "drop", ""), (rejected[0], "keep", ""), (gold[0], "relabel", other)]
    review = save_review(finished, *decided, (gold[1], "drop", ""))
    done = call(*options("two", **PAIR, review=review), *ADDED, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = {name for name, answer in stage_answers(done.stdout).items() if "running" in answer}
    assert {name for name in ran if not name.startswith("10 ")} == {
        "0 check review",
        "9 review",
        "9 merge",
        "9 dataset",
    }
    after = rows_of(work / "train_6_added_synthetic.csv")
    found = {row["sha256"]: row["label"] for row in after}
    assert len(after) == len(trained) - 3 + 1 and found[gold[0]["sha256"]] == other
    assert found[rejected[0]["sha256"]] == rejected[0]["label"]
    assert not {row["sha256"] for row in (old, kept[0], gold[1])} & found.keys()
    quality = read_json(work / "quality.json")
    made = sum(len(rows_of(path)) for path in work.rglob("round_*/generated.csv"))
    assert sum(one["made"] for one in quality["generators"]) == made
    page = (work / "report.html").read_text(encoding="utf-8")
    assert "added 0" in page and "t2a" in page and "t2b" in page
    again = call(*options("two", **PAIR, review=review), *ADDED, cwd=world)
    assert all("up to date" in answer for answer in stage_answers(again.stdout).values()), again.stdout


@pytest.mark.slow
@needs_chromium
def test_recordings_that_were_suggested_and_labelled_are_added(world, finished, tmp_path):
    """extras/retrieve.py --suggest, a click on its page, and the CSV that the browser saves."""
    copy = shutil.copytree(finished, world / "labelled")
    save_tones(tmp_path, "found", 6)
    (tmp_path / "found.csv").unlink()
    checked = [copy / "tiny set/checked" / f"{name}.csv" for name in ("valid", "test")]
    words = ("--gold_csv", copy / "tiny set/train_6.csv", "--exclude_csvs", *checked, "--num_uncertain", 1)
    more = ("--output_csv", tmp_path / "suggested.csv", "--model", world / "models/clap", "--num_clips", 1)
    done = call_script(ROOT / "extras/retrieve.py", "--suggest", tmp_path, *words, *more)
    assert done.returncode == 0, done.stderr
    with opened(tmp_path / "suggested.html", profile=tmp_path / "profile") as page:
        page.keyboard.press("n")
        page.keyboard.press("k")
        page.locator("article[data-clip]").nth(1).locator(".new-label").select_option(LABELS[2])
        labels = saved(page, tmp_path)
    chosen = rows_of(labels)
    assert len(chosen) == 2
    told = call(*options("labelled", **PAIR), "--add_csv", labels, "--check", cwd=world)
    assert told.returncode == 0, told.stdout
    done = call(*options("labelled", stop_stage=6, **PAIR), "--add_csv", labels, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    gold = rows_of(copy / "tiny set/train_6_added.csv")
    assert [row["label"] for row in gold[6:]] == [row["label"] for row in chosen] and len(gold) == 8
    assert models_of(rows_of(copy / "tiny set/added/round_0/generated.csv")) == {"t2a", "t2b"}
