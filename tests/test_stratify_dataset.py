"""Drawing n clips: shares of the classes, seeds, and what cannot be drawn."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter

import pytest

from synthio.files import sha256_value
from tests.rows import rows_of, write_rows
from tests.scripts import call_script, load_script
from tests.toy_tables import STRATIFY, dataset, run


def stratify(source, n, seed=0, ok=True, name="drawn.csv"):
    out = source.parent / name
    done = run(STRATIFY, "--input_csv", source, "--output_csv", out, "--num_samples", n, "--seed", seed, ok=ok)
    return rows_of(out) if ok else done.stderr


@pytest.mark.parametrize("n", [3, 7, 10, 49, 50, 99, 100])
def test_exactly_n_rows_in_proportion(tmp_path, n):
    source = dataset(tmp_path, ["a"] * 60 + ["b"] * 37 + ["c"] * 3)
    counts = Counter(row["label"] for row in stratify(source, n))
    assert sum(counts.values()) == n
    for label, total in {"a": 60, "b": 37, "c": 3}.items():
        assert 1 <= counts[label] <= total
        assert abs(counts[label] - n * total / 100) <= 1.0001, counts


def test_largest_remainder_by_hand():
    allocate = load_script(STRATIFY).allocate
    assert allocate({"a": 47, "b": 16, "c": 15, "d": 12, "e": 6, "f": 4}, 10) == {
        "a": 4,
        "b": 2,
        "c": 1,
        "d": 1,
        "e": 1,
        "f": 1,
    }
    assert allocate({"big": 998, "x": 1, "y": 1}, 4) == {"big": 2, "x": 1, "y": 1}
    assert allocate({"a": 5, "b": 5, "c": 5}, 4) == {"a": 2, "b": 1, "c": 1}


def test_allocation_always_adds_up():
    allocate = load_script(STRATIFY).allocate
    rng = random.Random(0)
    for _ in range(500):
        counts = {str(i): rng.choice([1, 2, 3, 50, 400]) for i in range(rng.randint(1, 12))}
        n = rng.randint(len(counts), sum(counts.values()))
        shares = allocate(counts, n)
        assert sum(shares.values()) == n
        assert all(1 <= shares[label] <= counts[label] for label in counts)


def test_row_order_does_not_matter_but_the_seed_does(tmp_path):
    source = dataset(tmp_path, ["a", "b", "b", "c"] * 10)
    first = stratify(source, 12)
    shuffled = rows_of(source)
    random.Random(1).shuffle(shuffled)
    write_rows(tmp_path / "shuffled.csv", shuffled)
    stratify(tmp_path / "shuffled.csv", 12, name="again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "drawn.csv").read_bytes()
    assert {r["path"] for r in stratify(source, 12, seed=1)} != {r["path"] for r in first}


def test_rows_are_accounted_for_and_columns_kept(tmp_path):
    source = dataset(tmp_path, ["NA", "001", "dog_bark", "Hund, laut", "größe"] * 4)
    drawn = stratify(source, 10)
    rest = rows_of(tmp_path / "drawn.dropped.csv")
    assert list(drawn[0]) == ["path", "label", "fold", "sha256"]
    assert {row["reason"] for row in rest} == {"not sampled"}
    assert sorted(r["sha256"] for r in drawn + rest) == [r["sha256"] for r in rows_of(source)]
    assert Counter(r["label"] for r in drawn) == dict.fromkeys(["NA", "001", "dog_bark", "Hund, laut", "größe"], 2)
    record = json.loads((tmp_path / "drawn.json").read_text())
    assert (record["rows_in"], record["rows_out"], record["rows_dropped"]) == (20, 10, 10)


def test_zero_takes_all(tmp_path):
    assert len(stratify(dataset(tmp_path, ["a", "b"] * 4), 0)) == 8
    assert not (tmp_path / "drawn.dropped.csv").exists()


@pytest.mark.parametrize("n", [5, 10, 33, 60])
def test_several_labels_a_clip(tmp_path, n):
    rng = random.Random(3)
    cells = [";".join(sorted({"rain", rng.choice(["dog", "cat", "bell"])})) for _ in range(50)]
    cells += ["dog"] * 30 + ["siren;dog"] * 2 + ["cat"] * 18
    counts = Counter(label for row in stratify(dataset(tmp_path, cells), n) for label in row["label"].split(";"))
    total = Counter(label for cell in cells for label in cell.split(";"))
    assert len(rows_of(tmp_path / "drawn.csv")) == n
    for label in total:
        assert counts[label] >= 1
        assert abs(counts[label] - n * total[label] / len(cells)) <= max(2, 0.1 * n), (label, counts)


@pytest.mark.parametrize(
    ("n", "parts"),
    [(9, ["8 rows", "num_samples 9", "to 8 or less"]), (1, ["2 classes", "num_samples is 1", "set 2 or more"])],
)
def test_a_number_that_cannot_be_drawn(tmp_path, n, parts):
    message = stratify(dataset(tmp_path, ["a", "b"] * 4), n, ok=False)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "drawn.csv").exists()


def test_an_empty_table_cannot_be_drawn_from(tmp_path):
    assert "no rows" in stratify(write_rows(tmp_path / "train.csv", []), 0, ok=False)


def fsd50k_like(clips: int, seed: int = 0) -> list[str]:
    """Cells of a tree of 200 labels: 150 leaves below 40 parents below 10 roots; a clip has 1 to 3 leaves."""
    rng = random.Random(seed)
    cells = []
    for clip in range(clips):
        leaves = {clip % 150, *rng.sample(range(150), rng.randint(0, 2))}
        names = {f"leaf {leaf}" for leaf in leaves} | {f"parent {leaf % 40}" for leaf in leaves}
        cells.append(";".join(sorted(names | {f"root {leaf % 40 % 10}" for leaf in leaves})))
    return cells


def draw(tmp_path, cells, n, seed=0):
    """(what the script printed, label cells drawn, record)."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    write_rows(source, [{"path": f"{i}.wav", "label": cell} for i, cell in enumerate(cells)])
    for i in range(len(cells)):
        (tmp_path / f"{i}.wav").touch()
    words = ["--input_csv", source, "--output_csv", output, "--num_samples", n, "--seed", seed]
    done = call_script(STRATIFY, *words)
    assert done.returncode == 0, done.stderr
    record = json.loads(output.with_suffix(".json").read_text())
    return done, [row["label"] for row in rows_of(output)], record


