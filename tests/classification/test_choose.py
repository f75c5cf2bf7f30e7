"""Which of several trained classifiers becomes *the* classifier: by the validation clips alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthio.classification.choose import AUTO_ORDER, best_of, gain, read_candidate
from synthio.classification.heads import TITLES, UNTRAINED
from synthio.classification.options import Scoring
from synthio.classification.script import Result, write_test_results
from synthio.cli import UserError
from synthio.manifest import read_manifest
from tests.scripts import ROOT, call_script

SCRIPT = ROOT / "synthio/classification/choose.py"
LABELS = ["a", "b"]
CLIPS = 40  # of validation and of test data each


def chances_of(wrong: set[int], multi_label: bool):
    """(targets, probabilities) of clips of two labels in turn; those in `wrong` are given to the other label."""
    truth = np.eye(2, dtype=np.float32)[np.arange(CLIPS) % 2]
    chances = np.where(truth > 0, 0.8, 0.2)
    chances[sorted(wrong)] = 1 - chances[sorted(wrong)]
    if multi_label:  # a ranking needs different numbers
        chances = chances + np.linspace(0, 0.01, CLIPS)[:, None]
    return truth, chances


def clips_of(split: str, place: str = "/data") -> pd.DataFrame:
    return pd.DataFrame({"path": [f"{place}/{split} {i}.wav" for i in range(CLIPS)], "label": LABELS * (CLIPS // 2)})


def save_trained(folder: Path, head: str, valid_wrong, test_wrong=(), multi_label=False, place="/data", made=0) -> Path:
    """What ast/train.py and ast/heads.py leave, by the writer that they share, for chosen mistakes.

    Args:
        made: number of synthetic clips in the training data.
    """
    folder.mkdir(parents=True)
    truth, valid = chances_of(set(valid_wrong), multi_label)
    _, test = chances_of(set(test_wrong), multi_label)
    source = [""] * 4 + ["/data/gold.wav"] * made
    tables = {split: clips_of(split, place) for split in ("valid", "test")}
    tables["train"] = pd.DataFrame({"path": [f"{i}.wav" for i in range(len(source))], "source_path": source})
    score = float((truth.argmax(axis=1) == valid.argmax(axis=1)).mean())
    details = {"head": head, "best_valid": (score, 0.5), "options": {}}
    result, targets = Result(valid, test, test, 1.0), {"valid": truth, "test": truth}
    write_test_results(folder, Scoring(multi_label=multi_label), tables, LABELS, targets, result, details)
    (folder / "model").mkdir()
    (folder / "model/weights").write_text(head)
    return folder


def first(count: int) -> range:
    return range(count)


def chosen_of(*folders: Path) -> str:
    return best_of([read_candidate(folder) for folder in folders])[0].name


def run(output: Path, classifier: str, *folders: Path):
    return call_script(SCRIPT, "--classifier", classifier, "--folders", *folders, "--output_folder", output)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"fusion": 10, "probe": 10, "ast": 10}, "fusion"),
        ({"fusion": 10, "probe": 12, "ast": 14}, "fusion"),
        ({"fusion": 10, "probe": 8, "ast": 10}, "fusion"),  # two clips are within two standard errors
        ({"fusion": 20, "probe": 10, "ast": 19}, "probe"),
        ({"fusion": 20, "probe": 14, "ast": 6}, "ast"),  # both are clearly better: the best
        ({"fusion": 20, "probe": 6, "ast": 6}, "probe"),  # the first of equals
    ],
)
def test_the_fusion_is_taken_unless_another_is_clearly_better(tmp_path, wrong, expected, multi_label):
    folders = [
        save_trained(tmp_path / name, name, first(count), multi_label=multi_label) for name, count in wrong.items()
    ]
    assert chosen_of(*folders) == chosen_of(*folders[::-1]) == expected


def test_clearly_is_more_than_the_standard_error_of_the_difference(tmp_path):
    """5 clips mended of 40 and none spoilt: 0.125, with a standard error of sqrt(.125 * .875 / 40)."""
    one, other = (read_candidate(save_trained(tmp_path / str(n), "ast", first(n))) for n in (10, 15))
    difference, error = gain(one, other)
    assert difference == pytest.approx(0.125)
    assert error == pytest.approx(np.sqrt(0.125 * 0.875 / 40), rel=0.12)
    assert gain(other, one)[0] == pytest.approx(-0.125) and gain(one, one) == (0, 0)


def test_clips_of_one_recording_are_one_observation(tmp_path):
    """8 clips mended: clear where each is a recording of its own, chance where all are of the same."""
    fusion, ast = (save_trained(tmp_path / n, n, first(c)) for n, c in (("fusion", 16), ("ast", 8)))
    assert chosen_of(fusion, ast) == "ast"
    for size in (8, CLIPS):  # of one recording alone nothing can be told
        for folder in (fusion, ast):
            table = pd.read_csv(folder / "valid_predictions.csv")
            table["group"] = [f"recording {row // size}" for row in range(CLIPS)]
            table.to_csv(folder / "valid_predictions.csv", index=False)
        assert chosen_of(fusion, ast) == "fusion"


def test_where_they_are_right_matters_to_what_is_clear(tmp_path):
    """6 clips better in all: mended 6 and spoilt none, or mended 16 and spoilt 10, which may be chance."""
    fusion = save_trained(tmp_path / "fusion", "fusion", range(16))
    same = save_trained(tmp_path / "same", "ast", range(10))
    others = save_trained(tmp_path / "others", "ast", range(20, 30))
    assert chosen_of(fusion, same) == "ast" and chosen_of(fusion, others) == "fusion"


def test_without_a_fusion_the_probe_is_what_others_must_beat(tmp_path):
    probe, ast = save_trained(tmp_path / "p", "probe", first(10)), save_trained(tmp_path / "a", "ast", first(9))
    assert chosen_of(ast, probe) == "probe"
    better = save_trained(tmp_path / "better", "ast", first(2))
    assert chosen_of(probe, better) == "ast"
    with pytest.raises(UserError, match="none of fusion, probe, ast is among the folders"):
        chosen_of(save_trained(tmp_path / "z", "zero_shot", first(1)))
    assert chosen_of(save_trained(tmp_path / "z2", "zero_shot", ()), probe) == "probe"  # it is not one to choose


def test_test_clips_have_no_say(tmp_path):
    """The classifier is the same whichever is right on the test clips, and without their predictions."""
    found = {}
    for name, test in (("right", {"fusion": 0, "ast": 39}), ("swapped", {"fusion": 39, "ast": 0})):
        valid = {"fusion": 20, "ast": 8}
        folders = [save_trained(tmp_path / name / head, head, first(valid[head]), first(test[head])) for head in test]
        found[name] = best_of([read_candidate(folder) for folder in folders])
    assert found["right"][0].name == found["swapped"][0].name == "ast" and found["right"][1] == found["swapped"][1]
    for folder in folders:
        (folder / "predictions.csv").unlink()
        record = json.loads((folder / "scores.json").read_text())
        kept = {key: record[key] for key in ("metric", "labels", "head", "best_valid", "splits")}
        (folder / "scores.json").write_text(json.dumps(kept))
    assert best_of([read_candidate(folder) for folder in folders])[1] == found["swapped"][1]


def test_the_folder_gets_the_files_of_the_one_that_is_chosen(tmp_path):
    fusion = save_trained(tmp_path / "heads/fusion", "fusion", first(20))
    ast = save_trained(tmp_path / "ast", "ast", first(6))
    (ast / "history.csv").write_text("step\n1\n")
    (ast / "finished.pt").write_bytes(b"of the training alone")
    out = tmp_path / "classifier/gold_only"
    out.mkdir(parents=True)
    (out / "of an earlier run").write_text("x")
    done = run(out, "auto", fusion, ast)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the classifier is ast (validation accuracy 0.850)\n"
    names = {path.relative_to(ast).as_posix() for path in ast.rglob("*")}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*")} == names - {"finished.pt"}
    for name in ("model/weights", "history.csv"):
        assert (out / name).read_bytes() == (ast / name).read_bytes()
    for name in ("predictions.csv", "valid_predictions.csv"):  # whose paths are relative to a folder
        pd.testing.assert_frame_equal(*(read_manifest(folder / name, check_files=False) for folder in (out, ast)))
        assert not Path(pd.read_csv(out / name)["path"][0]).is_absolute()
    record, before = (json.loads((folder / "scores.json").read_text()) for folder in (out, ast))
    choice = record.pop("choice")
    assert record == before and "choice" not in before
    assert choice["asked"] == "auto" and choice["chosen"] == "ast"
    first_row, second = choice["compared"]
    assert first_row == {"name": "fusion", "valid": 0.5}
    assert second["name"] == "ast" and second["difference"] == pytest.approx(0.35) and 0.05 < second["error"] < 0.1


@pytest.mark.parametrize("name", ["ast", "fusion", "zero_shot"])
def test_a_name_is_taken_whatever_its_score(tmp_path, name):
    wrong = {"ast": 20, "fusion": 2, "zero_shot": 30}
    folders = [save_trained(tmp_path / head, head, first(count)) for head, count in wrong.items()]
    assert run(tmp_path / "out", name, *folders).returncode == 0
    record = json.loads((tmp_path / "out/scores.json").read_text())
    assert record["head"] == name and record["choice"] == {"asked": name, "chosen": name, "compared": []}


def test_choosing_again_takes_the_new_one_and_leaves_the_old_as_it_was(tmp_path):
    one, two = save_trained(tmp_path / "a", "ast", ()), save_trained(tmp_path / "p", "probe", ())
    before = {path: path.read_bytes() for folder in (one, two) for path in folder.rglob("*") if path.is_file()}
    for name in ("ast", "probe", "ast"):
        assert run(tmp_path / "out", name, one, two).returncode == 0
        assert (tmp_path / "out/model/weights").read_text() == name
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("classifier", ["probe", "fusoin"])
def test_a_wrong_name_is_refused_in_one_line(tmp_path, classifier):
    done = run(tmp_path / "out", classifier, save_trained(tmp_path / "x", "ast", ()))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"--classifier {classifier}: none of the folders is it; they are ast" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["scores.json", "valid_predictions.csv", "everything"])
def test_a_folder_that_is_not_finished_is_refused_in_one_line(tmp_path, missing):
    folder = save_trained(tmp_path / "x", "ast", ())
    if missing == "everything":
        folder = tmp_path / "nowhere"
    else:
        (folder / missing).unlink()
    done = run(tmp_path / "out", "auto", folder)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    wanted = missing if missing != "everything" else "scores.json"
    assert f"{folder}: no {wanted} there; train that classifier first" in done.stderr


def test_classifiers_that_were_validated_on_other_clips_are_refused(tmp_path):
    one, other = save_trained(tmp_path / "f", "fusion", ()), save_trained(tmp_path / "a", "ast", (), place="/other")
    done = run(tmp_path / "out", "auto", one, other)
    assert done.returncode == 2 and "were not tested on the same clips" in done.stderr


def test_the_output_may_not_be_one_of_the_folders(tmp_path):
    """It is emptied first."""
    folder = save_trained(tmp_path / "x", "ast", ())
    assert run(folder, "ast", folder).returncode == 2
    assert (folder / "model/weights").is_file()


def test_auto_chooses_among_what_is_trained():
    assert AUTO_ORDER[0] == "fusion" and set(AUTO_ORDER) <= set(TITLES) - UNTRAINED
