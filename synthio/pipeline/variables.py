"""The variables of run.sh: those that no script takes, and the order of all of them.

    python -m synthio.pipeline.variables    # writes run.sh's block, docs/variables.md, and four lists in extras/driver

A variable that a script takes is declared where it is used, as a field with `driver`. It is placed in the block by its
class, so that a new one needs no word here. Only the standard library is imported: the stamps of each step ask here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthio.captions.requests import CaptionerOptions, PromptOptions, WriterOptions
from synthio.classification.options import Recipe, TakingOver
from synthio.cli import new_parser, run_main
from synthio.data.options import CheckOptions
from synthio.files import EMBEDDED, ROOT, write_text
from synthio.filtering.options import FilterOptions, FinetuneOptions
from synthio.generation.options import AttributionOptions, PreferenceOptions, SamplingOptions
from synthio.options import Compiling, Device, Option, ReportClips, declared, flag_of, option
from synthio.training.tracking import Tracking

RUN = ROOT / "run.sh"
PAGE = ROOT / "docs/variables.md"
# What sets variables besides the user: the profiles, and models of full size.
TABLES = (ROOT / "extras/profiles.txt", ROOT / "extras/sizes.txt")
DEFAULTS = ROOT / "extras/driver/defaults.txt"
WORDS = ROOT / "extras/driver/words.txt"
NEEDS = ROOT / "extras/driver/needs.txt"
OWN_MODELS = ROOT / "extras/driver/embedded.txt"
# What `embedded` is of each variable of a model: a folder of EMBEDDED, or "" for a program of ours without weights.
MODELS = {
    "text_to_audio_model": "text_to_audio",
    "clap_model": "clap",
    "probe_clap_model": "clap",
    "ast_model": "ast",
    "captioner": "",
    "caption_writer": "",
}
BEGIN, END = "# ==== variables\n", "# ==== end"
PAGE_HEAD = """# Variables

Edit them at the top of `run.sh`, or give them as `--name value`. `sh run.sh --help` prints this list.

