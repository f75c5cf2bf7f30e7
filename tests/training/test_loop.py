"""The training loop: killed and gone on, on a line that is fitted to seeded batches; and what a step is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from synthio.cli import UserError
from synthio.training.loop import (
    MAX_GRADIENT_NORM,
    Checkpoint,
    State,
    Tensors,
    batch_rows,
    check_finite,
    descend,
    learning_rate_factor,
    rows_at,
    train,
)


@dataclass
class Line(State):
    """A state with a tensor of its own."""

    best: dict[str, torch.Tensor] = field(default_factory=dict)


class Fit:
    """A line on its way to y = x0 + x1 + x2; `stop_at` is where the process ends."""

    def __init__(self, checkpoint: Checkpoint, stop_at: int | None = None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.line = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.AdamW(self.line.parameters())
        self.average = {name: p.detach().clone() for name, p in self.line.named_parameters()}
        self.state, self.checkpoint, self.stop_at = Line(), checkpoint, stop_at
        self.parts = {"line": self.line, "optimizer": self.optimizer, "average": Tensors(self.average)}
        self.taken: list[int] = []
        self.told: list[int] = []
        checkpoint.load(self.state, self.parts)

    def take_step(self, step: int) -> float:
        if step == self.stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng(step).standard_normal((4, 3), dtype=np.float32))
        loss = (self.line(x) - x.sum(1, keepdim=True)).square().mean()
        descend(self.optimizer, loss, 0.1)
        for name, p in self.line.named_parameters():
            self.average[name].lerp_(p.detach(), 0.5)
        self.taken.append(step)
        return loss.item()

    def evaluate(self, losses: list[float]) -> None:
        self.state.history.append({"step": self.state.step, "loss": sum(losses) / len(losses)})
        self.state.best = {"weight": self.line.weight.detach().clone()}

    def run(self, num_steps: int = 9, **more) -> Fit:
        tell = lambda: self.told.append(self.state.step)  # noqa: E731
        words = {"evaluate": self.evaluate, "tell": tell, "what": "line"} | more
        train(self.state, self.parts, self.checkpoint, num_steps, 2, self.take_step, **words)
        return self

    def result(self) -> list[torch.Tensor]:
        moments = [x for group in self.optimizer.state.values() for x in group.values()]
        return [*self.line.parameters(), *self.average.values(), *self.state.best.values(), *moments]


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "sub/checkpoint.pt", "key")


def equal(a: Fit, b: Fit) -> bool:
    return a.state.history == b.state.history and all(
        torch.equal(x, y) for x, y in zip(a.result(), b.result(), strict=True)
    )


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_a_training_that_was_killed_ends_like_one_that_was_not(checkpoint, tmp_path, stop_at, capsys):
    """It takes up the last even step."""
    whole = Fit(Checkpoint(tmp_path / "whole.pt", "key")).run()
    assert whole.taken == list(range(9)) and whole.told == [2, 4, 6, 8, 9]
    assert [row["step"] for row in whole.state.history] == [2, 4, 6, 8, 9]
    with pytest.raises(KeyboardInterrupt):
        Fit(checkpoint, stop_at).run()
    capsys.readouterr()
    found = Fit(checkpoint).run()
    reached = stop_at - stop_at % 2
    assert found.taken == list(range(reached, 9)) and found.told == [step for step in (2, 4, 6, 8, 9) if step > reached]
    assert equal(found, whole)
    assert (f"going on after step {reached}\n" in capsys.readouterr().err) == (reached > 0)


def test_after_the_last_step_nothing_is_left_to_do(checkpoint):
    whole = Fit(checkpoint).run()
    again = Fit(checkpoint).run()
    assert again.taken == again.told == [] and equal(again, whole)


def test_the_checkpoint_holds_what_the_evaluation_added_and_the_seconds(checkpoint):
    whole = Fit(checkpoint).run()
    found = Line()
    checkpoint.load(found, Fit(Checkpoint(checkpoint.path, "another")).parts)
    assert found.history == whole.state.history and torch.equal(found.best["weight"], whole.line.weight)
    assert found.seconds == whole.state.seconds > 0


def test_a_training_may_be_over_before_its_last_step(checkpoint):
    found = Fit(checkpoint)
    found.run(is_over=lambda: len(found.state.history) == 2)
    assert found.taken == [0, 1, 2, 3] and found.state.step == 4


def test_a_checkpoint_of_another_training_is_not_gone_on_from(checkpoint, capsys):
    Fit(checkpoint).run()
    assert Fit(Checkpoint(checkpoint.path, "another")).state.step == 0
    state = State()
    checkpoint.load(state, Fit(Checkpoint(checkpoint.path, "another")).parts)  # a state of other fields
    checkpoint.load(Line(), {"line": torch.nn.Linear(2, 2)})  # other parts
    assert state == State()
    assert "warning" not in capsys.readouterr().err


def damaged(content: bytes, kind: str, weight: int) -> bytes:
    """What a full disk, a broken one or a wrong copy make of a file, in which a weight lies at a place."""
    return {
        "half": content[: len(content) // 2],
        "empty": b"",
        "text": b"path,label\n",
        "zeros": bytes(len(content)),
        "one bit": content[:weight] + bytes([content[weight] ^ 1]) + content[weight + 1 :],
        "tail": content[:-1],
    }[kind]


@pytest.mark.parametrize("kind", ["half", "empty", "text", "zeros", "one bit", "tail"])
def test_a_damaged_checkpoint_means_a_new_start_and_one_line(checkpoint, tmp_path, capsys, kind):
    whole = Fit(Checkpoint(tmp_path / "whole.pt", "key")).run()
    stopped, content = Fit(checkpoint).run(4), checkpoint.path.read_bytes()
    weight = content.index(stopped.line.weight.detach().numpy().tobytes())
    checkpoint.path.write_bytes(damaged(content, kind, weight))
    capsys.readouterr()
    found = Fit(checkpoint)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: the checkpoint {checkpoint.path} cannot be read (")
    assert line.endswith("); training starts anew")
    assert found.run().taken == list(range(9)) and equal(found, whole)


def test_a_finished_training_leaves_nothing(checkpoint):
    Fit(checkpoint).run()
    checkpoint.remove()
    checkpoint.remove()
    assert list(checkpoint.path.parent.iterdir()) == []


def test_tensors_are_brought_back_in_place():
    """Of a moving average the optimizer and the model hold no other: what is known by reference must not change."""
    tensor = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    part = Tensors({"w": tensor})
    part.load_state_dict({"w": torch.tensor([1.5, 2.0])})
    assert tensor.tolist() == [1.5, 2.0] and tensor.dtype == torch.float64 and tensor.requires_grad
    assert not part.state_dict()["w"].requires_grad


# ---- one step


def test_batches_take_every_item_equally_often():
    rows = np.concatenate([batch_rows(5, 12, step, seed=0) for step in range(5)])
    assert np.bincount(rows).tolist() == [12] * 5
    assert all(sorted(rows[i : i + 5]) == list(range(5)) for i in range(0, 60, 5))
    assert not np.array_equal(batch_rows(50, 50, 0, 0), batch_rows(50, 50, 1, 0))
    assert not np.array_equal(batch_rows(50, 50, 0, 0), batch_rows(50, 50, 0, 1))
    np.testing.assert_array_equal(batch_rows(50, 8, 9, 7), batch_rows(50, 8, 9, 7))


def test_rows_at_places_by_hand():
    """Epochs 0, 1 and 2 of three items: 0 1 2, 1 2 0, 2 0 1."""
    order = lambda epoch: np.roll(np.arange(3), -epoch)  # noqa: E731
    assert rows_at(np.arange(2, 8), 3, order).tolist() == [2, 1, 2, 0, 2, 0]
    assert rows_at(np.array([], int), 0, order).tolist() == []


def test_learning_rate_schedule():
    """Ten steps of warm-up, then half a cosine: the full rate at step 10, half of it 45 steps later."""
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert np.diff(factors[10:]).max() < 0
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(math.sin(math.pi / 180) ** 2)  # (1 + cos(pi - pi / 90)) / 2
    assert learning_rate_factor(0, 1, 0.0) == 1


@pytest.mark.parametrize(("slope", "moved"), [(0.25, 0.25), (3.0, MAX_GRADIENT_NORM)])
def test_a_step_goes_down_the_limited_gradient(slope, moved):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for _ in range(2):  # the gradient of the first step does not add to that of the second
        descend(optimizer, slope * weight.sum(), 0.5)
    assert weight.item() == pytest.approx(-2 * 0.5 * moved)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_with_advice(value):
    check_finite(torch.tensor(1e30), "loss", 0)
    with pytest.raises(UserError, match=f"the gradient is {value} at step 7; raise it"):
        check_finite(torch.tensor(value), "gradient", 6, "raise it")
    with pytest.raises(UserError, match="at step 1; lower --learning_rate"):
        check_finite(value, "loss", 0)
