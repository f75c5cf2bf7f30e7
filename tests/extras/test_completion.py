"""What bash offers after a TAB."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import ROOT

CALL = """
source extras/completion.sh
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_synthio "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words: str) -> set[str]:
    done = subprocess.run(["bash", "-uc", CALL, "bash", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sh", "run.sh", "--dpo_b"], {"--dpo_beta", "--dpo_batch_size"}),
        (["sh", "run.sh", "--classifier", "a"], {"auto", "ast"}),
        (["./run.sh", "--dpo", ""], {"true", "false"}),
        (["./run.sh", "--clap_threshold", ""], {"auto"}),
        (["./run.sh", "--seed", ""], set()),
        (["sh", "run.sh", "--input_train_file", "CITA"], {"CITATION.cff"}),
        (["sh", "run.sh", "--ver"], {"--version"}),
        (["sh", "experiment.sh", "--meth"], {"--methods"}),
        (["sh", "experiment.sh", "--dpo_b"], {"--dpo_beta", "--dpo_batch_size"}),  # run.sh's
        (["sh", "CITA"], {"CITATION.cff"}),  # of sh alone nothing is taken away
    ],
)
def test_what_is_offered(words, expected):
    assert offered(*words) == expected
