"""The table of every method, and the verdict against the best one without synthetic clips."""

from __future__ import annotations

import json

import pytest

from synthio.classification.heads import TITLES
from synthio.cli import UserError
from synthio.report import comparison
from synthio.report.comparison import compare, comparison_rows, read_trained, verdict, with_interval
from tests.classification.test_choose import first, save_trained
from tests.scripts import ROOT, call_script


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Classifiers by mistakes among 40 validation and 40 test clips; those with synthetic clips make 10 fewer in test.

    Without them AST is the best on the validation clips, and the probe on the test clips.
    """
    folder = tmp_path_factory.mktemp("compared")
    for name, made, gain in (("gold_only", 0, 0), ("synthio", 8, 10)):
        heads = folder / f"{name}_heads"
        save_trained(heads / "probe", "probe", first(20), first(12 - gain), made=made)
        save_trained(heads / "fusion", "fusion", first(20), first(18 - gain), made=made)
        save_trained(heads / "zero_shot", "zero_shot", first(30), first(30), made=made)
        save_trained(folder / f"{name}_ast", "ast", first(6), first(16 - gain), made=made)
    return folder


def words(world, *names):
    of = {"gold-only": "gold_only", "synthio": "synthio"}
    return [f"{name}={world / of[name]}{end}" for name in names or of for end in ("_heads", "_ast")]


def test_every_classifier_of_a_folder_is_found_in_the_order_of_the_table(world):
    trained = read_trained(words(world))
    assert {name: list(methods) for name, methods in trained.items()} == {
        name: ["ast", "probe", "zero_shot", "fusion"] for name in ("gold-only", "synthio")
    }
    assert [name for name in TITLES if name in trained["synthio"]] == list(trained["synthio"])
    assert trained["synthio"]["ast"].folder == world / "synthio_ast"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("W/gold_only", "--trained W/gold_only: write it as NAME=FOLDER"),
        ("=x", "--trained =x: write it as NAME=FOLDER"),
        ("gold-only=/not/there", "no scores.json in that folder; train its classifiers first"),
    ],
)
def test_a_wrong_word_is_refused(word, message):
    with pytest.raises(UserError, match=message):
        read_trained([word])


def test_a_record_has_both_scores_and_their_paired_difference(world):
    records = {row["method"]: row for row in compare(read_trained(words(world)), "gold-only", 0)}
    assert list(records) == ["ast", "probe", "zero_shot", "fusion"]
    probe = records["probe"]
    assert probe["title"] == TITLES["probe"] and probe["valid"] == 0.5 and probe["score"] == pytest.approx(0.7)
    more = probe["with"]
    assert more["name"] == "synthio" and more["score"] == pytest.approx(0.95)
    assert more["gain"]["difference"] == pytest.approx(0.25)
    # every clip that was right still is, so no draw can be below 0; unpaired draws could
    assert 0 < more["gain"]["interval_95"][0] < 0.25 < more["gain"]["interval_95"][1] < 0.45
    assert "with" not in records["zero_shot"]  # no training clip has a part in it
    errors = probe["calibration"]["after"]
    assert errors["ece"] == pytest.approx(0.8 - 0.7) and errors["brier"] == pytest.approx(0.7 * 0.08 + 0.3 * 1.28)
    assert probe["file"] == str(world / "gold_only_heads/probe/scores.json")
    assert more["file"] == str(world / "synthio_heads/probe/scores.json")


def test_the_rows_of_the_table(world):
    header, rows = comparison_rows(compare(read_trained(words(world)), "gold-only", 0), "accuracy")
    assert header == [
        *("method", "accuracy, gold alone (95 %)", "with synthetic clips (95 %)", "difference (95 %)"),
        *("p", "verdict", "calibration error"),
    ]
    assert [row[0] for row in rows] == [TITLES[name] for name in ("ast", "probe", "zero_shot", "fusion")]
    assert rows[1][1].startswith("70.0 (") and rows[1][2].startswith("95.0 (") and rows[1][3].startswith("+25.0 (+")
    assert (
        rows[1][5] == "better"
        and rows[2][2:6] == ["-"] * 4
        and [row[-1] for row in rows] == ["20.0", "10.0", "55.0", "25.0"]
    )
    header, rows = comparison_rows(compare(read_trained(words(world, "gold-only")), "gold-only", 0), "accuracy")
    assert len(header) == 3 and {len(row) for row in rows} == {3}


def test_an_interval_in_words():
    assert with_interval(0.123, (0.045, 0.201)) == "12.3 (4.5 to 20.1)"
    assert with_interval(-0.02, (-0.1, 0.05), "+") == "-2.0 (-10.0 to +5.0)"


# The verdict


def test_the_best_without_synthetic_clips_is_that_of_the_validation_clips(world):
    """On the test clips the probe is better; to compare with that one would be to choose by them."""
    said = verdict(read_trained(words(world)), "gold-only", None, 0)
    assert (
        said["baseline"] == "ast"
        and said["score"] == pytest.approx(0.6)
        and said.keys() == {"baseline", "score", "line"}
    )
    assert said["line"] == "Best without synthetic clips, by the validation clips: AST, fine-tuned, 60.0."


@pytest.mark.parametrize(
    ("mistakes", "sentence"),
    [
        (first(4), "Synthetic clips help: +30.0 (+"),
        (first(34), "Synthetic clips do harm: -45.0 (-"),
        (range(1, 17), "Whether synthetic clips help is not to be told: +0.0 (-"),
        (range(24, 38), "Whether synthetic clips help is not to be told: +5.0 (-"),
    ],
)
def test_the_verdict_says_what_the_interval_allows(world, tmp_path, mistakes, sentence):
    trained = read_trained(words(world, "gold-only"))
    save_trained(tmp_path / "x", "fusion", (), mistakes)
    scores = comparison.tested(read_trained([f"x={tmp_path / 'x'}"])["x"]["fusion"])
    said = verdict(trained, "gold-only", scores, 0)
    found, low, high = said["difference"], *said["interval_95"]
    assert found == pytest.approx((16 - len(mistakes)) / 40) and low <= found <= high
    first_line, second = said["line"].splitlines()
    assert (
        first_line.startswith("Best without")
        and sentence in second
        and second.endswith("; over 40 test clips, 1 cell (other training clips were not drawn).")
    )


# synthio.report.results


def results(world, *more):
    scores = [f"{name}={world / folder / 'scores.json'}" for name, folder in more]
    output = world / "all.json"
    files = ["--output_json", output, "--scores", *scores, "--trained", *words(world)]
    done = call_script(ROOT / "synthio/report/results.py", *files)
    return done, output


def test_the_table_and_the_verdict_of_a_run(world):
    done, output = results(world, ("gold-only", "gold_only_ast"), ("synthio", "synthio_heads/fusion"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("gold-only: ast ") for line in lines)
    assert any(line.startswith("synthio: fusion ") for line in lines)
    assert "Every method, 40 test clips; 1 cell, intervals over 40 test clips" in lines and lines[-1].startswith(
        "Synthetic clips help: +20.0 (+"
    )
    record = json.loads(output.read_text())
    assert [row["method"] for row in record["trained"]] == ["ast", "probe", "zero_shot", "fusion"]
    assert record["trained"][1]["file"] == "gold_only_heads/probe/scores.json"
    assert record["trained"][1]["with"]["file"] == "synthio_heads/probe/scores.json"
    assert record["verdict"]["baseline"] == "ast" and record["verdict"]["line"].splitlines() == lines[-2:]
    assert [row["head"] for row in record["methods"]] == ["ast", "fusion"]


def test_the_first_of_the_scores_must_have_been_trained(world):
    done, _ = results(world, ("other", "gold_only_ast"))
    assert done.returncode == 2 and "--trained names none of 'other', the first of --scores" in done.stderr


def test_another_network_than_ast_is_named(tmp_path):
    """In every title, and in the verdict."""
    for name in ("gold_only", "synthio"):
        save_trained(tmp_path / f"{name}_ast", "ast", first(6), first(16))
        save_trained(tmp_path / f"{name}_heads/probe", "probe", first(20), first(12))
        for part in ("ast", "heads/probe"):
            file = tmp_path / f"{name}_{part}" / "scores.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"called": "HuBERT"}))
    trained = read_trained(words(tmp_path))
    titles = {row["method"]: row["title"] for row in compare(trained, "gold-only", 0)}
    assert titles == {"ast": "HuBERT, fine-tuned", "probe": "logistic regression, HuBERT + CLAP"}
    assert "validation clips: HuBERT, fine-tuned, 60.0." in verdict(trained, "gold-only", None, 0)["line"]
