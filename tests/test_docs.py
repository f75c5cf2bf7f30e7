"""What README, docs/ and the other papers promise, as far as a program can check it."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAPERS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "dataset_csvs/README.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
# Its commands are those of the version it tells of.
COMMANDS = [path for path in PAPERS if path.name != "0.1.0.md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def driver_variables(script: str = "run.sh") -> dict[str, tuple[str, str]]:
    """name -> (default, help) of the block in a driver."""
    block = (ROOT / script).read_text(encoding="utf-8").split("# ==== variables")[1].split("# ==== end")[0]
    found = re.findall(r'^([a-z_]+)=("[^"]*"|\S*) +# [^:]+: (.*)$', block, re.MULTILINE)
    return {name: (default.strip('"'), text) for name, default, text in found}


def test_the_architecture_names_what_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("- `")]
    named = [name for line in lines for name in re.findall(r"`([^`]+)`", line.split(":")[0])]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked.split() if not name.startswith(".")} - {"LICENSE"}
    assert top - {name.split("/")[0] for name in named} == set()


def anchors(text: str) -> set[str]:
    """What links can name in a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAPERS, ids=name_of)
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_a_page_of_docs_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.encode()) <= 10_000
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme] == []


@pytest.mark.parametrize("page", COMMANDS, ids=name_of)
def test_files_that_are_named_are_there(page):
    named = re.compile(r"`((?:ast|benchmarks|docs|extras|stable-audio-tools|synthio|tests)/[\w./-]+\.\w+)`")
    found = set(named.findall(page.read_text(encoding="utf-8")))
    assert [name for name in sorted(found) if not (ROOT / name).exists()] == []


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(script or module, words after it) of each command that a page shows."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    code = re.findall(r"^ {4,}.*$", text, re.MULTILINE) + re.findall(r"`([^`]+)`", text.replace("\n", " "))
    shown = re.compile(r"(?:python|bash|sh) (-m [\w.]+|(?:[\w-]+/)*[\w-]+\.(?:py|sh))([^#]*)")
    return [(script, words.split()) for line in code for script, words in shown.findall(line)]


@functools.cache
def known_options(script: str, subcommand: str = "") -> set[str]:
    """Names of the options that a script has: by a driver's block, its own help, or its text."""
    if script == "run.sh":
        return set(driver_variables())
    if script == "experiment.sh":  # hands the others on
        return set(driver_variables()) | set(driver_variables(script))
    if script.endswith(".sh"):
        return set(re.findall(r"--([a-z_]+)", (ROOT / script).read_text(encoding="utf-8")))
    words = [*script.split(), *([subcommand] if subcommand else []), "--help"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"--([a-z_]+)", done.stdout))


def missing_options(script: str, words: list[str]) -> list[str]:
    """Options of a command that its script does not have."""
    wanted = [match.group(1) for word in words if (match := re.match(r"--([a-z_]+)$", word))]
    if not wanted or script == "-m pip":
        return []
    known = known_options(script, subcommand_of(script, words)) | {"help"}
    return [name for name in wanted if name not in known]


def subcommand_of(script: str, words: list[str]) -> str:
    return words[0] if script.endswith("prepare.py") and not words[0].startswith("-") else ""


@pytest.mark.parametrize("page", COMMANDS, ids=name_of)
def test_every_command_that_is_shown_can_be_given(page):
    found = commands(page)
    scripts = {script for script, _ in found if not script.startswith("-m ")}
    assert [script for script in sorted(scripts) if not (ROOT / script).is_file()] == []
    assert [(script, missing) for script, words in found if (missing := missing_options(script, words))] == []


def test_commands_are_found():
    scripts = {script for page in COMMANDS for script, _ in commands(page)}
    assert len(scripts) > 12 and {"run.sh", "experiment.sh", "ast/train.py", "-m synthio.report.page"} <= scripts
    assert missing_options("run.sh", ["--dataset_name", "mine", "--no_such_thing", "1"]) == ["no_such_thing"]
    assert missing_options("ast/train.py", ["--no_such_thing"]) == ["no_such_thing"]


def test_the_workflow_and_the_hooks_run_what_the_tests_run():
    import yaml

    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == ["sh test.sh"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    run = (ROOT / "test.sh").read_text()
    assert tools == {"ruff", "shellcheck", "mypy"} and all(re.search(rf"\b{tool}\b", run) for tool in tools)


def test_the_citation_and_the_settings_are_of_this_version():
    import tomllib

    import yaml

    from synthio import __version__

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["version"] == __version__
    assert "build-system" not in settings and "scripts" not in settings["project"]  # its head says why
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert said["version"] == __version__ and said["references"][0]["url"] in (ROOT / "README.md").read_text()
