"""What the drivers say of a user's values: nothing that a terminal would obey."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from synthio.files import EMBEDDED
from tests.driver.test_run import call
from tests.scripts import ROOT

ORDERS = "\x1b[2J\x1b]0;title\x07\x08\x7f\x9b2J\u202egpj\u2066\u200b\ufeff"


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize(
    "words",
    [
        [f"--{ORDERS}", "1"],
        [ORDERS],
        ["--seed", ORDERS],
        ["--augment", ORDERS],
        ["--device", "cpu", "--ast_model", f"./{ORDERS}"],
        ["--input_train_file", f"{ORDERS}.csv", "--check"],
        ["--dataset_name", ORDERS, "--dry_run"],
        ["--results_root", f"/tmp/{ORDERS}", "--dry_run"],
    ],
)
def test_no_value_reaches_the_terminal_as_an_order(words, tmp_path):
    done = call(*words, cwd=tmp_path)
    text = done.stdout + done.stderr
    assert text and is_harmless(text) and "Traceback" not in text


def test_the_embedded_models_are_where_the_package_has_them():
    """The driver says their folder, too, for it looks at models before there is a Python."""
    code = 'source "$1/extras/driver/choices.sh"; root=$1; model_path embedded ast'
    done = subprocess.run(["bash", "-c", code, "_", str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout == str(EMBEDDED / "ast") and Path(done.stdout).is_dir()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a{ORDERS}b", "a?[2J?]0;title????2J?gpj???b"),
        ("a\tb", "a\tb"),
        ("Gebäck 犬 كلب می\u200cخواهم ❤\ufe0f", "Gebäck 犬 كلب می\u200cخواهم ❤\ufe0f"),
    ],
)
def test_text_of_any_script_is_shown_as_it_is(locale, text, shown):
    code = 'source "$1"; printable "$2"; printf %s "$REPLY"'
    command = ["bash", "-c", code, "_", str(ROOT / "extras/driver/options.sh"), text]
    done = subprocess.run(command, capture_output=True, env={"LC_ALL": locale, "PATH": "/usr/bin:/bin"}, check=True)
    assert done.stdout.decode() == shown
