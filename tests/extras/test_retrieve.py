"""The script extras/retrieve.py: the nearest clips of a corpus, each once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from synthio.data.inspect_sound import inspect
from tests.driver.test_run import LABELS, rows_of
from tests.driver.toy import save_world
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
