"""Rounds: the gain, the quotas of the classes, and balance."""

from __future__ import annotations

from collections import Counter

import pytest

from synthio.filtering.rounds import balanced_counts, count_rounds, gain_line, quotas
from synthio.manifest import AGREEMENT
from tests.filtering.toy import SCORE, scored
from tests.rows import rows_of, write_rows
from tests.scripts import ROOT, call_script

ROUNDS = ROOT / "synthio/filtering/rounds.py"


def test_rounds_count_the_gain_and_the_quotas():
    quota = quotas(["dog", "dog", "rain", "a;b", "b; a"], 2)
    assert quota == {"a": 4, "b": 4, "dog": 4, "rain": 2}
    first, first_out = scored(*[("dog", 0.5)] * 3, ("rain", 0.5), ("a;b", 0.5)), scored(*[("dog", 0.1)] * 5)
    second, second_out = scored(("dog", 0.5), ("rain", 0.5)), scored(*[("a;b", 0)] * 3)
    records = count_rounds(quota, [first, second], [first_out, second_out])
    assert gain_line(records[0]) == "round 0: 5 of 10 kept; quota reached in 0 of 4 classes"
    assert gain_line(records[1]) == "round 1: +2 of 5 rewritten kept; quota reached in 2 of 4 classes"
    assert [record["kept_so_far"] for record in records] == [5, 7]


def write_round(folder, number, good, bad):
    """Kept and rejected CSV of a round: numbers of clips by label."""
    for kind, counts in (("kept", good), ("rejected", bad)):
        rows = []
        for label, count in counts.items():
            for i in range(count):
                name = f"{number}{kind}{label}{i}.wav"
                (folder / name).touch()
                rows.append({"path": name, "label": label, SCORE: f"{0.1 * i + number:.6f}", "source_path": "g.wav"})
        write_rows(folder / f"{kind}_{number}.csv", rows, ("path", "label", SCORE, "source_path"))


def rounds(action, folder, numbers, *words):
    kept_csvs, rejected_csvs = ([folder / f"{kind}_{n}.csv" for n in numbers] for kind in ("kept", "rejected"))
    words = [*words, *(("--rejected_csvs", *rejected_csvs) if action == "count" else ())]
    common = ["--gold_csv", folder / "gold.csv", "--num_iters", 2, "--output_csv", folder / f"{action}.csv"]
    return call_script(ROUNDS, action, *common, "--kept_csvs", *kept_csvs, *words)


@pytest.fixture
def two_rounds(tmp_path):
    write_rows(
        tmp_path / "gold.csv",
        [{"path": f"{i}.wav", "label": label} for i, label in enumerate(["dog"] * 3 + ["rain"] * 2)],
    )
    write_round(tmp_path, 0, {"dog": 5, "rain": 1}, {"dog": 1, "rain": 3})
    write_round(tmp_path, 1, {"dog": 1, "rain": 1}, {"rain": 2})
    write_round(tmp_path, 2, {"rain": 2}, {})
    return tmp_path


def test_rounds_stop_when_every_class_has_its_quota(two_rounds):
    lines = [rounds("count", two_rounds, range(n)) for n in (1, 2, 3)]
    assert [done.returncode for done in lines] == [3, 3, 0]
    assert lines[1].stdout == "round 1: +2 of 4 rewritten kept; quota reached in 1 of 2 classes\n"
    assert lines[2].stdout == "round 2: +2 of 2 rewritten kept; quota reached in 2 of 2 classes\n"
    assert [row["kept_so_far"] for row in rows_of(two_rounds / "count.csv")] == ["6", "8", "10"]
    write_round(two_rounds, 1, {"dog": 1}, {})  # nothing is left to rewrite
    assert rounds("count", two_rounds, (0, 1)).returncode == 0


def test_balance_cuts_to_the_share_of_the_class_with_least(two_rounds):
    done = rounds("balance", two_rounds, (0, 1))  # dog has 6 of 6, rain 2 of 4: half of each quota
    assert done.returncode == 0, done.stderr
    good, cut = rows_of(two_rounds / "balance.csv"), rows_of(two_rounds / "balance.dropped.csv")
    assert Counter(row["label"] for row in good) == {"dog": 3, "rain": 2}
    assert len(cut) == 3 and {row["label"] for row in cut} == {"dog"}
    best = sorted((float(row[SCORE]) for row in good + cut if row["label"] == "dog"), reverse=True)[:3]
    assert sorted((float(row[SCORE]) for row in good if row["label"] == "dog"), reverse=True) == best
    assert cut[0]["reason"] == "balance: its class keeps the best 3 of 6 clips (quota 6)"
    assert "3 clips cut, 5 stay" in done.stderr and "'rain' (2 of 4)" in done.stderr
    assert not (two_rounds / "balance2.dropped.csv").exists()
    rounds("balance", two_rounds, (0, 1, 2))
    assert len(rows_of(two_rounds / "balance.csv")) == 10 and not (two_rounds / "balance.dropped.csv").exists()


@pytest.mark.parametrize(
    ("quota", "have", "expected"),
    [
        ({"a": 4, "b": 4}, {"a": 5, "b": 4}, {"a": 4, "b": 4}),  # never more than the quota
        ({"a": 4, "b": 4}, {"a": 4, "b": 3}, {"a": 3, "b": 3}),
        ({"a": 10, "b": 4}, {"a": 10, "b": 2}, {"a": 5, "b": 2}),
        ({"a": 40, "b": 2}, {"a": 1, "b": 2}, {"a": 1, "b": 1}),  # one stays of each class that has any
        ({"a": 4, "b": 4}, {"a": 3}, {"a": 3, "b": 0}),  # a class with none cannot set the measure
        ({"a": 4}, {}, {"a": 0}),
    ],
)
def test_balanced_counts(quota, have, expected):
    assert balanced_counts(quota, have) == expected


def test_balance_by_the_classifiers_rank(two_rounds):
    rows = rows_of(two_rounds / "kept_0.csv")
    for i, row in enumerate(rows):
        row[AGREEMENT] = f"{0.9 - 0.1 * i:.6f}"  # the reverse of CLAP's order
    write_rows(two_rounds / "kept_0.csv", rows)
    write_rows(
        two_rounds / "gold.csv", [{"path": f"{i}.wav", "label": label} for i, label in enumerate(["dog", "rain"])]
    )
    rounds("balance", two_rounds, (0,), "--classifier_weight", 1)
    assert [row["path"] for row in rows_of(two_rounds / "balance.csv")][:1] == ["0keptdog0.wav"]
    rounds("balance", two_rounds, (0,))
    assert [row["path"] for row in rows_of(two_rounds / "balance.csv")][:1] == ["0keptdog4.wav"]
