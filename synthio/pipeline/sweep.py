"""Remove what killed processes of earlier calls left in the folders of a run.

    python -m synthio.pipeline.sweep W W/embeddings

Only temporary files and folders of ours go, and none of a process that is alive: see `synthio.files`.
"""

from __future__ import annotations

from pathlib import Path

from synthio.cli import new_parser, run_main
from synthio.files import sweep


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("folders", nargs="+", help="folders of the run; those that are not there are passed over")
    return parser


def main() -> int:
    sweep(map(Path, get_parser().parse_args().folders), deep=True)
    return 0


if __name__ == "__main__":
    run_main(main)
