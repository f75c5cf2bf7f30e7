"""Say what is missing for a run before anything runs: `sh run.sh --check`.

    python -m synthio.pipeline.doctor ahead="check stratify ..." ... work=demo --lack "no such CSV" < steps

The words are those of `synthio.pipeline.estimate`, and `own_envs`, the environments in .envs/ that the run needs; the
steps are those of the run, and say which models it loads. Each line is a finding with what mends it: `ok`, `note`, or
`MISSING`, which ends with status 2. Nothing is written or downloaded. The hub and nvidia-smi are asked where they can
be reached. It runs on a bare Python too, and then says what it could not look at.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import AUTO, new_parser, run_main
from synthio.files import ROOT
from synthio.models import is_published_stable_audio_3
from synthio.models.hub import look_up, problem
from synthio.models.model_ids import split_id
from synthio.options import WHOLE
from synthio.pipeline.estimate import (
    SAMPLED,
    clips_of,
    expected_time,
    follow_rows,
    is_embedded,
    is_on,
    parse_variables,
    rows_in,
    suits_a_cpu,
    works_of,
)
from synthio.pipeline.memory import Peak, peaks
from synthio.pipeline.sizes import sizes_of
from synthio.pipeline.steps import Step, loaded_models, models_of, read_steps, steps_ahead
from synthio.pipeline.suits import generator_misfits, misfits, remarks

if TYPE_CHECKING:
    from synthio.data.check_inputs import Checked, Split
    from synthio.data.options import CheckOptions

MISSING = 2
CSV_VARIABLES = {"train": "input_train_file", "valid": "valid_csv", "test": "test_csv"}
MAX_LISTENED = 2000  # clips; stage 0 listens to all
# What a model loads besides itself (conditioners of stable-audio-tools).
ALSO_LOADS = {
    "sonalkum/synthio-stable-audio-open": ("google/flan-t5-large",),
    "stabilityai/stable-audio-open-small": ("t5-base",),
}
# GB of GPU memory that a model takes at least; where the figures come from: docs/models.md.
GPU_GB = {
    "stabilityai/stable-audio-open-1.0": 5.3,
    "sonalkum/synthio-stable-audio-open": 6.2,
    "stabilityai/stable-audio-3-small-sfx": 2.5,
    "stabilityai/stable-audio-3-small-sfx-base": 2.5,
    "Qwen/Qwen2-Audio-7B-Instruct": 17,
    "Qwen/Qwen2.5-Omni-7B": 18,
    "Qwen/Qwen3-Omni-30B-A3B-Captioner": 63,
    "nvidia/audio-flamingo-3-hf": 17,
    "nvidia/audio-flamingo-next-hf": 17,
    "gama": 14,
    "Qwen/Qwen3-4B-Instruct-2507": 8,
}
CLIP_MB = 1.8  # 10 s, 44.1 kHz, stereo, 16 bits
DEMO_LONGEST_S = 4.0
EMBEDDED_CLIP_MB = 0.13  # 4 s, 16 kHz, mono
CAPTION_CHARS, PHRASE_CHARS, PROMPT_CHARS = 150, 20, 120  # usual lengths, for the count of tokens


@dataclass(frozen=True)
class Finding:
    """One line of the report; `level` is ok, note or MISSING."""

    level: str
    text: str


@dataclass(frozen=True)
class Need:
    """Room on a disk: GB that will be written under a folder."""

    folder: Path
    gb: float
    what: str


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("variables", nargs="+", metavar="NAME=VALUE", help="a variable of run.sh, or what it found out")
    parser.add_argument("--lack", action="append", default=[], help="something that run.sh itself missed")
    return parser


def one_line(text: str) -> str:
    """A message of several lines as one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()).replace(":;", ":")


def can_import(*names: str) -> bool:
    """Whether this Python has some packages; a bare one has none."""
    return all(importlib.util.find_spec(name) for name in names)


# ---- environments and disk


