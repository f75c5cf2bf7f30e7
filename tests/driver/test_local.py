"""The launcher of this machine, by itself: which commands a fork of one process runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.scripts import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")

LOADS = r"$'6\tgenerate\ttext_to_audio_model=m\t\t\tpython g.py'"
WRITES = r"$'9\tmerge\t\t\t\tpython merge.py'"


def shell(code: str) -> str:
    """What bash prints after it has read the launcher; the server is a program that ends at once."""
    before = 'root=$PWD python=/bin/true devices=() models=() together=(); declare -A pythons=(); source "$PWD/'
    before += 'extras/driver/local.sh"; '
    done = subprocess.run(["bash", "-euc", before + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("before", "steps", "is_served"),
    [
        ("", [LOADS] * 3, True),
        ("", [LOADS, LOADS, WRITES, WRITES], False),  # two would gain nothing
        ("devices=(0)", [LOADS] * 3, False),  # a fork cannot use CUDA
        ("guard=()", [LOADS] * 3, False),  # nothing would end the server with the driver
        ("OSTYPE=darwin22", [LOADS] * 3, False),
        ("pythons[generate]=/own/bin/python", [LOADS] * 3, False),  # which has libraries of its own
        ("", [], False),
    ],
)
def test_the_libraries_are_imported_once_where_several_steps_load_models(before, steps, is_served):
    said = shell(f'guard=(env); {before or ":"}; serve_forks {" ".join(steps)}; printf "%s" "$forks"')
    assert said.startswith("synthio-") == is_served


@pytest.mark.parametrize(
    ("before", "command", "is_forked"),
    [
        ("", "env A=1 /bin/true g.py --x 'a b'", True),
        ("", "/bin/true -m synthio.report.quality", True),
        ("models=()", "env A=1 /bin/true merge.py", False),  # its stamp would name libraries that it has no use for
        ("models=(captioner=embedded)", "/bin/true caption.py", False),
        ("together=(-m synthio.pipeline.launch 2)", "/bin/true -m synthio.pipeline.launch 2 dpo_train.py", False),
        ("", "env A=1 /own/bin/python g.py", False),
        ("forks=''", "env A=1 /bin/true g.py", False),
    ],
)
def test_a_step_that_loads_models_is_a_fork(before, command, is_forked):
    code = f"forks=name models=(clap_model=c); {before or ':'}; through_forks {command}; "
    words = shell(code + "printf '%s\\n' \"${command[@]}\"").splitlines()
    plain = shell(f"printf '%s\\n' {command}").splitlines()
    client = ["-I", "-S", str(ROOT / "synthio/pipeline/forks.py"), "run", "name"]
    place = plain.index("/bin/true") + 1 if is_forked else 0
    assert words == ([*plain[:place], *client, *plain[place:]] if is_forked else plain)
