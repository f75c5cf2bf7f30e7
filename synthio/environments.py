"""Which environment of extras/ a model needs: run.sh asks before anything runs, and the stages load by the same rule.

    python -m synthio.environments text_to_audio_model=owner/name clap_model=clap.pt captioner=gama

Prints a line "variable environment library" for each; the environment is one of extras/environments.txt, or

    unknown   a hub id whose files neither the cache nor the hub shows
    later     a hub id, and this Python lacks the hub's client, which .venv has

It asks the hub for a list of files at most, and only for a text-to-audio model that it does not know.
"""

from __future__ import annotations

import importlib.util

from synthio.cli import new_parser, run_main
from synthio.models.load import known_backend, scorer_backend_of

# Library -> environment; the main one has the others.
ENVIRONMENTS = {"stable_audio_tools": "stable_audio", "laion_clap": "clap", "msclap": "clap", "gama": "gama"}


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("models", nargs="+", metavar="VARIABLE=MODEL", help="a model variable of run.sh")
    return parser


def library_of(variable: str, model: str) -> str | None:
    """The library that loads a model; None where only its files could tell, which cannot be seen."""
    if variable == "text_to_audio_model":
        return known_backend(model)
    if variable in ("clap_model", "probe_clap_model"):
        return scorer_backend_of(model)
    return "gama" if model == "gama" else "transformers"


def answer(variable: str, model: str) -> tuple[str, str]:
    """(environment, library); the library is "-" where it is not known."""
    try:
        library = library_of(variable, model)
    except ModuleNotFoundError:
        if importlib.util.find_spec("huggingface_hub"):
            raise
        return "later", "-"
    if library is None:
        return "unknown", "-"
    return ENVIRONMENTS.get(library, "main"), library


def main() -> int:
    for word in get_parser().parse_args().models:
        variable, _, model = word.partition("=")
        print(variable, *answer(variable, model))
    return 0


if __name__ == "__main__":
    run_main(main)
