"""What the classifiers' scripts share: what an earlier run left goes, and what is written of the test."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthio.classification import script


def test_what_an_earlier_run_left_goes_and_its_checkpoint_stays(tmp_path):
    (tmp_path / "model").mkdir()
    left = ("scores.json", "predictions.csv", "history.csv", "model/config.json")
    for name in (*left, "checkpoint.pt", "mine.txt"):
        (tmp_path / name).touch()
    device, folder = script.start_clean(script.Evaluation(device="cpu", output_folder=str(tmp_path)))
    assert (device, folder) == ("cpu", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "mine.txt"]


def test_clips_that_name_a_source_are_synthetic():
    table = pd.DataFrame({"path": list("abc"), "label": "x", "source_path": ["", "a", "a"]})
    assert script.is_synthetic(table).tolist() == [False, True, True]
    assert script.count_clips(table) == {"clips": 3, "gold": 1, "synthetic": 2}
    assert script.count_clips(table[["path", "label"]]) == {"clips": 3, "gold": 3, "synthetic": 0}


def test_predictions_keep_groups_and_have_a_probability_of_each_label(tmp_path):
    table = pd.DataFrame({"path": [str(tmp_path / "a.wav")], "label": ["b"], "group": ["g"], "other": ["x"]})
    script.write_predictions(table, ["a", "b"], np.array([[0.25, 0.75]]), False, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == (
        "path,label,group,predicted,probability_a,probability_b\na.wav,b,g,b,0.250000000,0.750000000\n"
    )


def test_the_history_names_the_metric(tmp_path):
    row = {"step": 5, "train_loss": 1.0, "valid_loss": 0.5, "valid_score": 0.25, "alpha": 1.0}
    for multi_label, name in ((False, "accuracy"), (True, "mAP")):
        script.write_history(tmp_path / "h.csv", [row], multi_label)
        assert (tmp_path / "h.csv").read_text() == (
            f"step,train_loss,valid_loss,valid_{name},alpha\n5,1.0,0.5,0.25,1.0\n"
        )
