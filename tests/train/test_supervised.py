"""The loop that fine-tuning and judges share, on a problem whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoreline.errors import DivergenceError
from scoreline.train.supervised import Fit, Task, adamw, batches, learn, restore_state, save_state
from scoreline.types import Metrics

FIT = Fit(epochs=2.0, batch_size=4, learning_rate=0.1, schedule="constant")
NUMBERS = [float(x) for x in range(10)]


class Mean:
    """L = mean_i (w - x_i)^2: the minimum is the mean."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[float]] = []
        self.broken: set[int] = set()

    def accumulate(self, batch: Sequence[float]) -> Metrics:
        self.seen.append(list(batch))
        loss = (self.weight - torch.tensor(batch)).square().mean()
        loss.backward()
        return {"loss": float("nan") if len(self.seen) in self.broken else float(loss.detach())}

    @property
    def task(self) -> Task[float]:
        return Task(NUMBERS, self.accumulate, len)


def test_it_finds_the_minimum() -> None:
    mean = Mean()
    fit = replace(FIT, steps=300, schedule="linear", max_grad_norm=100.0)
    list(learn(mean.task, [mean.weight], adamw([mean.weight], fit), fit, 0))
    assert mean.weight.item() == pytest.approx(4.5, abs=0.1)


def test_an_epoch_shows_every_row_once() -> None:
    mean = Mean()
    reports = list(learn(mean.task, [mean.weight], adamw([mean.weight], FIT), FIT, 0))
    assert [len(batch) for batch in mean.seen] == [4, 4, 2, 4, 4]
    assert sorted(x for batch in mean.seen[:3] for x in batch) == NUMBERS
    assert mean.seen[:3] != mean.seen[3:]
    assert [report.metrics["num_tokens"] for report in reports] == [4.0, 8.0, 10.0, 14.0, 18.0]
    assert [report.metrics["epoch"] for report in reports] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert {report.steps for report in reports} == {5}


def test_the_seed_says_the_order() -> None:
    first, again, other = (next(batches(NUMBERS, FIT, seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_a_bad_step_is_skipped_and_counted() -> None:
    mean = Mean()
    mean.broken = {1, 3, 4}
    values = []
    for report in learn(mean.task, [mean.weight], adamw([mean.weight], FIT), FIT, 0):
        values.append((mean.weight.item(), report.metrics["skipped_updates"]))
    assert values[0] == (0.0, 1.0)
    assert values[1][0] > 0
    assert values[2] == (values[1][0], 2.0)
    assert values[3] == (values[1][0], 3.0)
    assert values[4][0] > values[1][0]


def test_bad_steps_in_a_row_stop_the_run() -> None:
    mean = Mean()
    mean.broken = {2, 3}
    fit = replace(FIT, max_bad_steps=2)
    with pytest.raises(DivergenceError, match=r"Training stopped at step 3: .* 2 times in a row[\s\S]*loss nan"):
        list(learn(mean.task, [mean.weight], adamw([mean.weight], fit), fit, 0))


def test_an_optimiser_goes_on_bit_by_bit(tmp_path: Path) -> None:
    one, other = Mean(), Mean()
    first, second = adamw([one.weight], FIT), adamw([other.weight], FIT)
    list(learn(one.task, [one.weight], first, FIT, 0))
    save_state(first, tmp_path / "optimizer.safetensors")
    with torch.no_grad():
        other.weight.copy_(one.weight)
    restore_state(second, tmp_path / "optimizer.safetensors")
    list(learn(one.task, [one.weight], first, FIT, 1))
    list(learn(other.task, [other.weight], second, FIT, 1))
    assert one.weight.item() == other.weight.item()
