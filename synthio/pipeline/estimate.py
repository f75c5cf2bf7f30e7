"""Say what a run will do, on what, and roughly how long: the first lines of run.sh.

    python -m synthio.pipeline.estimate dataset_name=demo num_iters=2 ... machine="CPU, 1 process" work=demo < steps

The words are run.sh's variables as they stand after its checks, and what it found out: `work` (folder of the outputs),
`train_csv` (the gold clips that will be drawn), `machine`, `is_demo` and `ahead` (names of the steps that will run).
The steps are those of the run, a line each (synthio.pipeline.steps). Times come from `<work>/durations.tsv`, where
run.sh notes each step that it ran, if that was on the same machine with the same model; else, for embedded models on a
CPU, from one run that was measured. This module needs nothing but Python.
"""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthio.captions.samples import SampleOptions
from synthio.cli import UserError, new_parser, run_main
from synthio.files import EMBEDDED
from synthio.pipeline.sizes import sizes_of
from synthio.pipeline.steps import Step, kind_of, loaded_models, options_of, read_steps, steps_ahead
from synthio.pipeline.variables import MODELS

DEMO_CLIPS = (200, 60, 100)  # train, valid, test
LABELS = 10  # of the demo; how many others have is not known before the clips are read
# Steps of the sampler for the embedded model: with its own weights, and with those for few steps, whose 8 without
# guidance take the time of 3 of the others, decoding included.
OWN_STEPS, AUTO_STEPS = 24, 3
PATIENT = 0.47  # share of the classifier's steps after which its patience ended it in the demo
# Share of a round's clips that the filter drops; 57 of 200 and 13 of 57 in a run with earlier models.
DROPPED = 0.27
SAMPLED, STEPPED = ("losers", "generate"), ("dpo", "finetune_clap", "filter_classifier", "classify")
ON_CPU = ("demo", "check", "captions", "rewrite", "channel", "report")  # with and without a GPU
START_S = 0.6  # of a step that loads no model and does little else than start
# Seconds of a unit (see Work.amount) and of the start: embedded models, about one core; the demo and ESC-10. Those of
# quality, report, heads, other, false_alarms and judge are guesses from a dozen clips; of finetune_clap, from 50 steps
# on 100.
MEASURED = {
    "demo": (0.08, 1.0),
    "check": (0.0065, 0.5),
    "caption": (0.018, 0.5),
    "captions": (0.0, 0.6),
    "rewrite": (0.0, 0.6),
    "losers": (0.028, 1.0),
    "dpo": (0.04, 3.0),
    "finetune_clap": (0.5, 8.0),
    "generate": (0.028, 1.0),
    "channel": (0.015, 3.0),
    "filter": (0.05, 1.3),
    "classify": (0.02, 3.5),
    "filter_classifier": (0.02, 3.5),
    "heads": (0.03, 5.0),
    "other": (0.0065, 1.0),
    "false_alarms": (0.03, 8.0),
    "judge": (0.03, 3.0),
    "quality": (0.035, 3.0),
    "advise": (0.25, 10.0),
    "report": (0.05, 5.0),
}


# Of models of full size on one core, measured with random weights of their sizes (docs/models.md): seconds to hear a
# clip of up to 10 s (CLAP), to read a prompt (T5Gemma), and multiplications in a second (transformer, autoencoder).
HEARD_S = {"laion/clap-htsat-unfused": 0.33}
READ_S, PASS_HZ, CODE_HZ = 0.6, 3.8e10, 4.6e10
MOST_ON_A_CPU = 1_000_000_000  # parameters of a generator
CLIP_S = 10.0  # where the training clips' lengths are not known
SAME_TOKENS = 17  # of its autoencoder, a latent frame


