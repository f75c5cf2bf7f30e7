"""Read the Croissant file of a dataset folder with the library of MLCommons, in the environment datasets:

    .envs/datasets/bin/python tests/programs/read_croissant.py FOLDER

Prints as JSON what it finds wrong, some of what it says of the whole, and every record.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import mlcroissant


def plain(value):
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode()
    return None if isinstance(value, float) and math.isnan(value) else getattr(value, "item", lambda: value)()


if __name__ == "__main__":
    dataset = mlcroissant.Dataset(jsonld=Path(sys.argv[1]) / "croissant.json")
    about = dataset.metadata
    records = [
        {name.removeprefix("clips/"): plain(value) for name, value in record.items()}
        for record in dataset.records("clips")
    ]
    said = {"citation": about.cite_as, "licence": about.license, "collection": about.data_collection}
    print(json.dumps({"issues": about.ctx.issues.report(), "records": records, **said}))
