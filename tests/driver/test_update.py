"""A checkout that is updated while a driver works: what it began with is what it ends with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.driver.test_run import call
from tests.scripts import ROOT, copy_driver

# The Python of a clone. At its first start, when the options are read and the steps planned, all that the driver is
# made of is written over in place, as some editors and rsync do it; git puts a new file there, the milder case.
PYTHON = """#!/bin/sh
if mkdir '{clone}/updated' 2>/dev/null; then
    for file in '{clone}'/*.sh '{clone}'/extras/*.txt '{clone}'/extras/driver/*; do
        yes 'exit 9' | head -c 200000 >"$file"
    done
fi
exec '{python}' "$@"
"""


@pytest.fixture
def clone(tmp_path):
    run = copy_driver(tmp_path / "clone")
    for name in ("experiment.sh", "extras/methods.txt"):
        shutil.copy(ROOT / name, run.parent / name)
    (run.parent / "synthio").symlink_to(ROOT / "synthio")
    python = run.parent / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(clone=run.parent, python=sys.executable))
    python.chmod(0o755)
    return run.parent


@pytest.mark.parametrize("driver", ["run.sh", "experiment.sh"])
def test_an_update_meanwhile_changes_nothing_that_is_under_way(clone, driver):
    """The lists of words and methods were read again at each step, and the rest of the script at its end."""
    words = ["--dry_run", "--device", "cpu", "--augment" if driver == "run.sh" else "--methods"]
    words += ["false" if driver == "run.sh" else "pitch_shift wo_filter"]
    printed = []
    for is_updated in (False, True):
        if is_updated:
            (clone / "updated").rmdir()
        else:
            (clone / "updated").mkdir()
        done = call(*words, driver=clone / driver)
        assert done.returncode == 0, done.stdout + done.stderr
        printed.append(re.sub(r"\[\d\d:\d\d:\d\d\]", "", done.stdout))
    assert (clone / driver).read_text().startswith("exit 9")
    assert printed[0] == printed[1] and len(printed[0].splitlines()) > 6


@pytest.mark.parametrize(
    "name",
    ["run.sh", "extras/driver/steps.sh", "extras/driver/needs.txt", "extras/profiles.txt", "extras/sizes.txt"],
)
def test_jobs_that_were_done_before_an_update_are_asked_again(clone, name):
    """A change of the lists that the driver reads left them as they were."""
    lines = (clone / "experiment.sh").read_text(encoding="utf-8").splitlines()[:-1]  # all but the call
    lines += ["generators=() captioner= caption_writer=", "sum_given", 'echo "$given_sum"']
    (clone / "sum.sh").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sums = []
    for text in ("", "", "# a comment\n"):
        with (clone / name).open("a", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run(["bash", clone / "sum.sh"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        sums.append(done.stdout.strip())
    assert sums[0] and sums[0] == sums[1] != sums[2]
