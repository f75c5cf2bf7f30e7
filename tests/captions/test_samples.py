"""Template prompts in equal numbers for each label."""

from __future__ import annotations

from collections import Counter

from tests.rows import rows_of, write_rows
from tests.scripts import ROOT, call_script


def sampled(folder, rows, **changes):
    source = write_rows(folder / "gold.csv", rows)
    words = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    words += ["--input_csv", source, "--output_csv", folder / "prompts.csv"]
    done = call_script(ROOT / "synthio/captions/samples.py", *words)
    assert done.returncode == 0, done.stderr
    return rows_of(folder / "prompts.csv")


def test_each_label_is_asked_for_equally_often_from_its_own_clips(tmp_path):
    gold = [{"path": f"{i}.wav", "label": "dog_bark" if i < 5 else "rain"} for i in range(6)]
    rows = sampled(tmp_path, gold, clips=3)
    assert Counter(row["label"] for row in rows) == {"dog_bark": 3, "rain": 3}
    assert {row["prompt"] for row in rows} == {"Sound of a dog bark", "Sound of a rain"}
    dogs = [row["path"] for row in rows if row["label"] == "dog_bark"]
    assert len(set(dogs)) == 3 and set(dogs) <= {f"{i}.wav" for i in range(5)}
    assert [row["path"] for row in rows if row["label"] == "rain"] == ["5.wav"] * 3
    assert len({row["seed"] for row in rows}) == 6  # the same clip again starts from other noise


def test_the_seed_decides_and_nothing_else(tmp_path):
    gold = [{"path": f"{i}.wav", "label": f"label {i % 2}"} for i in range(8)]
    first = sampled(tmp_path, gold, clips=2)
    assert sampled(tmp_path, gold, clips=2) == first
    assert {row["seed"] for row in sampled(tmp_path, gold, clips=2, seed=1)}.isdisjoint({r["seed"] for r in first})


def test_of_several_labels_each_is_asked_for_by_itself_and_parents_are_not(tmp_path):
    gold = [
        {"path": "0.wav", "label": "animal;dog;rain", "leaf_labels": "dog;rain"},
        {"path": "1.wav", "label": "rain", "leaf_labels": "rain"},
    ]
    rows = sampled(tmp_path, gold, clips=2)
    assert [(row["label"], row["prompt"]) for row in rows] == [("dog", "Sound of a dog")] * 2 + [
        ("rain", "Sound of a rain")
    ] * 2
    assert "leaf_labels" not in rows[0]