| variable | default | meaning |
|---|---|---|
"""


@dataclass(frozen=True)
class Data:
    """What a run is about."""

    profile: str = option(
        "embedded",
        "models and what suits them, set together; what you set wins",
        choices=("embedded", "stable_audio_open", "stable_audio_3", "laptop", "paper_models", "paper"),
    )
    dataset_name: str = option("demo", "names the outputs, ./<dataset_name>/ and ./<dataset_name>_synthetic/")
    input_train_file: str = option(
        "", "CSV of the training clips (path, label); all three CSVs empty: a demo set is made"
    )
    valid_csv: str = option("", "CSV of the validation clips; they choose the step of the classifier")
    test_csv: str = option("", "CSV of the test clips; scored once, at the end")
    add_csv: str = option(
        "",
        "CSV of training clips (path, label) that a run is extended by: only what depends on them is done, and the "
        "validation and test clips stay what they are",
    )
    num_samples: str = option(
        "", "training clips to draw, stratified; 0: all; empty: 50 of the demo set, else all", kind="whole 0.."
    )


@dataclass(frozen=True)
class Method:
    """What a run does."""

    augment: bool = option(True, "make synthetic clips; false: train on the gold clips alone")
    dpo: bool | str = option(
        True,
        "align the text-to-audio model with the gold clips first (preference optimisation). auto: no clips with it "
        "where labels are heard less, beyond chance, in some that are made both ways (paper: true)",
        kind="bool or auto",
    )
    dpo_ckpt_folder: str = option("", "adapter folder of an earlier run, instead of stages 3 and 4")
    use_label: bool = option(False, 'prompts are "Sound of a <label>", no captions')
    plain_caption: bool = option(False, "prompts from each clip's own caption, without MixCap's pool")
    plain_wo_caption: bool = option(False, "prompts from label and domain alone")
    channel_match: bool = option(
        False,
        "generated clips are heard through the recording chain of the gold clips: room, tone, bandwidth, level, noise, "
        "estimated from all of them (paper: false)",
    )
    clap_filter: bool = option(True, "drop the clips that do not sound like their label")
    iterative: bool = option(True, "self-reflection, new prompts for the clips that were dropped")
    reflect_rounds: int = option(
        2,
        "rounds of self-reflection, at most; they end when each class has num_iters for each gold clip",
        low=0,
        high=100,
    )
    balance: bool = option(
        False, "cut the synthetic clips so that no class has a larger share of its quota than another"
    )
    review: str = option(
        "",
        "review.csv as report.html saves it: clips that a listener keeps, drops or relabels, for a rerun",
    )
    only_synthetic: bool = option(False, "train on the synthetic clips without the gold ones")
    classifier: str = option(
        "auto",
        "what is saved as the classifier; all are trained and shown. auto: the fusion of what the models know and what "
        "the clips teach, unless validation clips say clearly that another is better",
        choices=("auto", "fusion", "probe", "ast"),
    )
    use_ast: bool = option(
        True, "fine-tune ast_model; false: only heads on frozen embeddings, and classifier=auto means probe"
    )
    zero_shot: bool = option(
        False, "for use_ast=false and augment=false: CLAP takes the label whose prompts are nearest"
    )
    other_class: bool = option(
        False,
        "train one more classifier, with a label other for what is none of the labels: from clips that the filter "
        "rejected and from other_csv; the end says how many false alarms that saves",
    )
    other_csv: str = option(
        "", "for other_class=true, CSV (path) or folder of sounds that are none of the labels, such as the background"
    )
    retrieval_csv: str = option(
        "", "CSV of a corpus (path): its clips nearest to the gold ones by CLAP, in place of generated ones"
    )


@dataclass(frozen=True)
class Models:
    """What the scripts call --model."""

    text_to_audio_model: str = option(
        "embedded",
        "Stable Audio in diffusers' format or as published, or a model of stable-audio-tools; several, parted by "
        "commas, share the clips of each label, and the report compares them",
    )
    clap_model: str = option(
        "embedded",
        "transformers' ClapModel or PeAudio, a .pt file of laion_clap, msclap:2022, msclap:2023, or a .pth file of "
        "msclap",
    )
    ast_model: str = option(
        "embedded",
        "transformers' AST or another audio classifier of it (Wav2Vec2, HuBERT, Whisper, ...), or a .pth checkpoint of "
        "the AST repository",
    )


@dataclass(frozen=True)
class Steps:
    """Which steps there are within a stage."""

    filter_w_finetune: bool = option(False, "fine-tune the CLAP of the filter on the gold clips first")
    dpo_losers: int = option(2, "generations for each gold clip that it is preferred to (paper: 2)", low=1, high=100)
    dpo_rounds: int = option(
        1, "rounds of alignment; each trains on, against generations of the round before (paper: 1)", low=1, high=100
    )


@dataclass(frozen=True)
class Heads:
    """What the heads on frozen embeddings hear."""

    probe_embeddings: str = option(
        "both", "for classifier=probe, what the linear probe hears", choices=("both", "ast", "clap")
    )
    probe_clap_model: str = option(
        "", "another CLAP than clap_model, which filters, for all heads on frozen embeddings"
    )


@dataclass(frozen=True)
class Outputs:
    """What a run leaves."""

    quality: bool = option(
        True, "measure the synthetic clips against real ones: KAD, FAD, diversity, label agreement, copies"
    )
    results_root: str = option("", "folder of all outputs; empty: that of run.sh")
    output_folder: str = option("", "folder of the synthetic audio; empty: <results_root>/<dataset_name>_synthetic")
    output_csv_path: str = option("", "the merged CSV; empty: <results_root>/<dataset_name>/train_<n>_synthetic.csv")
    embeddings_folder: str = option(
        "",
        "keeps what linear probe, retrieval and quality hear; empty: <results_root>/<dataset_name>/embeddings",
    )
    share_stages: bool = option(
        False, "take over what a results_root beside this one (in the same folder) has done already"
    )
    make_report: bool = option(True, "write report.html, the page that shows the run")


@dataclass(frozen=True)
class Machine:
    """Where a run works."""

    device: str = option("auto", "auto (every GPU of CUDA_VISIBLE_DEVICES), cpu or mps")
    cpu_shards: int = option(1, "processes that share the work where there is no GPU", low=1, high=1024)
    cpu_threads: int = option(
        0,
        "threads of each process where there is no GPU; 0: all cores. They decide the last bits of a result",
        low=0,
        high=1024,
    )
    train_devices: int = option(
        1,
        "GPUs that one training (alignment, AST) is shared out to; auto: all. It pays above some thousand clips",
        low=1,
        high=64,
        words=("auto",),
        kind="whole 1..64 or auto",
    )
    launcher: str = option(
        "local",
        "where stages with a model run: local, slurm (as jobs of a cluster), or a file of launcher functions",
    )
    launcher_options: str = option(
        "", "for launcher=slurm, options of sbatch: partition=gpu gres=gpu:1 cpus-per-task=8 mem=32G time=2:00:00"
    )
    launcher_tasks: int = option(4, "for launcher=slurm, tasks that share the work of a stage", low=1, high=9999)
    launcher_retries: int = option(
        1,
        "for launcher=slurm, how often a task that was lost, or cut off by its time limit, is submitted again",
        low=0,
        high=100,
    )
    stable_audio_env: str = option(
        "",
        "venv folder or conda environment that generates; empty: .venv, or the .envs/<name> that the model needs",
    )
    clap_env: str = option("", "venv folder or conda environment of filter and heads; empty: as for stable_audio_env")
    msclap_env: str = option(
        "", "venv folder or conda environment in place of clap_env, where clap_model is one of msclap"
    )
    ast_env: str = option("", "venv folder or conda environment of the classifier; empty: as for stable_audio_env")


@dataclass(frozen=True)
class Call:
    """Of one call."""

    stage: int = option(0, "first stage to run", low=0, high=10)
    stop_stage: int = option(10, "last stage to run", low=0, high=10)
    strict_env: bool = option(
        False, "do the stages again whose results were made with other versions of libraries than are installed"
    )
    force_steps: bool = option(False, "do the stages again even where they are up to date")
    dry_run: bool = option(False, "only print stages and commands; --dry_run alone means true")
    check: bool = option(False, "only say what is missing, for the models that are chosen; --check alone means true")
    advise: bool = option(
        False,
        "only say, in minutes, what synthetic clips and more recordings would bring each label; --advise alone means "
        "true",
    )


OWN = (Data, Method, Models, Steps, Heads, Outputs, Machine, Call)
SCRIPTS = (
    CheckOptions,
    PromptOptions,
    CaptionerOptions,
    WriterOptions,
    SamplingOptions,
    FilterOptions,
    FinetuneOptions,
    PreferenceOptions,
    Recipe,
    TakingOver,
    AttributionOptions,
    ReportClips,
    Compiling,
    Device,
    Tracking,
)
# Headings of the block, and what stands under each: names, or the variables of a class that have no other place.
SECTIONS: tuple[tuple[str, tuple[str | type, ...]], ...] = (
    (
        "data",
        (
            "profile dataset_name input_train_file valid_csv test_csv add_csv num_samples multi_label",
            "on_bad_audio seed",
            Data,
        ),
    ),
    (
        "what is done",
        (
            "augment dpo dpo_ckpt_folder num_iters use_label plain_caption plain_wo_caption supcon initialize_audio",
            "init_noise_level channel_match clap_filter clap_threshold iterative reflect_rounds balance only_synthetic",
            "review classifier use_ast zero_shot other_class other_csv retrieval_csv domain",
            Method,
        ),
    ),
    (
        "models: embedded, a folder, or a Hugging Face id",
        (
            "text_to_audio_model dtype",
            Models,
            CaptionerOptions,
            "caption_writer llm_model llm_base_url llm_max_calls llm_max_tokens llm_input_price llm_output_price",
            PromptOptions,
        ),
    ),
    ("generation", ("latent_seconds", SamplingOptions)),
    ("filter", (FilterOptions, "filter_w_finetune", FinetuneOptions)),
    (
        "preference optimisation",
        ("dpo_train_parts dpo_loss dpo_pairs dpo_losers dpo_rounds", PreferenceOptions, Steps),
    ),
    ("classifier", (Recipe, Heads)),
    ("outputs", ("quality attribution_clips", Outputs, ReportClips)),
    (
        "machine: a change here does no finished work again",
        ("device cpu_shards cpu_threads compile log_to stable_audio_env gama_env", Machine, Compiling, Tracking),
    ),
    ("this call", (Call,)),
)


def variables_of(kind: type) -> dict[str, Option]:
    """The variables of run.sh that a class declares."""
    found = {}
    for one, said in declared(kind):
        if kind in OWN or said.driver:
            found[said.driver or one.name] = said
    return found


def all_variables() -> dict[str, Option]:
    """Every variable and its option.

    Raises:
        ValueError: two fields declare the same one.
    """
    found: dict[str, Option] = {}
    for kind in (*OWN, *SCRIPTS):
        for name, said in variables_of(kind).items():
            if found.setdefault(name, said) is not said:
                raise ValueError(f"the variable {name} is declared twice")
    return found


def sections() -> Iterator[tuple[str, list[str]]]:
    """(heading, names) of the block, in its order."""
    named = {name for _, items in SECTIONS for item in items if isinstance(item, str) for name in item.split()}
    for heading, items in SECTIONS:
        names: list[str] = []
        for item in items:
            names += item.split() if isinstance(item, str) else [n for n in variables_of(item) if n not in named]
        yield heading, names


def inert_options() -> frozenset[str]:
    """The words of a command that change no result, each with the word after it."""
    return frozenset(f"--{flag_of(one)}" for kind in SCRIPTS for one, said in declared(kind) if said.inert)


def block() -> str:
    """The text between the marks of run.sh."""
    known = all_variables()
    lines = ["# Paths start at the folder you call from. A word before the colon says what is allowed."]
    for heading, names in sections():
        lines.append(f"# -- {heading}")
        for name in names:
            said = known[name]
            value = said.default_text()
            value = value if re.fullmatch(r"[\w.-]+", value) else f'"{value}"'
            lines.append(f"{f'{name}={value}':<26} # {said.kind_text()}: {said.help}")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The text of docs/variables.md."""
    known = all_variables()
    rows = []
    for _, names in sections():
        for name in names:
            value = known[name].default_text()
            shown = f"`{value}`" if value else ""
            rows.append(f"| `{name}` | {shown} | {known[name].help.replace('|', '/')} |\n")
    return PAGE_HEAD + "".join(rows)


