"""Options declared as fields: what the parser accepts and refuses, and what run.sh's block is told."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from synthio.cli import in_range
from synthio.options import add_options, declared, from_args, number_text, option, shaping

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Baking:
    oven: str = option("gas", "what heats", choices=("gas", "wood"), driver="oven_kind")
    loaves: int = option(2, "how many", low=1, high=100, driver="loaves")
    hours: float = option(1.5, "how long, 100 % of them", low=0.01)
    rate: float = option(3e-4, "how fast", low=0, driver="rate")
    salt: float | str = option("auto", "how much", low=0, high=1, words=("auto",), noun="share", driver="salt")
    water: float | str = option("much", "how wet", low=0, words=("little", "much"), driver="water")
    sour: bool = option(False, "with sourdough")
    name: str = option("", "what it is called", flag="bread_name")
    seeds: tuple[str, ...] = option((), "what is strewn on it")
    quiet: bool = option(False, "nobody is told", inert=True)
    tins: int | None = option(None, "how many tins, if any", reads=in_range(int, 1, 9))
    weather: str = "fair"


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser, Baking)
    return parser.parse_args(words)


def test_defaults_are_those_of_the_fields():
    made = from_args(Baking, parse(), weather="foul")
    assert made == Baking(seeds=[], weather="foul") and made.hours == 1.5


def test_what_is_given_is_read_by_its_type():
    words = "--oven wood --loaves 3 --hours 2 --salt .25 --water little --sour yes --bread_name rye"
    made = from_args(Baking, parse(*words.split(), "--seeds", "poppy", "sesame"))
    assert made == Baking("wood", 3, 2.0, 3e-4, 0.25, "little", True, "rye", ["poppy", "sesame"])
    assert isinstance(made.loaves, int) and isinstance(made.hours, float) and made.salt == 0.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--oven coal", "invalid choice: 'coal'"),
        ("--loaves 2.5", "'2.5' is not a whole number"),
        ("--loaves 101", "101 is outside [1, 100]"),
        ("--hours 0", "0 is outside [0.01, inf]"),
        ("--hours nan", "nan is outside"),
        ("--tins 10", "10 is outside [1, 9]"),
        ("--salt 2", "2 is outside [0, 1]; give a share or auto"),
        ("--salt some", "'some' is not a number; give a share or auto"),
        ("--water some", "'some' is not a number; give a number or little or much"),
        ("--sour perhaps", "'perhaps' is not a boolean; use true or false"),
        ("--name rye", "unrecognized arguments: --name"),
    ],
)
def test_what_is_wrong_is_refused(capsys, words, message):
    with pytest.raises(SystemExit):
        parse(*words.split())
    assert message in capsys.readouterr().err


def test_the_help_shows_a_percent_sign(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "how long, 100 % of them" in capsys.readouterr().out


def test_what_a_user_must_say(capsys):
    @dataclass(frozen=True)
    class Shop:
        town: str = option("", "where it is", required=True)

    parser = argparse.ArgumentParser()
    add_options(parser, Shop)
    assert from_args(Shop, parser.parse_args(["--town", "Ulm"])) == Shop("Ulm")
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "the following arguments are required: --town" in capsys.readouterr().err


def test_only_some():
    parser = argparse.ArgumentParser()
    add_options(parser, Baking, only=("loaves", "sour"))
    assert vars(parser.parse_args([])) == {"loaves": 2, "sour": False}


def test_what_the_driver_is_told():
    said = {one.name: (option.kind_text(), option.default_text()) for one, option in declared(Baking) if option.driver}
    assert said == {
        "oven": ("gas|wood", "gas"),
        "loaves": ("whole 1..100", "2"),
        "rate": ("number 0..", "3e-4"),
        "salt": ("number 0..1 or auto", "auto"),
        "water": ("number 0.. or little or much", "much"),
    }


def test_what_shapes_the_result():
    assert shaping(Baking()).keys() == {one.name for one in fields(Baking)} - {"quiet"}


@pytest.mark.parametrize(
    "text", ["0", "2000", "0.85", "3e-4", "1e-5", "2.5e-6", "0.9999999", "2147483647", "0.001", "1e30", "-0.5"]
)
def test_numbers_are_written_short(text):
    assert number_text(float(text)) == text
    assert number_text(int(text) if text.isdigit() else float(text)) == text


def test_it_needs_the_standard_library_alone():
    code = "import sys; before = set(sys.modules); import synthio.options; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded <= set(sys.stdlib_module_names) | {"synthio"} and "synthio" in loaded
