"""run.sh's block, docs/variables.md and the defaults of the profiles are made of the fields that declare them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from synthio.options import declared, flag_of, option
from synthio.pipeline import variables

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", variables.texts(), ids=lambda path: path.name)
def test_generated_texts_are_not_stale(path):
    text = path.read_text(encoding="utf-8")
    assert text == variables.texts()[path], "run python -m synthio.pipeline.variables"


def test_every_variable_has_one_place():
    placed = [name for _, names in variables.sections() for name in names]
    assert sorted(placed) == sorted(variables.all_variables()) and len(set(placed)) == len(placed) > 100


@dataclass(frozen=True)
class Other:
    beta: float = option(1.0, "another strength", low=0, driver="dpo_beta")


@dataclass(frozen=True)
class New:
    beta: float = option(0.25, "the new one", low=0, high=1, driver="new_one")


def test_a_variable_is_declared_once(monkeypatch):
    monkeypatch.setattr(variables, "SCRIPTS", (*variables.SCRIPTS, Other))
    with pytest.raises(ValueError, match="dpo_beta is declared twice"):
        variables.all_variables()


def test_a_new_field_comes_into_the_block_the_page_and_the_words(monkeypatch):
    monkeypatch.setattr(variables, "SCRIPTS", (*variables.SCRIPTS, New))
    monkeypatch.setattr(variables, "SECTIONS", (*variables.SECTIONS, ("more", (New,))))
    assert variables.block().endswith("# -- more\nnew_one=0.25               # number 0..1: the new one\n")
    assert variables.page().endswith("| `new_one` | `0.25` | the new one |\n")
    assert variables.words().endswith("New --beta new_one\n")


def test_help_stands_alone():
    riddles = re.compile(r"(the same|of that|that|its|it|of it|of them|also|instead)\b")
    said = {name: one.help for name, one in variables.all_variables().items()}
    assert {name: text for name, text in said.items() if riddles.match(text) or len(text.split()) < 3} == {}


def test_the_driver_gives_each_variable_to_the_option_that_declares_it():
    """By name, in a stage function: --on_bad_audio "$on_bad_audio", or with all of its class: words_of Recipe seed."""
    driver = "\n".join(path.read_text() for path in (ROOT / "run.sh", *(ROOT / "extras/driver").glob("*.sh")))
    whole = re.findall(r"words_of (\w+)([\w ]*)", driver)
    missing = []
    for kind in variables.SCRIPTS:
        left_out = [set(names.split()) for name, names in whole if name == kind.__name__]
        for one, said in declared(kind):
            given = rf'--{flag_of(one)} ("\${said.driver}"|true|.*\$\(\({said.driver} \+ 1\))'
            among_all = any(said.driver not in names for names in left_out)
            if said.driver and not among_all and not re.search(given, driver):
                missing.append(said.driver)
    assert missing == []


def test_options_that_change_no_result():
    wanted = {"device", "compile", "gama_env", "log_to", "log_folder", "checkpoint_every", "gradient_checkpointing"}
    wanted |= {"finished_folder"}
    wanted |= {f"llm_{name}" for name in ("max_calls", "max_tokens", "input_price", "output_price")}
    assert variables.inert_options() == {f"--{name}" for name in wanted}


@pytest.mark.parametrize("table", variables.TABLES, ids=lambda table: table.stem)
def test_a_table_names_only_what_differs(table):
    known = variables.all_variables()
    head, *rows = variables.rows_of(table)
    if table.stem == "profiles":
        assert ("embedded", *head[1:]) == known["profile"].choices
    assert set(head[1:]) <= {*known["profile"].choices, *known}
    for name, *values in rows:
        named = {value for value in values if value != "-"}
        assert len(values) == len(head) - 1 and named and known[name].default_text() not in named, name


def test_stamps_need_the_standard_library_alone():
    code = "import sys; before = set(sys.modules); import synthio.pipeline.stamp; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded <= set(sys.stdlib_module_names) | {"synthio"} and "synthio" in loaded
