"""A corpus of a few clips. The recipes import each other as they do when they are run, from their own folder."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.extras.embedded.recipes import HERE
from tests.scripts import call_script

sys.path.append(str(HERE))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """corpus.py on four recordings of each set, one of them held out, and 40 procedural clips; nothing rendered."""
    data, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    sets = {"us8k_part": ["dog_bark", "siren"], "philharmonia": ["flute", "violin"], "sonicpi": ["bd_fat", "elec_tick"]}
    for name, labels in sets.items():
        rows = []
        (data / name).mkdir()
        for i in range(4):
            soundfile.write(data / name / f"{i}.ogg", 0.1 * rng.standard_normal(16000 + 12000 * i), 16000)
            fold = {"us8k_part": "10", "philharmonia": "5"}.get(name, "") if i == 3 else "1"
            rows.append({"path": f"{i}.ogg", "label": labels[i % 2], "name": labels[i % 2], "fold": fold})
        pd.DataFrame(rows).to_csv(data / name / f"{name}.csv", index=False)
    cache = tmp_path_factory.mktemp("corpus")
    done = call_script(
        HERE / "corpus.py", "--data", data, "--cache", cache, "--procedural", 40, "--notes", 0, "--words", 0
    )
    assert done.returncode == 0, done.stderr
    return cache