@dataclass(frozen=True)
class Work:
    """One step of a run: enough to compare it with the same stage of another.

    Attributes:
        stage: name of the step, with the number of the round.
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
        """The step without its round or classifier; clips that are generated again are generated."""
        kind = kind_of(self.stage)
        return "generate" if kind == "again" else kind

    def amount(self) -> float:
        """Clips times steps, or rows: what the time grows with."""
        if self.kind in STEPPED:
            return self.steps * max(1, self.batch)
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
        try:
            return sum(1 for _ in csv.DictReader(stream))
        except csv.Error:  # stage 0 says what it is
            return None


def clips_of(steps: Sequence[Step], variables: Mapping[str, str]) -> int | None:
    """How many gold clips the steps will draw, as far as it is known before the inputs are checked."""
    return follow_rows(steps)[1].get(variables["train_csv"])


def is_embedded(variable: str, model: str) -> bool:
    """Whether a model variable means the model of this repository."""
    own = EMBEDDED / MODELS[variable]
    return model == "embedded" or (bool(MODELS[variable]) and Path(model) == own)


# ---- rows


def follow_rows(steps: Iterable[Step]) -> tuple[list[tuple[Step, int | None]], dict[str, int | None]]:
    """What a run's tables will hold.

    Returns:
        (step, rows of the first table that it reads, or makes of nothing) in order, None where they cannot be known
        yet; and path -> rows of each table that a step writes.
    """
    found: list[tuple[Step, int | None]] = []
    rows: dict[str, int | None] = {}
    for step in steps:
        read = [rows[path] if path in rows else rows_in(path) for path in step.reads]
        written = written_rows(step, read)
        found.append((step, read[0] if read else written[0]))
        rows |= dict(zip(step.writes, written, strict=False))
    return found, rows


def written_rows(step: Step, read: Sequence[int | None]) -> list[int | None]:
    """Rows of the tables that a step writes, from those that it reads."""
    if step.kind == "demo":
        return list(DEMO_CLIPS)
    if step.kind == "check":
        return list(read)
    if step.kind == "prompts":
        return [LABELS * SampleOptions().clips]
    if step.kind in ("merge", "balance"):  # the latter reads the gold clips, too
        parts = read if step.kind == "merge" else read[1:]
        return [None if None in parts else sum(part or 0 for part in parts)]
    first, options = read[0], step.options
    if step.kind == "deal":  # what is over goes to the first
        parts_ = len(step.writes)
        return [None if first is None else (first + parts_ - 1 - i) // parts_ for i in range(parts_)]
    if step.kind == "gather":
        return [first]
    if step.kind == "again_prompts":
        return [sum(min(rows or 0, int(options["--attribution_clips"])) for rows in read)]
    if int(options.get("--num_samples", 0)):
        return [int(options["--num_samples"])]
    if first is None:
        return [None]
    if step.kind == "filter":
        dropped = round(first * DROPPED)
        return [first - dropped, dropped]
    return [first * int(options.get("--num_captions") or options.get("--num_clips") or 1)]


def works_of(steps: Sequence[Step], variables: Mapping[str, str]) -> list[Work]:
    """The work of the steps from --stage to --stop_stage, in order, without rounds for which nothing is left."""
    followed, rows = follow_rows(steps)
    ahead, works = steps_ahead(steps, variables), []
    heard: set[str] = set()
    for step, count in followed:
        if step not in ahead or (count == 0 and step.kind in ("rewrite", "generate", "channel", "filter")):
            continue
        if "--cache_folder" in step.options and step.kind == "heads":  # what it hears is kept for the next
            named = step.options.get("--classes_csv")  # its labels are read, its clips are not heard
            new = [path for path in step.reads if path not in heard and path != named]
            heard.update(new)
            count = sum(rows.get(path) or 0 for path in new)
        work = work_of(step.name, count or 0, step.words)
        epochs = float(step.options.get("--num_epochs", 0))
        if epochs:
            pairs = rows.get(step.options.get("--losers_csv", "")) or count or 0
            steps_ = max(1, round(epochs * pairs / int(step.options["--batch_size"])))
            work = replace(work, steps=steps_)
        works.append(work)
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
            rows = int(cells[2]) if cells[2].isdigit() else 0
            found.append((work_of(cells[0], rows, shlex.split(cells[4])), float(cells[1])))
        except ValueError:  # half a line of a run that was killed
            continue
    return found[::-1]


def work_of(stage: str, rows: int, words: Sequence[str]) -> Work:
    """What a step does, by its words."""
    options = options_of(words)
    heard = [options[name] for name in ("--ast_model", "--clap_model") if name in options]
    model = options.get("--model") or options.get("--captioner") or options.get("--writer") or ",".join(heard)
    steps = int(options.get("--num_steps", 0)) if float(options.get("--num_epochs", 0)) == 0 else 0
    if int(options.get("--patience", 0)):
        steps = max(1, round(PATIENT * steps))
    if options.get("--distilled") == "false":
        steps = steps or OWN_STEPS
    batch = int(options.get("--batch_size", 0)) * int(options.get("--gradient_accumulation", 1))
    return Work(stage, rows, steps, batch, model)


def seconds_of(
    work: Work, earlier: Sequence[tuple[Work, float]], measured: bool, longest_s: float | None = None
) -> float | None:
    """Seconds of a stage: from the same one of an earlier run, from one of its kind, from the measured run; or None."""
    for same in (lambda then: then.stage == work.stage, lambda then: then.kind == work.kind):
        for then, seconds in earlier:
            guess = work.seconds_from(seconds, then) if same(then) else None
            if guess is not None:
                return guess
    if not work.model and work.kind not in MEASURED:
        return START_S
    if work.kind not in MEASURED or not (measured or work.kind in ON_CPU):
        return None
    unit, start = MEASURED[work.kind]
    if work.kind in SAMPLED and not is_own(work.model):
        each = sampled_s(work, longest_s or CLIP_S)
        return None if each is None else start + each * work.rows
    more = heard_s(work.model)
    if more is None or (more and work.kind in STEPPED):
        return None
    return start + unit * work.amount() + more * work.rows


def heard_s(models: str) -> float | None:
    """Seconds on a CPU that models beside the embedded ones take for a clip; None: not known."""
    others = [name for name in models.split(",") if not is_own(name)]
    return None if set(others) - HEARD_S.keys() else sum(HEARD_S[name] for name in others)


def suits_a_cpu(model: str) -> bool:
    """Whether a model of full size is one whose time on a CPU is known here, and is no matter of days."""
    sizes = sizes_of(model)
    return model in HEARD_S or (sizes is not None and sizes.family == "three" and sizes.parameters < MOST_ON_A_CPU)


def sampled_s(work: Work, seconds: float) -> float | None:
    """Seconds on a CPU to make a clip of this length with a Stable Audio 3; None: its sizes are not known."""
    sizes, steps = sizes_of(work.model), work.steps
    if sizes is None or sizes.family != "three":
        return None
    passes = (steps or 8) if sizes.is_distilled else 2 * (steps or 100)  # guidance wants two
    frames = sizes.grid.taken(sizes.grid.filled(seconds))
    sounding = sizes.sound_parameters / 2 * frames * SAME_TOKENS
    return READ_S + passes * sizes.parameters * (frames + sizes.extra) / PASS_HZ + sounding / CODE_HZ


def is_own(model: str) -> bool:
    """Whether a model, or each of several parted by commas, is one of this repository, or none at all."""
    weights = EMBEDDED
    return all(name in ("", "embedded") or Path(name).parent == weights for name in model.split(","))


def expected_time(steps: Sequence[Step], variables: Mapping[str, str], longest_s: float | None = None) -> str:
    """'about 14 min, if nothing is up to date (...)', or 'unknown: ...'; `longest_s`: of the training clips."""
    if clips_of(steps, variables) is None:
        return "unknown: the training clips cannot be counted"
    earlier = read_durations(Path(variables["work"]) / "durations.tsv", variables["machine"])
    on_cpu = variables["machine"].startswith("CPU")
    works = works_of(steps, variables)
    guesses = [seconds_of(work, earlier, on_cpu, longest_s) for work in works]
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


def shown_model(variable: str, model: str, variables: Mapping[str, str]) -> str:
    """A model as short as it can be said."""
    if model == "openai":
        return variables["caption_model" if variable == "captioner" else "llm_model"]
    return "embedded" if is_embedded(variable, model) else Path(model).name if Path(model).exists() else model


def clips_line(steps: Sequence[Step], variables: Mapping[str, str]) -> str:
    """How many clips go in and come out."""
    followed, rows = follow_rows(steps)
    gold, kinds = clips_of(steps, variables), [step.kind for step in steps]
    if gold is None:
        return "not counted yet"
    maker = "gather" if "gather" in kinds else "generate"
    whole = (maker, f"{maker}_added", f"{maker}_advise", "retrieve")
    made = [rows[step.writes[0]] for step, _ in followed if step.name in whole]  # of the first round
    if not made:
        return f"{gold} gold, none synthetic"
    text = f"{gold} gold, {None if None in made else sum(count or 0 for count in made)} synthetic"
    if "filter" not in kinds:
        return text
    most = kinds.count("rewrite")
    again = f", at most {most} round{'s' * (most > 1)} for what it drops" if most else ""
    return f"{text} before the filter{again}"


def start_lines(steps: Sequence[Step], variables: Mapping[str, str]) -> list[str]:
    """What will run, on what, and roughly how long."""
    used = loaded_models(steps_ahead(steps, variables))
    models = [(name, shown_model(name, model, variables)) for name, model in used]
    names = ", ".join(f"{name.removesuffix('_model')} {model}" for name, model in models)
    return [
        f"{variables['dataset_name']}: stages {variables['stage']} to {variables['stop_stage']}",
        f"    machine  {variables['machine']}",
        f"    models   {'embedded' if {model for _, model in models} == {'embedded'} else names or 'none'}",
        f"    clips    {clips_line(steps, variables)}",
        f"    time     {expected_time(steps, variables)}",
    ]


def main() -> int:
    variables = parse_variables(get_parser().parse_args().variables)
    print("\n".join(start_lines(read_steps(sys.stdin), variables)))
    return 0


if __name__ == "__main__":
    run_main(main)
