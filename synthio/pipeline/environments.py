"""Which environment a step needs: run.sh asks before anything runs, and the stages load by the same rule.

    python -m synthio.pipeline.environments --named clap_env < steps    (lines as in synthio.pipeline.steps)

Prints a line "step variable environment model" for each step that loads models: the variable of run.sh by which the
user may name its interpreter, and the variable of the model that decides. A step is one process, so its environment
has to hold the libraries of all its models. The environment is one of extras/environments, or

    named     the user names one, so nothing is looked up
    unknown   a hub id whose files neither the cache nor the hub shows
    later     a hub id, and this Python lacks the hub's client, which .venv has
    conflict  no environment has the libraries of all

It asks the hub for a list of files at most, and only for a text-to-audio model that it does not know; and for a
config.json, only where another model of the step needs an older transformers.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Sequence

from synthio.cli import new_parser, run_main
from synthio.models.classifiers import FROZEN, kind_of
from synthio.models.load import known_backend, scorer_backend_of
from synthio.pipeline.steps import read_steps

# Environment -> what it can load; the first that has all is taken.
ENVIRONMENTS = {
    "main": {"diffusers", "transformers"},
    "stable_audio": {"stable_audio_tools", "transformers"},
    "clap": {"laion_clap", "msclap", "transformers"},
    "gama": {"gama"},
}
OLD = ("clap",)  # of these, with a transformers that lacks the classes of `classifiers.FROZEN`
# Variable of a model -> that of the interpreter of a step which loads it first.
INTERPRETERS = {
    "text_to_audio_model": "stable_audio_env",
    "captioner": "gama_env",
    "clap_model": "clap_env",
    "probe_clap_model": "clap_env",
    "ast_model": "ast_env",
}


def get_parser():
    parser = new_parser(__doc__)
    names = sorted({*INTERPRETERS.values(), "msclap_env"})
    parser.add_argument(
        "--named", nargs="*", default=[], choices=names, help="variables by which the user names an environment"
    )
    return parser


def library_of(variable: str, model: str) -> str | None:
    """The library that loads a model; None where only its files could tell, which cannot be seen."""
    if variable == "text_to_audio_model":
        return known_backend(model)
    if variable in ("clap_model", "probe_clap_model"):
        return scorer_backend_of(model)
    return "gama" if model == "gama" else "transformers"


def is_new(variable: str, model: str) -> bool:
    """Whether older versions of transformers lack the class of a model."""
    is_theirs = variable in ("ast_model", "clap_model", "probe_clap_model")
    return is_theirs and library_of(variable, model) == "transformers" and kind_of(model) in FROZEN


def interpreter_variable(variable: str, model: str, named: Collection[str]) -> str:
    """The variable of run.sh that names the interpreter of a step whose first model this is; "-": there is none."""
    if INTERPRETERS.get(variable) == "clap_env" and "msclap_env" in named and scorer_backend_of(model) == "msclap":
        return "msclap_env"
    return INTERPRETERS.get(variable, "-")


def answer(models: Sequence[tuple[str, str]], named: Collection[str] = ()) -> tuple[str, str, str]:
    """(variable of the interpreter, environment, variable of the model that decides) of a step.

    Args:
        models: (variable, model) of each that the step loads, one or more.
        named: variables by which the user names an environment.
    """
    first, model = models[0]
    interpreter = interpreter_variable(first, model, named)
    if interpreter in named and model != "gama":
        return interpreter, "named", first
    libraries = set()
    for variable, model in models:
        try:
            library = library_of(variable, model)
        except ModuleNotFoundError:
            if importlib.util.find_spec("huggingface_hub"):
                raise
            return interpreter, "later", variable
        if library is None:
            return interpreter, "unknown", variable
        libraries.add(library)
    fitting = [name for name, loads in ENVIRONMENTS.items() if libraries <= loads]
    if fitting and fitting[0] in OLD and any(is_new(variable, model) for variable, model in models):
        fitting = []
    return interpreter, fitting[0] if fitting else "conflict", first


def main() -> int:
    args = get_parser().parse_args()
    for step in read_steps(sys.stdin):
        if step.models:
            print(step.name, *answer(step.models, args.named))
    return 0


if __name__ == "__main__":
    run_main(main)
