"""The script generate_captions_gpt.py."""

from __future__ import annotations

import json

import pytest

from synthio.captions.pools import prompt_problem
from synthio.manifest import read_table
from tests.captions.toy import WRITE, captioned, save_gold
from tests.scripts import call_script, load_script


@pytest.fixture
def gold(make_wav, make_manifest):
    """Six gold clips of three labels."""
    return save_gold(make_wav, make_manifest)


def write(csv, out, *more, ok=True):
    out = csv.with_name(out)
    done = call_script(WRITE, "--input_csv", csv, "--output_csv", out, *more)
    assert (done.returncode == 0) == ok, done.stderr
    return read_table(out) if ok else done.stderr


@pytest.mark.parametrize("mode", ["mixcap", "plain", "plain_wo_caption", "template"])
def test_modes_write_the_wanted_rows(gold, mode):
    table = write(captioned(gold), f"{mode}.csv", "--mode", mode, "--num_captions", 3)
    assert list(table["path"]) == [f"clip {i // 3}.wav" for i in range(18)]
    assert table["seed"].nunique() == 18
    for label, prompt in zip(table["label"], table["prompt"], strict=True):
        assert prompt_problem(prompt, label.replace("_", " ")) == ""
    assert table["prompt"].nunique() == (3 if mode == "template" else 18)


def test_prompts_and_seeds_do_not_depend_on_the_folder_or_the_order(gold, tmp_path):
    """Neither on shards: pools are built from the whole table."""
    csv = captioned(gold)
    before = write(csv, "one.csv", "--mode", "mixcap")
    table = read_table(csv)
    table.iloc[::-1].to_csv(csv.with_name("reversed.csv"), index=False)
    after = write(csv.with_name("reversed.csv"), "two.csv", "--mode", "mixcap")
    key = ["path", "prompt", "seed"]
    assert sorted(map(tuple, before[key].to_numpy())) == sorted(map(tuple, after[key].to_numpy()))


def test_another_seed_writes_other_prompts(gold):
    csv = captioned(gold)
    one, two = (write(csv, f"{s}.csv", "--seed", s) for s in (0, 1))
    assert list(one["prompt"]) != list(two["prompt"]) and list(one["seed"]) != list(two["seed"])


def test_rewriting_rejected_clips(gold, make_manifest):
    """Rows of generated clips become rows of their gold clips, with a new prompt and a new seed."""
    rows = [
        {"path": f"made {i}.wav", "label": "dog_bark", "source_path": f"clip {i}.wav", "sha256": f"made{i}",
         "source_sha256": f"gold{i}", "duration_s": "0.5", "prompt": f"dog bark number {i}", "seed": str(i),
         "model": "m", "clap_score": "0.1", "clap_probability": "0.5", "reason": "low"}
        for i in range(4)
    ]  # fmt: skip
    rejected, kept = make_manifest("rejected.csv", rows[:3]), make_manifest("kept.csv", rows[3:])
    table = write(rejected, "new.csv", "--mode", "rewrite", "--accepted_csv", kept)
    assert list(table["path"]) == [f"clip {i}.wav" for i in range(3)]
    assert list(table["sha256"]) == [f"gold{i}" for i in range(3)]
    assert not {"source_path", "source_sha256", "model", "clap_score", "reason"} & set(table.columns)
    assert not set(table["prompt"]) & {row["prompt"] for row in rows}
    assert not set(table["seed"]) & {row["seed"] for row in rows}
    record = json.loads(gold.with_name("new.json").read_text())
    assert (record["rows_in"], record["rows_out"]) == (3, 3)


def test_nothing_rejected_gives_an_empty_table(gold, make_manifest):
    columns = ("path", "label", "source_path", "prompt", "seed")
    table = write(make_manifest("none.csv", [], columns), "new.csv", "--mode", "rewrite")
    assert len(table) == 0 and {"path", "label", "prompt", "seed"} <= set(table.columns)


def test_phrases_of_more_clips_go_into_the_pools_and_get_no_prompts(gold):
    """What is heard in the pool's clips comes into the others' prompts; the pools are those of both tables."""
    csv = captioned(gold)
    table = read_table(csv)
    few, rest = csv.with_name("few.csv"), csv.with_name("rest.csv")
    table.iloc[::2].to_csv(few, index=False)
    table.iloc[1::2].to_csv(rest, index=False)
    out = write(few, "out.csv", "--mode", "mixcap", "--pool_csv", rest)
    assert list(dict.fromkeys(out["path"])) == list(table["path"][::2])

    def pools(name):
        return json.loads(csv.with_name(f"{name}.json").read_text())["pools"]

    write(csv, "whole.csv", "--mode", "mixcap")
    write(few, "alone.csv", "--mode", "mixcap")
    together = {label: {kind: sorted(found) for kind, found in pool.items()} for label, pool in pools("out").items()}
    whole = {label: {kind: sorted(found) for kind, found in pool.items()} for label, pool in pools("whole").items()}
    assert together == whole and pools("alone") != pools("out")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--mode", "template", "--pool_csv", "x.csv"), "--pool_csv goes with --mode mixcap"),
        (("--mode", "mixcap"), "no column 'caption'"),
        (("--mode", "rewrite"), "no column 'source_path', 'prompt', 'seed'"),
        (("--mode", "template", "--accepted_csv", "x.csv"), "goes with --mode rewrite"),
        (("--mode", "plain_wo_caption", "--writer", "nobody"), "caption writer 'nobody'"),
    ],
)
def test_mistakes_of_the_caller(gold, words, part):
    assert part in write(gold, "out.csv", *words, ok=False)


def test_prompts_say_leaf_labels_and_rewrites_see_those_of_their_labels(tmp_path):
    rows = [("a.wav", "Music;Guitar", "Guitar"), ("b.wav", "Music;Drum", "Drum"), ("c.wav", "Rain", "")]
    csv = tmp_path / "gold.csv"
    csv.write_text("path,label,leaf_labels\n" + "".join(",".join(row) + "\n" for row in rows))
    found = write(csv, "prompts.csv", "--mode", "template", "--num_captions", 1)
    assert list(found["prompt"]) == ["Sound of a Guitar", "Sound of a Drum", "Sound of a Rain"]
    script = load_script(WRITE)
    kept = tmp_path / "kept.csv"
    kept.write_text(
        "path,label,leaf_labels,prompt\n"
        "a.wav,Music;Guitar,Guitar,loud Guitar\nb.wav,Drum;Guitar,Drum;Guitar,loud Drum and Guitar\n"
    )
    accepted = script.accepted_prompts([str(kept)], "")
    assert script.prompts_within(accepted, "Guitar") == ("loud Guitar",)
    assert script.prompts_within(accepted, "Guitar;Drum;Rain") == ("loud Guitar", "loud Drum and Guitar")
    assert script.prompts_within(accepted, "Rain") == ()
