#!/usr/bin/env python3
"""Bring what a run made to the Hugging Face hub: its dataset, its classifier, or its adapter, each with its card.

    python extras/push_to_hub.py --folder W/dataset --repo me/mine-synthetic --dry_run
    python extras/push_to_hub.py --folder W/dataset --repo me/mine-synthetic
    python extras/push_to_hub.py --folder W/classifier/synthio --repo me/mine-classifier --public
    python extras/push_to_hub.py --folder W/dpo/adapter --repo me/mine-adapter

--dry_run lists the files with their sizes, and asks nobody. A new repository is private, but for --public. What the
licence of the generator says is printed first. A dataset is pushed as extras/export_dataset.py wrote it: if it holds
recordings (--with_gold there), --with_gold is wanted here, too. Of a classifier, weights, configuration and card go: no
scores.json and no predictions, which name your files. No folder of this machine is in what is pushed.

The token is HF_TOKEN's, or that of `hf auth login`. What the hub has already is not sent again: the same command goes
on after a break, and a second push of the same sends nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, new_parser, run_main, str2bool
from synthio.models.model_ids import HUB_ID

if TYPE_CHECKING:
    from synthio.report.parcel import Parcel


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--folder", required=True, help="a run's dataset, classifier/synthio or dpo/adapter")
    parser.add_argument("--repo", required=True, help="owner/name on the hub; made if it is not there")
    for name, text in (
        ("--public", "everybody may see it"),
        ("--with_gold", "recordings that are in the dataset may go along"),
        ("--dry_run", "only list what would be pushed"),
    ):
        parser.add_argument(name, type=str2bool, nargs="?", const=True, default=False, help=text)
    parser.add_argument("--message", default="Push from Synthio", help="of the commit")
    return parser


def check_repo(repo: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UserError: it has not the form owner/name.
    """
    if not HUB_ID.fullmatch(repo) or "@" in repo:
        raise UserError(f"--repo '{repo}': give owner/name, letters, digits, '-', '_' and '.' alone")


def amount(size: int) -> str:
    """Bytes for people."""
    for unit, limit in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} B"


def announce(parcel: Parcel, repo: str, public: bool) -> None:
    """Say where it goes, who may see it, and under which terms."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    total = sum(parcel.size(name) for name in parcel.files)
    place = f"{endpoint}/{'datasets/' if parcel.kind == 'dataset' else ''}{repo}"
    who = "public: everybody may see it" if public else "private"
    print(f"{parcel.what}: {len(parcel.files)} files, {amount(total)}, to {place} ({who})")
    for line in parcel.terms:
        print(line)


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import scratch_folder, sweep
    from synthio.models.hub_upload import find_token, push
    from synthio.report.parcel import parcel_of

    check_repo(args.repo)
    folder = Path(args.folder)
    parcel = parcel_of(folder, args.with_gold)
    announce(parcel, args.repo, args.public)
    if args.dry_run:
        for name in sorted(parcel.files):
            print(f"{amount(parcel.size(name)):>10}  {name}")
        return 0
    find_token()
    beside = folder.absolute().with_name(f"{folder.absolute().name}_push")
    sweep([beside.parent])
    with scratch_folder(beside) as made:
        parcel.write(made)
        done = push(made, args.repo, parcel.kind, args.public, parcel.replaced, args.message)
    print(f"{'pushed to' if done.is_new else 'nothing new for'} {done.url}")
    return 0


if __name__ == "__main__":
    run_main(main)
