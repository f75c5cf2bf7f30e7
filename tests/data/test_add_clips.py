"""Clips that are added to a run: what goes to the training clips, and what is refused, each with its row."""

from __future__ import annotations

import pytest

from tests.rows import rows_of
from tests.scripts import ROOT, call_script

CHECK, ADD = ROOT / "synthio/data/check_inputs.py", ROOT / "synthio/data/add_clips.py"


@pytest.fixture
def run(make_wav, make_manifest, tmp_path):
    """run.add(rows, *words) adds rows to a checked run; run.wav(name) makes a sound of its own."""

    class Run:
        count = 0

        def wav(self, name: str, **options) -> str:
            Run.count += 1
            make_wav(f"data/{name}", 0.2, seed=Run.count, **options)
            return name

        def rows(self, split: str, count: int) -> list[dict]:
            names = [self.wav(f"{split}{i}.wav") for i in range(count)]
            return [{"path": name, "label": "ab"[i % 2], "group": f"{split} {i}"} for i, name in enumerate(names)]

        def add(self, rows: list[dict], *words, ok: bool = True):
            csv = make_manifest("data/more.csv", rows)
            checked = tmp_path / "w/checked"
            known = ["--train_csv", checked / "train.csv", "--classes_csv", checked / "train.csv"]
            known += ["--valid_csv", checked / "valid.csv", "--test_csv", checked / "test.csv"]
            done = call_script(ADD, "--add_csv", csv, *known, "--output_csv", checked / "added.csv", *words)
            assert done.returncode == (0 if ok else 2), done.stderr
            assert (checked / "added.csv").exists() == ok
            return done.stderr

    made = Run()
    words = []
    for split, count in {"train": 4, "valid": 2, "test": 2}.items():
        words += [f"--{split}_csv", make_manifest(f"data/{split}.csv", made.rows(split, count))]
    done = call_script(CHECK, *words, "--output_folder", tmp_path / "w/checked")
    assert done.returncode == 0, done.stderr
    return made


def test_new_clips_are_written_as_stage_0_writes_them(run, tmp_path):
    """Groups of the training clips may come again; the sets of the run stay as they are."""
    before = {path.name: path.read_bytes() for path in (tmp_path / "w/checked").glob("*.csv")}
    rows = [{"path": run.wav("n0.wav"), "label": " a", "group": "train 0"}, {"path": run.wav("n1.wav"), "label": "b"}]
    run.add([{"group": ""} | row for row in rows])
    added = rows_of(tmp_path / "w/checked/added.csv")
    assert [row["label"] for row in added] == ["a", "b"] and all(len(row["sha256"]) == 64 for row in added)
    assert [row["duration_s"] for row in added] == ["0.200", "0.200"]
    after = {path.name: path.read_bytes() for path in (tmp_path / "w/checked").glob("*.csv")}
    assert after.pop("added.csv") and after == before


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"path": "test1.wav"}, "more.csv row 2 has the same content as"),
        ({"path": "valid0.wav"}, "that is also in the valid set makes scores meaningless: remove one"),
        ({"group": "test 0"}, "more.csv row 2 has the same group 'test 0' as"),
        ({"path": "train2.wav"}, "which the run is trained on; remove the row"),
        ({"path": "n0.wav"}, "row 2: {folder}/n0.wav: the same sound as row 1; remove the row"),
        ({"label": "c"}, "row 2: label 'c': no clip in {checked}/train.csv has this label; it would be new to the run"),
        ({"label": "A"}, "write it as 'a'"),
        ({"label": "a;b"}, "several labels ('a;b'"),
        ({"path": "none.wav"}, "no such file"),
    ],
)
def test_what_is_refused(run, tmp_path, row, words):
    fine = {"path": run.wav("n0.wav"), "label": "a", "group": ""}
    said = run.add([fine, {"path": run.wav("n1.wav"), "label": "b", "group": ""} | row], ok=False)
    assert words.format(folder=tmp_path / "data", checked=tmp_path / "w/checked") in said, said


def test_a_copy_in_another_format_is_found(run, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "data/copy.flac", *soundfile.read(tmp_path / "data/test0.wav"))
    assert "has the same content as" in run.add([{"path": "copy.flac", "label": "a"}], ok=False)


def test_all_problems_are_told_at_once_and_bad_clips_may_be_dropped(run, tmp_path):
    (tmp_path / "data/bad.wav").write_bytes(b"RIFF")
    rows = [{"path": "test0.wav", "label": "a"}, {"path": "bad.wav", "label": "b"}, {"path": "n.wav", "label": "z"}]
    run.wav("n.wav")
    said = run.add(rows, ok=False)
    assert all(part in said for part in ("row 1 has the same content", "row 2: ", "row 3: label 'z'"))
    run.add([{"path": "bad.wav", "label": "a"}, {"path": "n.wav", "label": "b"}], "--on_bad_audio", "drop")
    assert len(rows_of(tmp_path / "w/checked/added.csv")) == 1
    assert len(rows_of(tmp_path / "w/checked/added.dropped.csv")) == 1


def test_leaf_labels_are_found_by_those_of_the_run(tmp_path, make_wav, make_manifest):
    """'bird' is the parent of 'owl' and 'duck' in the run, whatever the added clips alone would tell."""
    cells = ["bird;owl"] * 6 + ["bird;duck"] * 6 + ["rain"] * 12
    words, out = [], tmp_path / "w"
    for n, split in enumerate(("train", "valid", "test")):
        rows = [(make_wav(f"{split}{i}.wav", 0.1, seed=100 * n + i), cell) for i, cell in enumerate(cells)]
        words += [f"--{split}_csv", make_manifest(f"{split}.csv", rows)]
    assert call_script(CHECK, *words, "--output_folder", out, "--multi_label", "true").returncode == 0
    of_the_run = {"train": "train", "valid": "valid", "test": "test", "classes": "train"}
    known = [f"--{name}_csv={out / file}.csv" for name, file in of_the_run.items()]
    more = make_manifest("more.csv", [(make_wav("n.wav", 0.2, seed=999), "bird;owl")])
    done = call_script(ADD, "--add_csv", more, *known, "--output_csv", out / "added.csv", "--multi_label", "true")
    assert done.returncode == 0, done.stderr
    assert rows_of(out / "added.csv")[0]["leaf_labels"] == "owl"
