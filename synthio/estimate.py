"""Say what a run will do, on what, and roughly how long: the first lines of run.sh.

    python -m synthio.estimate dataset_name=demo num_iters=2 ... machine="CPU, 1 process of 2 threads" work=demo

The words are run.sh's variables as they stand after its checks, and what it found out: `work` (folder of the outputs),
`train_csv` (the gold clips that will be drawn), `machine` and `is_demo`. Times come from `<work>/durations.tsv`, where
run.sh notes each stage that it ran, if that was on the same machine with the same model; else, for embedded models on
a CPU, from one run that was measured. This module needs nothing but Python.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from synthio.cli import UserError, new_parser, run_main

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "text_to_audio_model": "text_to_audio",
    "clap_model": "clap",
    "probe_clap_model": "clap",
    "ast_model": "ast",
    "captioner": "",
    "caption_writer": "",
}
DEMO_CLIPS = 200
AUTO_STEPS = 24  # of the sampler, for the embedded model
# Share of a round's clips that the filter drops; 57 of 200 and 13 of 57 in a run with earlier models.
DROPPED = 0.27
SAMPLED, STEPPED = ("losers", "generate"), ("dpo", "filter_classifier", "classify")
ON_CPU = ("demo", "check", "stratify", "captions", "rewrite", "dataset", "report")  # with and without a GPU
# Seconds of a unit (see Work.amount) and of the start: embedded models, about one core; the demo and ESC-10. Those of
# quality, report and heads are guesses from a dozen clips.
MEASURED = {
    "demo": (0.05, 0.0),
    "check": (0.013, 0.5),
    "stratify": (0.0, 0.6),
    "caption": (0.018, 0.5),
    "captions": (0.0, 0.6),
    "rewrite": (0.0, 0.6),
    "losers": (0.032, 7.0),
    "dpo": (0.058, 4.0),
    "generate": (0.032, 7.0),
    "filter": (0.026, 8.0),
    "dataset": (0.0, 0.6),
    "classify": (0.031, 5.0),
    "filter_classifier": (0.031, 5.0),
    "heads": (0.03, 8.0),
    "quality": (0.06, 6.0),
    "report": (0.05, 5.0),
}


@dataclass(frozen=True)
class Work:
    """One stage of a run: enough to compare it with the same stage of another.

    Attributes:
        stage: name of its log, with the number of the round.
        rows: clips, or rows of the table it reads; 0: it has none.
        steps: of the sampler or the optimiser; 0: what suits the model.
        batch: clips in a step.
        model: folder or id; of several, parted by commas.
    """

    stage: str
    rows: int = 0
    steps: int = 0
    batch: int = 0
    model: str = ""

    @property
    def kind(self) -> str:
        """The stage without its round or classifier."""
        return re.sub(r"_(\d+|gold_only|synthio)$", "", self.stage)

    def amount(self) -> float:
        """Clips times steps, or rows: what the time grows with."""
        if self.kind in STEPPED:
            return self.steps * self.batch
        return self.rows * (self.steps or AUTO_STEPS) if self.kind in SAMPLED else self.rows

    def seconds_from(self, seconds: float, earlier: Work) -> float | None:
        """Seconds, from those of the same kind of stage; None: these two cannot be compared."""
        if self.model != earlier.model or (self.steps == 0) != (earlier.steps == 0):
            return None
        now, then = self.amount(), earlier.amount()
        return seconds * now / then if then else seconds


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("variables", nargs="+", metavar="NAME=VALUE", help="a variable of run.sh")
    return parser


def parse_variables(words: Sequence[str]) -> dict[str, str]:
    """name=value words -> {name: value}."""
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise UserError(f"'{wrong[0]}' is not name=value")
    return dict(word.split("=", 1) for word in words)


def is_on(variables: Mapping[str, str], name: str) -> bool:
    """Whether a boolean of run.sh is true."""
    return variables.get(name) == "true"


def rows_in(path: str) -> int | None:
    """Rows of a CSV, or None when it is not there."""
    if not Path(path).is_file():
        return None
    with Path(path).open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        return sum(1 for _ in csv.DictReader(stream))


def gold_clips(variables: Mapping[str, str]) -> int | None:
    """How many clips will be drawn, as far as it is known before the inputs are checked."""
    drawn = int(variables.get("num_samples") or 0)
    found = drawn or rows_in(variables["train_csv"]) or rows_in(variables["input_train_file"])
    return found or (DEMO_CLIPS if is_on(variables, "is_demo") else None)


def is_embedded(variables: Mapping[str, str], name: str) -> bool:
    """Whether a model variable means the model of this repository."""
    own = ROOT / "extras/embedded/weights" / MODELS[name]
    return variables[name] == "embedded" or (bool(MODELS[name]) and Path(variables[name]) == own)


def prompt_mode(variables: Mapping[str, str]) -> str:
    """How the prompts are made, as in run.sh."""
    if is_on(variables, "use_label"):
        return "template"
    if is_on(variables, "plain_caption"):
        return "plain"
    if is_on(variables, "plain_wo_caption"):
        return "plain_wo_caption"
    return "supcon" if is_on(variables, "supcon") else "mixcap"


def rounds(variables: Mapping[str, str], clips: int) -> Iterator[tuple[int, int]]:
    """(round, clips) of self-reflection, with the measured share of clips that the filter drops."""
    most = int(variables["reflect_rounds"]) if is_on(variables, "clap_filter") else 0
    for k in range(1, most + 1):
        clips = round(clips * DROPPED)
        if clips < 1:
            return
        yield k, clips


def plan(variables: Mapping[str, str], gold: int) -> list[Work]:
    """The stages of the run that take time, in order, from --stage to --stop_stage."""
    first, last = int(variables["stage"]), int(variables["stop_stage"])
    works = [(0, Work("check", gold)), (1, Work("stratify", gold))]
    if is_on(variables, "is_demo"):
        works.insert(0, (0, Work("demo", DEMO_CLIPS)))
    if is_on(variables, "augment"):
        works += augmentation(variables, gold)
    works += classification(variables, gold)
    if is_on(variables, "make_report"):
        works.append((10, Work("report", gold + synthetic_clips(variables, gold))))
    return [work for number, work in works if first <= number <= last]


def synthetic_clips(variables: Mapping[str, str], gold: int) -> int:
    """How many clips are generated in the first round."""
    return gold * int(variables["num_iters"]) if is_on(variables, "augment") else 0


def classification(variables: Mapping[str, str], gold: int) -> list[tuple[int, Work]]:
    """(number, work) of stage 10. Of clips that are heard, each counts once, for their embeddings are kept."""
    heard = gold + sum(rows_in(variables[name]) or 0 for name in ("valid_csv", "test_csv"))
    models, made = ",".join([variables["ast_model"], heads_clap(variables)]), synthetic_clips(variables, gold)
    works = classifier_works("gold_only", variables, heard, models)
    if is_on(variables, "augment"):
        works += [Work("quality", made, model=models)] if is_on(variables, "quality") else []
        works += classifier_works("synthio", variables, made, models)
    return [(10, work) for work in works]


def heads_clap(variables: Mapping[str, str]) -> str:
    """The CLAP of the heads."""
    return variables["probe_clap_model"] or variables["clap_model"]


def classifier_works(name: str, variables: Mapping[str, str], heard: int, models: str) -> list[Work]:
    """AST, where it is trained, and the heads."""
    works = [ast_work(f"classify_{name}", variables)] if is_on(variables, "use_ast") else []
    return [*works, Work(f"heads_{name}", heard, model=models)]


def ast_work(stage: str, variables: Mapping[str, str]) -> Work:
    """A training of the classifier."""
    return Work(stage, 0, int(variables["ast_num_steps"]), int(variables["ast_batch_size"]), variables["ast_model"])


def augmentation(variables: Mapping[str, str], gold: int) -> list[tuple[int, Work]]:
    """(number, work) of stages 2 to 9."""
    clips, works, model = synthetic_clips(variables, gold), [], variables["text_to_audio_model"]
    steps, batch = int(variables["num_steps"]), int(variables["generate_batch_size"])
    mode, writer = prompt_mode(variables), variables["caption_writer"]
    if variables["retrieval_csv"]:
        works.append((6, Work("retrieve", gold, model=variables["clap_model"])))
        return [*works, *filtering(variables, clips), (9, Work("dataset", clips))]
    if mode in ("mixcap", "plain"):
        works.append((2, Work("caption", gold, model=variables["captioner"])))
    if is_on(variables, "dpo") and not variables["dpo_ckpt_folder"]:
        works += alignment(variables, gold)
    works.append((5, Work("captions", gold, model="" if mode == "template" else writer)))
    works.append((6, Work("generate", clips, steps, batch, model)))
    works += filtering(variables, clips)
    for k, again in rounds(variables, clips):
        works.append((8, Work(f"rewrite_{k}", again, model=writer)))
        works.append((8, Work(f"generate_{k}", again, steps, batch, model)))
        works.append((8, Work(f"filter_{k}", again, model=variables["clap_model"])))
    return [*works, (9, Work("dataset", clips))]


def filtering(variables: Mapping[str, str], clips: int) -> list[tuple[int, Work]]:
    """(number, work) of stage 7."""
    if not is_on(variables, "clap_filter"):
        return []
    works = [(7, Work("filter", clips, model=variables["clap_model"]))]
    if float(variables["classifier_weight"]) > 0:
        works.append((7, ast_work("filter_classifier", variables)))
    return works


def alignment(variables: Mapping[str, str], gold: int) -> list[tuple[int, Work]]:
    """(number, work) of stages 3 and 4."""
    works, model = [], variables["text_to_audio_model"]
    losers, pairs = gold * int(variables["dpo_losers"]), int(variables["dpo_batch_size"])
    steps = int(variables["dpo_num_steps"])
    if float(variables["dpo_num_epochs"]) > 0:
        steps = max(1, round(float(variables["dpo_num_epochs"]) * losers / pairs))
    for k in range(1, int(variables["dpo_rounds"]) + 1):
        suffix = "" if k == 1 else f"_{k}"
        if variables["dpo_loss"] == "dpo":
            sampling = int(variables["num_steps"]), int(variables["generate_batch_size"])
            works.append((3, Work(f"losers{suffix}", losers, *sampling, model)))
        works.append((4, Work(f"dpo{suffix}", 0, steps, pairs * int(variables["dpo_accumulation"]), model)))
    return works


# ---- seconds


def read_durations(path: Path, machine: str) -> list[tuple[Work, float]]:
    """(work, seconds) of the stages that an earlier run did on the same machine, latest first.

    A line is stage, seconds, rows (or nothing), machine and the command as a shell reads it, parted by tabs.
    """
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = line.split("\t")
        if len(cells) != 5 or cells[3] != machine:
            continue
        try:
            found.append((work_of(cells[0], cells[2], cells[4]), float(cells[1])))
        except ValueError:  # half a line of a run that was killed
            continue
    return found[::-1]


def work_of(stage: str, rows: str, command: str) -> Work:
    """What a command of run.sh did."""
    words = shlex.split(command)
    options = dict(pairwise(words))
    heard = [options[name] for name in ("--ast_model", "--clap_model") if name in options]
    model = options.get("--model") or options.get("--captioner") or options.get("--writer") or ",".join(heard)
    steps = int(options.get("--num_steps", 0)) if float(options.get("--num_epochs", 0)) == 0 else 0
    batch = int(options.get("--batch_size", 0)) * int(options.get("--gradient_accumulation", 1))
    return Work(stage, int(rows) if rows.isdigit() else 0, steps, batch, model)


def seconds_of(work: Work, earlier: Sequence[tuple[Work, float]], measured: bool) -> float | None:
    """Seconds of a stage: from the same one of an earlier run, from one of its kind, from the measured run; or None."""
    for same in (lambda then: then.stage == work.stage, lambda then: then.kind == work.kind):
        for then, seconds in earlier:
            guess = work.seconds_from(seconds, then) if same(then) else None
            if guess is not None:
                return guess
    if work.kind not in MEASURED or not (is_own(work.model) and (measured or work.kind in ON_CPU)):
        return None
    unit, start = MEASURED[work.kind]
    return start + unit * work.amount()


def is_own(model: str) -> bool:
    """Whether a model, or each of several parted by commas, is one of this repository, or none at all."""
    weights = ROOT / "extras/embedded/weights"
    return all(name in ("", "embedded") or Path(name).parent == weights for name in model.split(","))


def expected_time(variables: Mapping[str, str]) -> str:
    """'about 14 min, if nothing is up to date (...)', or 'unknown: ...'."""
    gold = gold_clips(variables)
    if gold is None:
        return "unknown: the training clips cannot be counted"
    earlier = read_durations(Path(variables["work"]) / "durations.tsv", variables["machine"])
    on_cpu = variables["machine"].startswith("CPU")
    works = plan(variables, gold)
    guesses = [seconds_of(work, earlier, on_cpu) for work in works]
    unknown = dict.fromkeys(work.kind for work, guess in zip(works, guesses, strict=True) if guess is None)
    if unknown:
        return f"unknown; not timed yet with these models on this machine: {', '.join(unknown)}"
    source = "from the last run" if earlier else "as measured on one core"
    return f"about {in_words(sum(guess for guess in guesses if guess is not None))} if nothing is up to date ({source})"


def in_words(seconds: float) -> str:
    """'40 s', '14 min', '3.5 h'."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# ---- the first lines