def read_costs() -> dict[str, tuple[float, str]]:
    """Environment -> (GB, minutes)."""
    lines = (ROOT / "extras/environments/environments.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {row[0]: (float(row[1]), row[2]) for row in rows[1:]}


def check_environments(variables: Mapping[str, str]) -> tuple[list[Finding], list[Need]]:
    """Which environments are there, and which will be made."""
    costs, findings, needs = read_costs(), [], []
    for name in ["main", *variables.get("own_envs", "").split()]:
        folder = ROOT / (".venv" if name == "main" else f".envs/{name}")
        shown = folder.relative_to(ROOT)
        if (folder / "bin/python").exists() and not (folder / ".installing").exists():
            findings.append(Finding("ok", f"environment {shown}"))
            continue
        gb, minutes = costs[name]
        findings.append(Finding("note", f"environment {shown}: will be made; {minutes} minutes, {gb:g} GB"))
        needs.append(Need(folder, gb, f"environment {name}"))
    return findings, needs


def existing(folder: Path) -> Path:
    """The folder or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def outputs_need(steps: Sequence[Step], variables: Mapping[str, str]) -> list[Need]:
    """Room for the synthetic audio, about."""
    works = [work for work in works_of(steps, variables) if work.kind in SAMPLED]
    clips = sum(work.rows * (2 if work.kind == "generate" else 1) for work in works)  # dataset/ has copies of the kept
    own = all(is_embedded("text_to_audio_model", model) for model in models_of(steps, "text_to_audio_model"))
    size_mb = EMBEDDED_CLIP_MB if own else CLIP_MB
    return [Need(Path(variables["work"]), clips * size_mb / 1000, "synthetic audio")] if clips else []


def check_disk(needs: Sequence[Need]) -> list[Finding]:
    """Free room against needed, for each disk."""
    disks: dict[int, list[Need]] = {}
    for need in needs:
        disks.setdefault(existing(need.folder).stat().st_dev, []).append(need)
    findings = []
    for parts in disks.values():
        folder, gb = existing(parts[0].folder), sum(part.gb for part in parts)
        free = shutil.disk_usage(folder).free / 1e9
        text = f"disk of {folder}: {free:.0f} GB free, about {gb:.1f} GB needed"
        if free < gb:
            named = ", ".join(f"{part.what} {part.gb:.1f}" for part in parts)
            findings.append(Finding("MISSING", f"{text} ({named}); make room, or move results_root and HF_HOME"))
        else:
            findings.append(Finding("ok", text))
    return findings


# ---- GPU


def free_gpu_gb(names: Sequence[str]) -> dict[str, float]:
    """Number -> GB free, of the GPUs with these numbers or UUIDs, as nvidia-smi says; empty without it."""
    if not shutil.which("nvidia-smi"):
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return {
        row[0]: float(row[2]) * 2**20 / 1e9
        for row in rows
        if len(row) == 3 and row[2].isdigit() and any(row[0] == name or row[1].startswith(name) for name in names)
    }


def check_gpu(loaded: Iterable[tuple[str, str]], variables: Mapping[str, str]) -> list[Finding]:
    """Memory of the largest model against what is free: stages run one after the other."""
    models = [model for name, model in loaded if model != "openai" and not is_embedded(name, model)]
    known = {model: GPU_GB[model] for model in models if model in GPU_GB}
    if not models:
        return [Finding("ok", f"{variables['machine']}: the embedded models need no GPU")]
    if variables["machine"].startswith("CPU"):
        slow = [model for model in models if not suits_a_cpu(model)]
        if not slow:
            return [Finding("ok", f"{variables['machine']}: {', '.join(models)} run there; see the time below")]
        return [Finding("note", f"no GPU is used; {', '.join(slow)} take hours on a CPU, and twice the memory")]
    if not known:
        return [Finding("note", f"{variables['machine']}: what {', '.join(models)} need is not known")]
    model, gb = max(known.items(), key=lambda pair: pair[1])
    free = free_gpu_gb(variables["machine"].removeprefix("GPU ").split(", "))
    if not free:
        return [Finding("note", f"{variables['machine']}: free memory is not known; {model} takes {gb:g} GB or more")]
    number, least = min(free.items(), key=lambda pair: pair[1])
    text = f"GPU {number}: {least:.1f} GB free, {model} takes {gb:g} GB or more"
    if least < gb:
        return [Finding("MISSING", f"{text}; stop what else uses it, or choose a smaller model or another GPU")]
    return [Finding("ok", text)]


def memory_there(variables: Mapping[str, str]) -> tuple[str, float | None]:
    """(what has it, GB) of the memory that a process of the run can have; None: not known."""
    if variables["machine"].startswith("CPU"):
        pages = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
        known = all(name in os.sysconf_names for name in pages)
        return "this machine", os.sysconf(pages[0]) * os.sysconf(pages[1]) / 1e9 if known else None
    free = free_gpu_gb(variables["machine"].removeprefix("GPU ").split(", "))
    if not free:
        return variables["machine"], None
    number, least = min(free.items(), key=lambda pair: pair[1])
    return f"GPU {number}", least


def check_memory(steps: Sequence[Step], variables: Mapping[str, str], longest_s: float | None) -> list[Finding]:
    """The computed peaks of stages 4 and 6 beside what there is, and what to change where that is less.

    Args:
        steps, variables: of the run.
        longest_s: of the training clips; None: not known.
    """
    on_gpu, findings = not variables["machine"].startswith("CPU"), []
    owner, there = memory_there(variables)
    first: dict[tuple[int, str], Step] = {}
    for step in steps_ahead(steps, variables):
        if step.number in (4, 6) and step.kind in ("dpo", "generate"):
            first.setdefault((step.number, dict(step.models)["text_to_audio_model"]), step)
    several = len({model for _, model in first}) > 1
    for (stage, model), step in sorted(first.items(), key=lambda pair: pair[0][0]):
        sizes, what = sizes_of(model), f"stage {stage}" + (f", {Path(model).name}" if several else "")
        if sizes is None:
            findings.append(Finding("note", f"memory of {what}: the sizes of {model} are not known here"))
        else:
            needed = list(peaks(stage, sizes, step.options, longest_s, on_gpu))
            findings.append(memory_finding(what, needed, owner, there))
    return findings


def memory_finding(what: str, needed: Sequence[Peak], owner: str, there: float | None) -> Finding:
    """One line: what is needed, what there is, and the first settings that fit in it."""
    text = f"memory of {what}, computed: {needed[0].text()}"
    if there is None:
        return Finding("note", f"{text}; what {owner} has free is not known")
    text = f"{text}; {owner} has {there:.1f}"
    if needed[0].gb <= there:
        return Finding("ok", text)
    fits = next((peak for peak in needed if peak.gb <= there), None)
    if fits:
        return Finding("note", f"{text}; {fits.words} needs {fits.gb:.1f}. Else batches are halved as memory runs out")
    least = f"{needed[-1].words or 'one clip'} needs {needed[-1].gb:.1f}"
    return Finding("MISSING", f"{text}, and {least}; choose a smaller model or another GPU")


# ---- models


def check_models(loaded: Iterable[tuple[str, str]], variables: Mapping[str, str]) -> tuple[list[Finding], list[Need]]:
    """Every model that this run reads: a folder, in the cache, to download, or out of reach."""
    findings, needs = [], []
    for name, model in loaded:
        if is_embedded(name, model) or model == "openai":
            continue
        if name == "captioner" and model == "gama":
            findings += check_gama(variables)
        elif Path(model).exists():
            findings.append(Finding("ok", f"{name} {model}"))
        elif ":" in model:
            findings.append(Finding("note", f"{name} {model}: its library downloads it when it is first used"))
        elif not can_import("huggingface_hub"):
            findings.append(Finding("note", f"{name} {model}: the hub is not asked until .venv is there"))
        else:
            for repo in (model, *ALSO_LOADS.get(split_id(model)[0], ())):
                finding, gb = check_hub(name, repo, variables)
                findings.append(finding)
                needs += [Need(hub_cache(), gb, repo)] if gb else []
    return findings, needs


def hub_cache() -> Path:
    """Where the hub's client keeps what it downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def check_hub(name: str, repo: str, variables: Mapping[str, str]) -> tuple[Finding, float]:
    """(finding, GB to download) of a hub model."""
    what = f"{name} {repo}"
    try:
        access = look_up(repo)
    except ValueError:
        return Finding("MISSING", f"{what}: neither a file or folder that is there nor a hub id (owner/name)"), 0.0
    gb = access.missing_bytes / 1e9
    if (
        name == "text_to_audio_model"
        and repo in variables[name].split(",")
        and is_other_format(access.names, variables)
    ):
        mend = "convert it (docs/models.md) and name the folder"
        return Finding("MISSING", f"{what}: not in diffusers' format (no model_index.json); {mend}"), gb
    if access.state == "cached":
        return Finding("ok", f"{what}: in the cache"), gb
    if access.state == "download" and is_published_stable_audio_3(access.names):
        return Finding("ok", f"{what}: to download, {gb:.1f} GB, and converted once, as much again"), 2 * gb
    if access.state == "download":
        return Finding("ok", f"{what}: to download, {gb:.1f} GB"), gb
    return Finding("MISSING", f"{what}: {problem(access, repo)}"), gb


def is_other_format(names: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether diffusers, in the main environment, is asked to load a repository that is not made for it."""
    by_diffusers = "stable_audio" not in variables.get("own_envs", "").split() and not variables["stable_audio_env"]
    known = "model_index.json" in names or is_published_stable_audio_3(names)
    return bool(names) and by_diffusers and not known


def check_gama(variables: Mapping[str, str]) -> list[Finding]:
    """The base model in the clone; run.sh looks for the clone and the checkpoint."""
    folder = Path(variables["gama_dir"]) / "Llama-2-7b-chat-hf-qformer"
    if not variables["gama_dir"] or folder.is_dir():
        return [Finding("ok", "captioner gama: its base model")] if variables["gama_dir"] else []
    return [Finding("MISSING", f"captioner gama: {folder} is not there; GAMA's README says where to get it")]


# ---- prompts by a language model


def check_writer(steps: Sequence[Step], variables: Mapping[str, str]) -> list[Finding]:
    """Key, calls, tokens and costs of the model that writes prompts, in the steps that load it."""
    writer = dict(loaded_models(steps_ahead(steps, variables))).get("caption_writer", "embedded")
    if writer == "embedded":
        return []
    findings = []
    served = variables["llm_base_url"] or os.environ.get("OPENAI_BASE_URL")
    if writer == "openai" and not served and not os.environ.get("OPENAI_API_KEY", "").strip():
        findings.append(Finding("MISSING", "caption_writer openai: put its key in OPENAI_API_KEY, or set llm_base_url"))
    if clips_of(steps, variables) is None:
        return [*findings, Finding("note", "calls of the language model: not known, the clips cannot be counted yet")]
    return [*findings, Finding("ok", calls_line(steps, variables))]


def check_captioner(steps: Sequence[Step], variables: Mapping[str, str]) -> list[Finding]:
    """Key and calls of a captioner on a server, in the step that asks it."""
    if "openai" not in models_of(steps_ahead(steps, variables), "captioner"):
        return []
    findings = []
    url, key = variables["caption_base_url"], os.environ.get("OPENAI_API_KEY", "").strip()
    if not url and not key and not os.environ.get("OPENAI_BASE_URL"):
        mend = "put its key in OPENAI_API_KEY, or set caption_base_url (and CAPTION_API_KEY, if that server wants one)"
        findings.append(Finding("MISSING", f"captioner openai: {mend}"))
    calls = clips_of(steps, variables)
    told = "not known, the clips cannot be counted yet" if calls is None else f"about {calls}, each with a clip's sound"
    return [*findings, Finding("note" if calls is None else "ok", f"calls of the captioner: {told}")]


def asked_entries(steps: Sequence[Step], variables: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
    """(entry of the prompts file, calls, tokens of a usual reply, as in synthio.captions.chat_writer) of each step."""
    ahead = steps_ahead(steps, variables)
    for step, rows in follow_rows(steps)[0]:
        if step not in ahead or "caption_writer" not in dict(step.models):
            continue
        mode = step.options["--mode"]
        if mode == "mixcap":
            yield "extract", rows or 0, 60
        yield mode, rows or 0, 50 if mode == "rewrite" else 20 + 30 * int(step.options["--num_captions"])


def calls_line(steps: Sequence[Step], variables: Mapping[str, str]) -> str:
    """How many calls and tokens, about, and what they cost if prices are given."""
    kinds = list(asked_entries(steps, variables))
    calls, again = sum(n for _, n, _ in kinds), sum(n for name, n, _ in kinds if name == "rewrite")
    sent = sum(number * entry_tokens(name) for name, number, _ in kinds)
    got = sum(number * reply for _, number, reply in kinds)
    text = f"language model: about {calls} calls, {sent} tokens sent and {got} received; {again} calls for rewrites"
    price = [float(variables.get(name) or 0) for name in ("llm_input_price", "llm_output_price")]
    if any(price):
        text += f"; costs about {(sent * price[0] + got * price[1]) / 1e6:.2f}"
    return text


def entry_tokens(name: str) -> int:
    """Tokens of a request with usual values, at four bytes each: its words, the common rules and what fills them."""
    told = tomllib.loads((ROOT / "synthio/captions/prompts.toml").read_text(encoding="utf-8"))
    values = {
        "extract": CAPTION_CHARS,
        "plain": CAPTION_CHARS,
        "mixcap": 2 * 60 * PHRASE_CHARS,
        "rewrite": 9 * PROMPT_CHARS,
    }
    rules = "" if name == "extract" else told["rules"]
    return (len(told["system"]) + len(told[name]) + len(rules) + values.get(name, 0)) // 4


# ---- CSVs and clips


def check_csvs(variables: Mapping[str, str]) -> tuple[list[Finding], float | None]:
    """(all that stage 0 would refuse, and what it would warn of; length of the longest training clip, if known)."""
    csvs = {split: variables[name] for split, name in CSV_VARIABLES.items()}
    there = {split: csv for split, csv in csvs.items() if Path(csv).is_file()}  # run.sh says which are not
    if is_on(variables, "is_demo") and len(there) < len(csvs):
        return [Finding("ok", "demo set: will be made")], DEMO_LONGEST_S
    if not can_import("pandas", "soundfile", "soxr"):
        return [Finding("note", "CSVs and clips: not looked at until .venv is there")], None
    from synthio.data.check_inputs import check_all, summary
    from synthio.data.options import CheckOptions

    asked = variables["latent_seconds"]
    options = CheckOptions(
        multi_label=is_on(variables, "multi_label"),
        on_bad_audio=variables["on_bad_audio"],
        latent_seconds=asked if asked in (AUTO, WHOLE) else float(asked),
    )
    number, alone = int(variables["num_samples"]), not is_on(variables, "augment")
    checked = check_all(there, number, options, alone, MAX_LISTENED)
    added = check_more(checked.results, variables.get("add_csv", ""), number, options, alone)
    total = sum(rows_in(csv) or 0 for csv in there.values())
    part = f"clips: {MAX_LISTENED} of {total} are listened to; stage 0 hears all"
    seconds = [sound.duration_s for split, _ in checked.results if split.name == "train" for sound in split.sounds]
    return [
        *([Finding("note", part)] if total > MAX_LISTENED else []),
        *(Finding("ok", summary(split)) for split, _ in [*checked.results, *added.results] if len(split.table)),
        *(Finding("MISSING", one_line(line)) for found in (checked, added) for line in found.findings.lines()),
        *(Finding("note", one_line(line)) for found in (checked, added) for line in found.findings.warnings),
    ], max(seconds, default=None)


def check_corpora(variables: Mapping[str, str]) -> list[Finding]:
    """What stage 0 would say of sounds without labels."""
    given = {name: variables.get(name, "") for name in ("retrieval_csv", "other_csv")}
    there = {
        name: value for name, value in given.items() if value and Path(value).exists()
    }  # run.sh says which are not
    if not there or not can_import("pandas", "soundfile", "soxr"):
        return []
    from synthio.data.corpus import check_sounds
    from synthio.data.problems import Findings

    findings = Findings()
    check_sounds(there, findings)
    lines = [Finding("MISSING", one_line(line)) for line in findings.lines()]
    return [*lines, *(Finding("note", one_line(line)) for line in findings.warnings)]


def check_review(variables: Mapping[str, str]) -> list[Finding]:
    """What stage 0 would say of the decisions of a listener."""
    review = variables.get("review", "")
    if not review or not Path(review).is_file():
        return []  # run.sh says that it is not there
    if not can_import("pandas"):
        return [Finding("note", f"{review}: not looked at until .venv is there")]
    from synthio.cli import UserError
    from synthio.data.review import clips_in, find_problems, read_review

    try:
        decisions, clips = read_review(review), clips_in(Path(variables["work"]))
    except UserError as error:
        return [Finding("MISSING", one_line(str(error)))]
    findings = find_problems(review, decisions, clips, is_on(variables, "multi_label"))
    lines = [Finding("MISSING", one_line(line)) for line in findings.lines()]
    return lines or [Finding("ok", f"{review}: {len(decisions)} decisions")]


def check_more(
    results: Sequence[tuple[Split, object]], csv: str, number: int, options: CheckOptions, alone: bool
) -> Checked:
    """What the check of add_csv finds; nothing where there is none, or no training CSV to compare it with.

    Args:
        results: what was heard of the three CSVs.
        csv: add_csv.
        number: of clips that are drawn, 0: all; which ones, is known in stage 1.
        options, alone: as for the others.
    """
    from synthio.data.add_clips import check_added, held_of
    from synthio.data.check_inputs import Checked
    from synthio.data.problems import Findings

    heard = {split.name: split for split, _ in results}
    if not csv or not Path(csv).is_file() or "train" not in heard:
        return Checked(Findings(), [])
    others = [held_of(heard[name]) for name in ("valid", "test") if name in heard]
    train = None if number else held_of(heard["train"])
    return check_added(csv, train, others, heard["train"], options, alone, MAX_LISTENED)


# ---- the report


def examine(steps: Sequence[Step], variables: Mapping[str, str], lacks: Sequence[str]) -> Iterator[Finding]:
    """Every finding, in the order in which a run would meet them."""
    yield from (Finding("MISSING", text) for text in lacks)
    environments, needs = check_environments(variables)
    yield from environments
    loaded = loaded_models(steps_ahead(steps, variables))
    models, downloads = check_models(loaded, variables)
    tables = Need(Path(variables["work"]), 0.1, "tables")
    yield from check_disk([*needs, *downloads, *outputs_need(steps, variables), tables])
    yield from check_gpu(loaded, variables)
    csvs, longest_s = check_csvs(variables)
    yield from check_memory(steps, variables, longest_s)
    yield from models
    yield from check_captioner(steps, variables)
    yield from (Finding("MISSING", text) for text in generator_misfits(steps_ahead(steps, variables), variables))
    yield from (Finding("MISSING", text) for text in misfits(dict(loaded), variables))
    yield from (Finding("note", text) for text in remarks(dict(loaded), variables))
    yield from check_writer(steps, variables)
    yield from csvs
    yield from check_corpora(variables)
    yield from check_review(variables)
    yield Finding("ok", f"time: {expected_time(steps, variables, longest_s)}")


def main() -> int:
    args = get_parser().parse_args()
    missing, variables = 0, parse_variables(args.variables)
    for finding in examine(read_steps(sys.stdin), variables, args.lack):
        print(f"{finding.level:<8} {finding.text}", flush=True)
        missing += finding.level == "MISSING"
    print(f"{missing} thing{'s' * (missing != 1)} missing" if missing else "nothing is missing")
    return MISSING if missing else 0


if __name__ == "__main__":
    run_main(main)
