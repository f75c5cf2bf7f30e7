"""Download models of the hub into its cache, so that jobs on machines without a network find them there.

    python -m synthio.pipeline.fetch stabilityai/stable-audio-open-1.0

What is in the cache already is not downloaded again. HF_HUB_OFFLINE, HF_HOME and HF_TOKEN count as elsewhere.
"""

from __future__ import annotations

from synthio.cli import UserError, new_parser, run_main
from synthio.models.hub import look_up, needed_files, problem, snapshot


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("models", nargs="+", metavar="OWNER/NAME[@REVISION]", help="models of the hub")
    return parser


def fetch(model: str) -> bool:
    """Download the files of a model that are not in the cache; whether there were any.

    Raises:
        UserError: it cannot be had.
    """
    access = look_up(model)
    if access.state == "cached":
        return False
    if access.state != "download":
        raise UserError(f"{model}: {problem(access, model)}")
    print(f"downloading {model}: {access.missing_bytes / 1e9:.1f} GB", flush=True)
    snapshot(model, needed_files(access.names))
    return True


def main() -> int:
    for model in get_parser().parse_args().models:
        fetch(model)
    return 0


if __name__ == "__main__":
    run_main(main)
