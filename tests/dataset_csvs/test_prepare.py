"""The script dataset_csvs/prepare.py: its subcommands, and what it never writes over."""

from __future__ import annotations

import pytest

from tests.scripts import ROOT, call_script, load_script

SCRIPT = ROOT / "dataset_csvs/prepare.py"
SPLITS = ("train", "valid", "test")


def test_every_reader_has_a_help_of_its_own():
    script = load_script(SCRIPT)
    told = {name: call_script(SCRIPT, name, "--help") for name in script.DATASETS}
    assert all(done.returncode == 0 for done in told.values())
    assert {name for name, done in told.items() if "--source" not in done.stdout} == set(script.DEMO)
    assert len({done.stdout for done in told.values()}) == len(told)


def test_a_wrong_dataset_is_refused_with_those_that_there_are():
    done = call_script(SCRIPT, "esc5", "--source", ".", "--output_folder", ".")
    assert done.returncode == 2 and "esc50" in done.stderr


@pytest.mark.parametrize("seed", [0, 1])
def test_a_line_is_printed_for_each_split_and_rows_add_up(tmp_path, make_wav, seed):
    for label in ("dog", "rain"):
        for i in range(10):
            make_wav(f"sounds/{label}/{i}.wav", 0.02, seed=i)
    out = tmp_path / "out"
    words = ["--source", tmp_path / "sounds", "--output_folder", out, "--seed", seed]
    done = call_script(SCRIPT, "folder", *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(out / f"{split}.csv") for split in SPLITS]
    assert sum(int(line.partition(": ")[2].split()[0]) for line in lines) == 20
    assert all(line.endswith("2 classes") for line in lines)