def shown_model(variables: Mapping[str, str], name: str) -> str:
    """A model as short as it can be said."""
    value = variables[name]
    if name == "caption_writer" and value == "openai":
        return variables["llm_model"]
    return "embedded" if is_embedded(variables, name) else Path(value).name if Path(value).exists() else value


def used_models(variables: Mapping[str, str]) -> list[str]:
    """The model variables that this run reads."""
    used, augment = [], is_on(variables, "augment")
    mode = prompt_mode(variables)
    retrieved = augment and bool(variables["retrieval_csv"])
    if augment and not retrieved:
        used.append("text_to_audio_model")
        used += ["captioner"] * (mode in ("mixcap", "plain")) + ["caption_writer"] * (mode != "template")
    if variables["probe_clap_model"] not in ("", variables["clap_model"]):
        used.append("probe_clap_model")
    if "probe_clap_model" not in used or filters_with_clap(variables):
        used.append("clap_model")
    return [*used, "ast_model"]


def filters_with_clap(variables: Mapping[str, str]) -> bool:
    """Whether clap_model chooses clips."""
    ranked = is_on(variables, "dpo") and variables["dpo_pairs"] == "ranked"
    return is_on(variables, "augment") and bool(variables["retrieval_csv"] or is_on(variables, "clap_filter") or ranked)


