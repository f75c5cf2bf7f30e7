"""Several processes that train together: what each does, and that together they have the numbers of one.

The processes are real ones, over gloo; all that is asked of three of them is asked in one start.
"""

from __future__ import annotations

import json
import os

import pytest
import torch

from synthio.cli import UserError
from synthio.training.processes import ALONE, Processes, cut, join
from tests.scripts import launch

PROGRAM = '''
"""Three processes and a batch of five rows; what each has found goes to <folder>/<rank>.json."""

import json
import sys
import time
from pathlib import Path

import torch

from synthio.training import processes
from synthio.cli import UserError, run_main
from synthio.training.loop import State, set_out

ROWS = torch.arange(10, dtype=torch.float64).reshape(5, 2)


def main():
    folder, p = Path(sys.argv[1]), processes.join("cpu")
    processes.SUMMED_AT_ONCE = 3  # the parameters below are summed in several parts
    mine = p.share(5)
    w, late, unused = (torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)) for _ in range(3))
    loss = (ROWS[mine] @ w).square().sum() / 5
    if p.is_main:
        loss = loss + late.sum()
    loss.backward()
    p.sum_gradients([w, late, unused])
    found = {"rank": p.rank, "rows": mine.tolist(), "w": w.grad.tolist(), "late": late.grad.tolist()}
    found["unused"] = unused.grad is None
    found["values"] = p.sum_values({"loss": float(len(mine)), "margin": float(p.rank)} if p.rank < 2 else {})

    v = torch.nn.Parameter(torch.full((2, 3), 0.1, dtype=torch.float64))
    z = p.joined(torch.tanh(ROWS[mine] @ v), 5)
    (z @ z.T).square().sum().backward()
    p.sum_gradients([v])
    found |= {"joined": z.tolist(), "v": v.grad.tolist()}

    start = torch.full((2,), float(p.rank))
    p.same_start([start])
    found |= {"start": start.tolist(), "made": p.from_main(lambda: {"by": p.rank})}
    with p.main_first():
        if p.is_main:
            time.sleep(1)
            (folder / "cache").write_text("there")
        found["cache"] = (folder / "cache").exists()
    try:
        set_out(State(step=3 if p.is_main else 0), {}, p)
    except UserError as error:
        found["error"] = str(error)
    (folder / f"{p.rank}.json").write_text(json.dumps(found))
    print(f"process {p.rank} was here")
    p.leave()


run_main(main)
'''


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(what each of three processes has found, what was printed)."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "program.py").write_text(PROGRAM)
    done = launch(3, folder / "program.py", folder)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)], done.stdout


@pytest.mark.parametrize(("rows", "count"), [(5, 1), (5, 2), (5, 3), (2, 4), (0, 2)])
def test_every_row_has_one_process(rows, count):
    shares = [Processes(rank, count).share(rows).tolist() for rank in range(count)]
    assert sorted(row for share in shares for row in share) == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_gradients_of_uneven_shares_are_summed(found):
    """Two rows, two rows, one row; of the first parameter the gradient of the mean over all five."""
    w = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    (torch.arange(10, dtype=torch.float64).reshape(5, 2) @ w).square().sum(dim=1).mean().backward()
    for rank, one in enumerate(found[0]):
        assert one["rank"] == rank and one["rows"] == [[0, 3], [1, 4], [2]][rank]
        torch.testing.assert_close(torch.tensor(one["w"], dtype=torch.float64), w.grad, rtol=1e-12, atol=0)
        assert one["late"] == [[1, 1], [1, 1]], "in one process alone there is a gradient"
        assert one["unused"], "AdamW would let decay what has a gradient of zero"


def test_numbers_are_summed_also_with_a_process_that_has_none(found):
    assert [one["values"] for one in found[0]] == [{"loss": 4.0, "margin": 1.0}] * 3


def test_a_loss_of_all_rows_has_the_gradient_of_one_process(found):
    v = torch.nn.Parameter(torch.full((2, 3), 0.1, dtype=torch.float64))
    z = torch.tanh(torch.arange(10, dtype=torch.float64).reshape(5, 2) @ v)
    (z @ z.T).square().sum().backward()
    for one in found[0]:
        torch.testing.assert_close(torch.tensor(one["joined"], dtype=torch.float64), z.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(torch.tensor(one["v"], dtype=torch.float64), v.grad, rtol=1e-9, atol=0)


def test_the_main_process_decides_goes_first_and_is_the_one_that_is_heard(found):
    ranks, printed = found
    for one in ranks:
        assert one["start"] == [0, 0] and one["made"] == {"by": 0} and one["cache"] is True
    assert printed == "process 0 was here\n"


def test_processes_that_do_not_see_the_same_checkpoint_are_refused(found):
    assert "error" not in found[0][0]
    words = "process 2 of 3 goes on after step 0, the first one after step 3: they do not see the same checkpoint"
    assert found[0][1]["error"] == words


def test_who_is_alone_does_all_of_it(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") is ALONE and ALONE.is_main
    rows, weight = torch.ones(2, 3, requires_grad=True), torch.nn.Parameter(torch.ones(1))
    assert ALONE.joined(rows, 2) is rows
    ALONE.sum_gradients([weight])
    assert weight.grad is None and ALONE.sum_values({"a": 0.1}) == {"a": 0.1}
    with ALONE.main_first():
        ALONE.wait_for_main()


def test_more_processes_than_rows_are_told(capsys):
    Processes(0, 8).tell_idle(5, "pairs")
    Processes(0, 5).tell_idle(5, "pairs")
    words = "a step has 5 pairs: 3 of 8 processes have nothing to do, so fewer are as fast\n"
    assert capsys.readouterr().err == words


@pytest.mark.parametrize("device", ["mps", "cuda:3"])
def test_a_device_that_is_not_each_processs_own_is_refused(monkeypatch, device):
    monkeypatch.setattr(os, "environ", os.environ | {"WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    with pytest.raises(UserError, match=f"on CUDA GPUs, one each, or on CPUs, not on {device}"):
        join(device)


def test_parts_by_hand():
    sizes = lambda limit: [[len(one) for one in part] for part in cut(map(torch.zeros, (2, 2, 5, 1, 1)), limit)]  # noqa: E731
    assert sizes(4) == [[2, 2], [5], [1, 1]] and sizes(100) == [[2, 2, 5, 1, 1]] and list(cut([], 4)) == []
