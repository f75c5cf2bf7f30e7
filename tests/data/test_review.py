"""A listener's decisions: what is wrong with them is said at once, and each changes its own clip alone."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from synthio.data.review import COLUMNS, changed
from synthio.manifest import read_manifest, write_manifest
from tests.rows import rows_of
from tests.scripts import ROOT, call_script

SCRIPT = ROOT / "synthio/data/review.py"
HEAD = ",".join(COLUMNS)


def table_of(folder, clips, **more) -> pd.DataFrame:
    """Clips "name:label": the hash of a sound is its name in capitals."""
    parts = [clip.split(":") for clip in clips]
    rows = {"path": [str(folder / f"{name}.wav") for name, _ in parts], "label": [label for _, label in parts]}
    return pd.DataFrame(rows | {"sha256": [name.upper() for name, _ in parts]}).assign(**more)


@pytest.fixture
def work(tmp_path):
    """W: five gold clips of which four were drawn, six synthetic ones of two rounds; g2 and s6 are one sound twice."""
    work = tmp_path / "w"

    def write(csv, clips, folder, **more):
        table = table_of(tmp_path / folder, clips, **more)
        write_manifest(table, work / csv, rows_in=len(table))

    write("checked/train.csv", ["g1:cat", "g2:cat", "g3:dog", "g4:dog", "g5:dog"], "gold")
    write("checked/valid.csv", ["v1:cat"], "gold")
    write("checked/test.csv", ["t1:dog"], "gold")
    write("train_4.csv", ["g1:cat", "g2:cat", "g3:dog", "g4:dog"], "gold", group=["x", "y", "x", "y"])
    made = {"source_path": "gold/g1.wav", "prompt": "p"}
    for number, kept, rejected in ((0, ["s1:cat", "s2:dog"], ["s3:cat", "s4:dog"]), (1, ["s5:cat"], ["s6:dog"])):
        write(f"round_{number}/generated.csv", kept + rejected, "made", **made)
        write(f"round_{number}/kept.csv", kept, "made", **made, clap_score="0.5", reason="")
        write(f"round_{number}/rejected.csv", rejected, "made", **made, clap_score="0.1", reason="too low")
    return work


def save(work, *rows, head=HEAD):
    (work.parent / "review.csv").write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    return work.parent / "review.csv"


def check(work, *rows, **options):
    words = [w for name, value in options.items() for w in (f"--{name}", value)]
    csv = save(work, *rows)
    return call_script(SCRIPT, "check", "--review_csv", csv, "--work", work, "--output_csv", work / "c.csv", *words)


def apply(work, *rows, rounds=(0, 1), kept=(), **options):
    words = [w for name, value in options.items() for w in (f"--{name}", value)]
    kept = kept or [work / f"round_{k}/kept.csv" for k in rounds]
    rejected = [work / f"round_{k}/rejected.csv" for k in rounds]
    words += ["--kept_csvs", *kept, "--rejected_csvs", *rejected, "--made_csvs"]
    words += [*(work / f"round_{k}/kept.csv" for k in rounds), *rejected]
    outputs = {name: work / f"{name}.csv" for name in ("gold_output", "kept_output", "rejected_output")}
    words += [w for name, path in outputs.items() for w in (f"--{name}", path)]
    csv, out = save(work, *rows), work / "decisions.csv"
    given = ["--gold_csv", work / "train_4.csv", "--work", work]
    return call_script(SCRIPT, "apply", "--review_csv", csv, "--output_csv", out, *given, *words)


def named(csv) -> dict[str, str]:
    """File -> label."""
    return {row["path"].rpartition("/")[2].removesuffix(".wav"): row["label"] for row in rows_of(csv)}


def test_each_decision_changes_its_own_clip(work):
    rows = ["x/s1.wav,cat,drop,,S1", "s2.wav,dog,relabel,cat,S2", "s3.wav,cat,keep,,S3", "s4.wav,dog,relabel,cat,S4"]
    rows += ["s5.wav,cat,keep,,S5", "g1.wav,cat,drop,,G1", "g3.wav,dog,relabel,cat,G3", "g5.wav,dog,drop,,G5"]
    done = apply(work, *rows)
    assert done.returncode == 0, done.stderr
    assert "synthetic: 2 to keep, 1 to drop, 2 to relabel; gold: 2 to drop, 1 to relabel" in done.stdout
    assert named(work / "gold_output.csv") == {"g2": "cat", "g3": "cat", "g4": "dog"}
    assert named(work / "kept_output.csv") == {"s2": "cat", "s5": "cat", "s3": "cat", "s4": "cat"}
    assert len(rows_of(work / "kept_output.csv")) == 4  # s5 is there once
    assert named(work / "rejected_output.csv") == {"s6": "dog"}
    said = {
        row["path"][-6:-4]: row["review"] for csv in ("gold", "kept") for row in rows_of(work / f"{csv}_output.csv")
    }
    assert said == {"g2": "", "g3": "relabelled from dog", "g4": ""} | {
        "s2": "relabelled from dog",
        "s3": "keep",
        "s4": "relabelled from dog",
        "s5": "keep",
    }
    assert all(not row["reason"] for row in rows_of(work / "kept_output.csv"))  # whatever the filter said
    assert [row["group"] for row in rows_of(work / "gold_output.csv")] == ["y", "x", "y"]
    for part, clip in {"gold": "g1", "kept": "s1"}.items():
        (dropped,) = rows_of(work / f"{part}_output.dropped.csv")
        assert clip in dropped["path"] and dropped["reason"] == "review: dropped by ear"
    decisions = read_manifest(work / "decisions.csv", check_files=False)
    assert len(decisions) == 8 and list(decisions.columns) == [*COLUMNS, "kind"]
    assert decisions["path"][0] == str(work.parent / "made/s1.wav")


def test_without_decisions_nothing_changes(work):
    assert apply(work).returncode == 0
    assert named(work / "gold_output.csv") == named(work / "train_4.csv")
    assert named(work / "kept_output.csv") == {"s1": "cat", "s2": "dog", "s5": "cat"}


def test_what_balance_cut_comes_back_when_it_is_kept(work):
    write_manifest(read_manifest(work / "round_1/kept.csv", check_files=False), work / "balanced.csv", rows_in=1)
    assert apply(work, "s1.wav,cat,keep,,S1", kept=[work / "balanced.csv"]).returncode == 0
    assert named(work / "kept_output.csv") == {"s5": "cat", "s1": "cat"}


def test_of_a_run_without_synthetic_clips_the_gold_ones_change(work):
    csv, out = save(work, "s1.wav,cat,drop,,S1", "g1.wav,cat,drop,,G1"), work / "gold.csv"
    words = ["--work", work, "--gold_csv", work / "train_4.csv", "--gold_output", out]
    assert call_script(SCRIPT, "apply", "--review_csv", csv, "--output_csv", work / "d.csv", *words).returncode == 0
    assert set(named(out)) == {"g2", "g3", "g4"}


WRONG = [
    ("s1.wav,cat,kept,,S1", "decision 'kept' is none of keep, drop, relabel"),
    ("s1.wav,cat,drop,dog,S1", "drop with new_label 'dog'; make it relabel, or empty that cell"),
    ("s1.wav,cat,relabel,,S1", "relabel without a new_label; give one of cat, dog"),
    ("s1.wav,cat,relabel,dgo,S1", "new_label 'dgo' is no label of the training clips; did you mean dog?"),
    ("s1.wav,cat,relabel,cat;dog,S1", "new_label 'cat;dog' has several labels; give one, or set multi_label=true"),
    ("u.wav,cat,drop,,U", "u.wav is no clip of this run; remove the row, or save the review again"),
    (
        "a/s1.wav,cat,drop,,OLD",
        "a/s1.wav has been made anew since: it is another sound than was heard; save the review",
    ),
    ("s1.wav,dog,drop,,S1", "s1.wav was 'dog' when it was heard, and is 'cat' now; save the review again"),
    ("v1.wav,cat,drop,,V1", "v1.wav is a validation clip, which no review changes; remove the row"),
    ("t1.wav,dog,relabel,cat,T1", "t1.wav is a test clip, which no review changes; remove the row"),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_row(work, row, message):
    for done in (check(work, row), apply(work, row)):
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert re.search(r"review\.csv row 1: ", done.stderr)
    assert not (work / "c.csv").exists() and not (work / "gold_output.csv").exists()


def test_all_that_is_wrong_is_said_at_once(work):
    done = check(work, *(row for row, _ in WRONG))
    assert "problems:" in done.stderr and all(message in done.stderr for _, message in WRONG)
    assert all(re.search(rf"row {i}\b", done.stderr) for i in range(1, len(WRONG) + 1))


def test_rows_about_one_clip(work):
    rows = ["s1.wav,cat,drop,,S1", "s2.wav,dog,keep,,S2", "s1.wav,cat,relabel,dog,S1"]
    done = check(work, *rows)
    assert done.returncode == 2
    assert "row 3: s1.wav: relabel dog, but drop in row 1; remove one of them" in done.stderr
    assert check(work, *rows[:2], rows[0]).returncode == 0
    assert len(rows_of(work / "c.csv")) == 2


def test_a_header_that_is_another(work):
    csv = save(work, "s1.wav,cat,drop", head="path,label,verdict")
    done = call_script(SCRIPT, "check", "--review_csv", csv, "--work", work, "--output_csv", work / "c.csv")
    assert done.returncode == 2 and "no column 'decision', 'new_label', 'sha256'" in done.stderr
    assert "a review is a CSV of path, label, decision, new_label, sha256; save the review again" in done.stderr


def test_a_label_that_would_have_no_clip(work):
    rows = ["g1.wav,cat,drop,,G1", "g2.wav,cat,relabel,dog,G2"]
    done = check(work, *rows)
    assert done.returncode == 2 and "row 1: no training clip of 5 would be 'cat' any more; keep one" in done.stderr
    drawn = ["g3.wav,dog,drop,,G3", "g4.wav,dog,drop,,G4"]  # g5 is left, but was not drawn
    assert check(work, *drawn).returncode == 0
    for done in (check(work, *drawn, gold_csv=work / "train_4.csv"), apply(work, *drawn)):
        assert done.returncode == 2 and "no training clip of 4 would be 'dog' any more" in done.stderr


def test_before_any_run(tmp_path):
    done = check(tmp_path / "nothing", "s1.wav,cat,drop,,S1") if (tmp_path / "nothing").mkdir() is None else None
    assert done.returncode == 2 and "nothing was run in" in done.stderr and "that a review can be of" in done.stderr


def test_labels_with_parents(work):
    """The leaf labels, which prompts and quotas go by, follow the new label."""
    for csv in ("checked/train.csv", "train_4.csv", "round_0/kept.csv"):
        table = read_manifest(work / csv, check_files=False)
        table = pd.concat([table] * 6, ignore_index=True) if "checked" in csv else table
        cells = [f"{label};animal" if label == "cat" else label for label in table["label"]]
        cells = ["animal" if "g5" in path else cell for path, cell in zip(table["path"], cells, strict=True)]
        table = table.assign(label=cells, leaf_labels=[cell.split(";")[0] for cell in cells])
        write_manifest(table, work / csv, rows_in=len(table))
    done = apply(work, "g3.wav,dog,relabel,cat;animal,G3", multi_label="true", rounds=(0,))
    assert done.returncode == 0, done.stderr
    leaves = {row["path"][-6:-4]: row["leaf_labels"] for row in rows_of(work / "gold_output.csv")}
    assert leaves == {"g1": "cat", "g2": "cat", "g3": "cat", "g4": "dog"}


def test_a_table_without_rows_keeps_its_columns():
    """Of clips where the filter kept none."""
    empty = pd.DataFrame(columns=["path", "label", "sha256"], dtype=str)
    kept, dropped = changed(empty, [], {})
    assert [len(kept), len(dropped)] == [0, 0]
    assert list(kept) == ["path", "label", "sha256", "review"]
    assert list(dropped) == ["path", "label", "sha256", "reason"]