def labels_of(cells):
    return {label for cell in cells for label in cell.split(";")}


def test_fifty_clips_of_two_hundred_labels(tmp_path):
    cells = fsd50k_like(900)
    done, drawn, record = draw(tmp_path, cells, 50)
    held, everything = labels_of(drawn), labels_of(cells)
    assert len(everything) == 200 and len(drawn) == 50
    random_ones = [len(labels_of(random.Random(seed).sample(cells, 50))) for seed in range(20)]
    assert len(held) > max(random_ones) + 20 and len(held) > 170
    missing = sorted(everything - held)
    assert record["labels_without_clips"] == missing
    assert f"{len(missing)} of 200 labels have no clip among the 50" in done.stderr and missing[0] in done.stderr
    assert "Nothing is generated for them" in done.stderr
    assert draw(tmp_path, cells[::-1], 50, seed=1)[1] != drawn


def test_the_cover_is_near_the_best_there_is():
    """Of all pairs of 8 small sets, against the best pair."""
    stratify = load_script(STRATIFY)
    for seed in range(50):
        rng = random.Random(seed)
        sets = [frozenset(rng.sample("abcdefghij", rng.randint(1, 4))) for _ in range(8)]
        found = stratify.cover_most(sets, range(8), 2)
        best = max(len(sets[i] | sets[j]) for i, j in itertools.combinations(range(8), 2))
        assert len(found) <= 2 and len(frozenset().union(*(sets[i] for i in found))) >= 0.75 * best


def test_labels_that_all_fit_are_all_held(tmp_path):
    """6 labels in 3 clips of two each, where fewer clips than labels are enough."""
    cells = ["a;b", "c;d", "e;f"] + ["a;b"] * 20
    done, drawn, record = draw(tmp_path, cells, 4)
    assert labels_of(drawn) == set("abcdef") and len(drawn) == 4
    assert record["labels_without_clips"] == [] and "warning" not in done.stderr


@pytest.mark.parametrize("n", [1, 2])
def test_single_label_data_stay_refused(tmp_path, n):
    source = tmp_path / "in.csv"
    write_rows(source, [{"path": f"{i}.wav", "label": "abc"[i % 3]} for i in range(9)])
    for i in range(9):
        (tmp_path / f"{i}.wav").touch()
    done = call_script(STRATIFY, "--input_csv", source, "--output_csv", tmp_path / "o.csv", "--num_samples", n)
    assert done.returncode == 2 and f"3 classes, but num_samples is {n}" in done.stderr


def slow_draw(label_sets, order, n):
    """Iterative stratification as Sechidis et al. write it down: every label is counted anew before each is chosen."""
    script = load_script(STRATIFY)
    chosen = set(script.cover(label_sets, order))
    room = {True: n - len(chosen), False: len(label_sets) - n}
    counts = Counter(label for labels in label_sets for label in labels)
    wanted = {side: Counter() for side in room}
    for label, count in counts.items():
        wanted[True][label] = count * n - len(label_sets) * sum(label in label_sets[row] for row in chosen)
        wanted[False][label] = count * (len(label_sets) - n)
    left = [row for row in order if row not in chosen]
    while left:
        remaining = Counter(label for row in left for label in label_sets[row])
        rarest = min(remaining, key=lambda name: (remaining[name], name))
        for row in [row for row in left if rarest in label_sets[row]]:
            drawn = script.choose_side(rarest, wanted, room)
            room[drawn] -= 1
            wanted[drawn].subtract(dict.fromkeys(label_sets[row], len(label_sets)))
            if drawn:
                chosen.add(row)
        left = [row for row in left if rarest not in label_sets[row]]
    return chosen


def test_the_order_of_drawing_is_that_of_the_hashes():
    keys = ["a/ü 犬.wav", 'say "hi"\\n', "", "0" * 64, "\x7f\u2028"]
    assert load_script(STRATIFY).ranks(keys, 7) == [sha256_value([7, key]) for key in keys]


def test_the_draw_of_several_labels_is_the_one_by_definition():
    script, rng = load_script(STRATIFY), random.Random(5)
    for _ in range(60):
        classes = rng.randint(2, 12)
        sizes = [rng.randint(1, 3) for _ in range(rng.randint(12, 60))]
        sets = [frozenset(str(rng.randrange(classes)) for _ in range(size)) for size in sizes]
        order = rng.sample(range(len(sets)), len(sets))
        n = rng.randint(min(classes, len(sets)), len(sets))
        assert script.draw_multi(sets, order, n) == slow_draw(sets, order, n)


def test_many_classes_are_drawn_in_a_time_that_grows_with_the_rows():
    """20,000 clips with two of 10,000 labels each took more than a minute: all labels were counted for every label."""
    script, rng = load_script(STRATIFY), random.Random(0)
    sets = [frozenset({f"c{i % 10_000}", f"c{rng.randrange(10_000)}"}) for i in range(20_000)]
    before = time.process_time()
    assert len(script.draw_multi(sets, range(20_000), 12_000)) == 12_000
    assert time.process_time() - before < 10