def rows_of(table: Path) -> list[list[str]]:
    """The rows of a table of TABLES, the head first."""
    lines = table.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def defaults() -> str:
    """What the variables of the tables are where nobody has edited run.sh: a name and a value a line."""
    known = all_variables()
    names = dict.fromkeys(row[0] for table in TABLES for row in rows_of(table)[1:])
    return "".join(f"{name} {known[name].default_text()}".rstrip() + "\n" for name in names)


def words() -> str:
    """The variables that a script takes as they are: class, option and variable a line."""
    return "".join(
        f"{kind.__name__} --{flag_of(one)} {said.driver}\n"
        for kind in SCRIPTS
        for one, said in declared(kind)
        if said.driver
    )


def needs() -> str:
    """The values that go with one value of another variable alone: both names and values, and why, a line."""
    lines = []
    for kind in SCRIPTS:
        driver_of = {one.name: said.driver for one, said in declared(kind)}
        for _, said in declared(kind):
            need = said.need
            if need and said.driver:
                lines.append(f"{said.driver} {need.value} {driver_of[need.field]} {need.wanted} {need.why}\n")
    return "".join(lines)


def own_models() -> str:
    """Where the embedded models lie: variable and folder, from the root of the repository, a line."""
    folders = {variable: (EMBEDDED / name).relative_to(ROOT) for variable, name in MODELS.items() if name}
    return "".join(f"{variable} {folder.as_posix()}\n" for variable, folder in folders.items())


def texts() -> dict[Path, str]:
    """What each generated file should hold."""
    before, _, rest = RUN.read_text(encoding="utf-8").partition(BEGIN)
    after = rest[rest.index(END) :]
    lists = {DEFAULTS: defaults(), WORDS: words(), NEEDS: needs(), OWN_MODELS: own_models()}
    return {RUN: before + BEGIN + block() + after, PAGE: page()} | lists


def main() -> int:
    new_parser(__doc__).parse_args()
    for path, text in texts().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            mode = path.stat().st_mode if path.is_file() else None
            write_text(path, text)
            if mode is not None:
                path.chmod(mode)
            print(f"{path.relative_to(ROOT)}: written")
    return 0


if __name__ == "__main__":
    run_main(main)