def clips_line(variables: Mapping[str, str], gold: int | None) -> str:
    """How many clips go in and come out."""
    if gold is None:
        return "not counted yet"
    if not is_on(variables, "augment"):
        return f"{gold} gold, none synthetic"
    text = f"{gold} gold, {gold * int(variables['num_iters'])} synthetic"
    if not is_on(variables, "clap_filter"):
        return text
    most = int(variables["reflect_rounds"])
    again = f", at most {most} round{'s' * (most > 1)} for what it drops" if most else ""
    return f"{text} before the filter{again}"


def start_lines(variables: Mapping[str, str]) -> list[str]:
    """What will run, on what, and roughly how long."""
    models = {name: shown_model(variables, name) for name in used_models(variables)}
    names = ", ".join(f"{name.removesuffix('_model')} {model}" for name, model in models.items())
    return [
        f"{variables['dataset_name']}: stages {variables['stage']} to {variables['stop_stage']}",
        f"    machine  {variables['machine']}",
        f"    models   {'embedded' if set(models.values()) == {'embedded'} else names}",
        f"    clips    {clips_line(variables, gold_clips(variables))}",
        f"    time     {expected_time(variables)}",
    ]


def main() -> int:
    variables = parse_variables(get_parser().parse_args().variables)
    print("\n".join(start_lines(variables)))
    return 0


if __name__ == "__main__":
    run_main(main)
