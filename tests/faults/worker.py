"""One process of the fault suite: does some trials of a part and prints a line of JSON before and after each.

python -m tests.faults.worker PART SEED FOLDER SHARED NUMBER...
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    part, seed, folder, shared, *numbers = sys.argv[1:]
    # what a script prints is looked at by the part; the lines of this process go another way
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module = importlib.import_module(f"tests.faults.{part}")
    print(json.dumps({"begun": int(numbers[0])}), file=out, flush=True)
    for outcome in module.trials([int(n) for n in numbers], int(seed), Path(folder), Path(shared)):
        print(json.dumps(asdict(outcome)), file=out, flush=True)


if __name__ == "__main__":
    main()
