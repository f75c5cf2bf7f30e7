"""The plan of a run, as the driver tells it."""

from __future__ import annotations

import pytest

from tests.driver_plan import planned


@pytest.fixture
def plan(tmp_path):
    """plan(name=value, ...) -> (steps, variables) of a run of 100 clips of the demo set in tmp_path."""

    def make(**changes):
        values = {"results_root": tmp_path, "num_samples": 100} | changes
        return planned(*(word for name, value in values.items() for word in (f"--{name}", value)), cwd=tmp_path)

    return make
