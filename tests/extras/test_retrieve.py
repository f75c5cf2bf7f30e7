"""The script extras/retrieve.py: the nearest clips of a corpus, each once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from synthio.data.inspect_sound import inspect
from tests.browser import PHONE, needs_chromium, opened, saved
from tests.driver.test_run import LABELS, rows_of
from tests.driver.toy import save_world
from tests.running import wait_until
from tests.scripts import ROOT, call_script


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tones in three folds, and tiny models."""
    return save_world(tmp_path_factory.mktemp("a world"))


def test_retrieval_takes_the_nearest_pairs_once():
    from tests.scripts import load_script

    script = load_script(ROOT / "extras/retrieve.py")
    similarity = np.array([[0.9, 0.8, 0.1, 0.7], [0.95, 0.2, 0.3, 0.6]])
    hashes = ["h0", "h1", "h2", "h3"].__getitem__
    assert script.assign(similarity, 1, hashes, {}) == [(0, 1), (1, 0)]  # clip 0 is nearer to gold clip 1
    assert script.assign(similarity, 1, hashes, {"h0"}) == [(0, 1), (1, 3)]
    assert script.assign(similarity, 9, hashes, {}) == [(0, 1), (0, 3), (1, 0), (1, 2)]
    assert script.assign(similarity, 2, lambda clip: "same", {}) == [(1, 0)]


def test_retrieval_passes_over_clips_of_the_test_set(world, tmp_path):
    """The corpus holds the gold clips and the test clips under other names; neither is taken."""
    gold, test, corpus = (tmp_path / f"{name}.csv" for name in ("gold", "test", "corpus"))
    clips = sorted(world.glob("audio fold*.wav"))
    for csv_path, chosen in ((gold, clips[:3]), (test, clips[3:6])):
        rows = "".join(f"{path},{LABELS[0]},{inspect(str(path)).sha256}\n" for path in chosen)
        csv_path.write_text(f"path,label,sha256\n{rows}")
    for i, path in enumerate(clips[:8]):
        shutil.copy(path, tmp_path / f"corpus {i}.wav")
    corpus.write_text("path\n" + "".join(f"corpus {i}.wav\n" for i in range(8)))
    words = ["--gold_csv", gold, "--corpus_csv", corpus, "--exclude_csvs", test, "--output_csv", tmp_path / "out.csv"]
    done = call_script(ROOT / "extras/retrieve.py", *words, "--num_clips", 1, "--model", world / "clap")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.csv")
    assert {row["path"] for row in rows} == {"corpus 6.wav", "corpus 7.wav"}  # two of the three clips wanted
    assert len(rows) == 2 and all(row["source_path"] and row["label"] == LABELS[0] for row in rows)


# ---- --suggest


@pytest.fixture(scope="module")
def suggested(world, tmp_path_factory):
    """(folder, what was printed): recordings that hold a gold clip, a test clip, one that is no sound, and others."""
    folder = tmp_path_factory.mktemp("suggest")
    gold, others = rows_of(world / "fold 1.csv"), rows_of(world / "fold 2.csv")
    for name, rows in (("gold", gold), ("test", others[:1])):
        lines = [f'{world / r["path"]},"{r["label"]}",{inspect(str(world / r["path"])).sha256}\n' for r in rows]
        (folder / f"{name}.csv").write_text("path,label,sha256\n" + "".join(lines), encoding="utf-8")
    (folder / "in, here/deep").mkdir(parents=True)
    for i, row in enumerate([gold[0], *others]):
        shutil.copy(world / row["path"], folder / f"in, here/deep/{i}.wav")
    (folder / "in, here/broken.wav").write_bytes(b"RIFF no sound")
    return folder, suggest(world, folder)


def suggest(world, folder, *words, **changes):
    chosen = {"suggest": folder / "in, here", "gold_csv": folder / "gold.csv", "exclude_csvs": folder / "test.csv"}
    chosen |= {"output_csv": folder / "out.csv", "model": world / "clap", "num_clips": 1, "num_uncertain": 1, **changes}
    given = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return call_script(ROOT / "extras/retrieve.py", *given, *words)


def test_suggestions_leave_out_what_has_a_label(world, suggested):
    folder, done = suggested
    assert done.returncode == 0, done.stderr
    assert "left out: " in done.stderr and "broken.wav: " in done.stderr
    assert "out.html: 4 of 7 recordings" in done.stdout
    rows = rows_of(folder / "out.csv")
    assert [row["kind"] for row in rows] == ["nearest"] * 3 + ["unsure"]
    assert [row["label"] for row in rows[:3]] == sorted(LABELS)
    names = [row["path"].rpartition("/")[2] for row in rows]
    assert len(set(names)) == 4 and not {"0.wav", "1.wav"} & set(names)  # a gold clip, and a test clip
    assert all(row["path"].startswith("in, here/deep/") for row in rows)


@needs_chromium
def test_suggestions_are_labelled_in_a_browser(world, suggested, tmp_path):
    """What is kept has the suggested label, what is relabelled another; prepare.py takes the CSV."""
    folder, _ = suggested
    rows = rows_of(folder / "out.csv")
    with opened(folder / "out.html", profile=tmp_path / "profile") as page:
        cards = page.locator("article[data-clip]")
        assert cards.count() == 4
        page.keyboard.press("n")
        page.keyboard.press("k")
        page.keyboard.press("d")
        cards.nth(3).locator(".new-label").select_option(LABELS[1])
        csv = saved(page, tmp_path)
    assert csv.name == "labels.csv"
    found = rows_of(csv)
    assert list(found[0]) == ["path", "label"]
    assert found[0] == {"path": str(folder / rows[0]["path"]), "label": rows[0]["label"]}
    assert found[1] == {"path": str(folder / rows[3]["path"]), "label": LABELS[1]} and len(found) == 2
    words = ["csv", "--source", csv, "--output_folder", tmp_path / "made", "--as_split", "train"]
    done = call_script(ROOT / "dataset_csvs/prepare.py", *words)
    assert done.returncode == 0, done.stderr
    assert {row["label"] for row in rows_of(tmp_path / "made/train.csv")} == {row["label"] for row in found}


@needs_chromium
def test_suggestions_fit_a_phone_and_can_be_listened_to(suggested, tmp_path):
    with opened(suggested[0] / "out.html", PHONE, tmp_path / "profile") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.keyboard.press("n")
        page.keyboard.press("l")
        player = page.locator("audio").first
        wait_until(lambda: player.evaluate("audio => audio.currentTime > 0.05"), "a sound", 20)


def test_what_suggest_refuses(world, suggested, tmp_path):
    folder, _ = suggested
    done = suggest(world, folder, "--corpus_csv", folder / "gold.csv")
    assert done.returncode == 2 and "give either --corpus_csv, clips to choose from, or --suggest" in done.stderr
    done = suggest(world, folder, suggest=tmp_path / "none")
    assert done.returncode == 2 and "no such folder" in done.stderr
    done = suggest(world, folder, suggest=tmp_path)
    assert done.returncode == 2 and "no sound files there that can be read" in done.stderr
    shutil.copy(folder / "in, here/deep/0.wav", tmp_path)
    done = suggest(world, folder, suggest=tmp_path, output_csv=tmp_path / "x.csv")
    assert done.returncode == 2 and "every recording has a label already" in done.stderr
