"""A run as the checks read it: metrics as series, settings by their addresses, evaluations, saved answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from statistics import fmean, median
from typing import Any, NamedTuple, TypeGuard, get_args

from scoreline.environments.resolve import distinct, name_of
from scoreline.objectives.objective import CreditPart
from scoreline.reports.doctor.finding import MOST
from scoreline.reports.doctor.series import Series
from scoreline.reports.history import History
from scoreline.reports.jsonl import Row
from scoreline.reports.plaintext import visible

GROUPED = {part.__name__ for part in get_args(CreditPart) if getattr(part, "grouped", False)}

SOLVED = 0.9
"""Held-out accuracy from which silence is success: nine of ten answers are right, so groups agree and entropy is low
because there is little left to decide."""


FILES = 4
"""Files of saved answers that a finding looks into: a run of thousands of steps is not read again for its samples."""


class Accuracy(NamedTuple):
    """One evaluation: sampled accuracy with its interval, and what the training rewards say of the same answers."""

    step: int
    mean: float
    low: float
    high: float
    judged: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] at step {self.step}"


@dataclass(frozen=True)
class Chart:
    """A run's history, as checks read it. What it did not record is empty, and a check that wants it says nothing."""

    history: History

    def series(self, name: str, centre: Callable[..., float] = median) -> Series:
        """A metric over the steps at which it was a finite number."""
        known = [(row["step"], row[name]) for row in self.history.metrics if is_number(row.get(name))]
        return Series(tuple(step for step, _ in known), tuple(float(value) for _, value in known), centre)

    def setting(self, address: str, otherwise: Any = None) -> Any:
        """A value of the resolved recipe; `otherwise` where it says nothing or "none"."""
        value: Any = self.history.config
        for key in address.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return otherwise if value is None or value == "none" else value

    def number(self, address: str, otherwise: float) -> float:
        """A setting that is a number."""
        value = self.setting(address)
        return float(value) if is_number(value) else otherwise

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.number("train.learning_rate", 1e-6)

    @cached_property
    def updates(self) -> int:
        """Optimiser updates that one batch is used for."""
        return int(self.number("train.num_iterations", 1) * self.number("train.minibatches", 1))

    @cached_property
    def grouped(self) -> bool:
        """Whether the score line is the other answers to the question."""
        parts = self.setting("objective.credit", [])
        return any(part.get("type") in GROUPED for part in parts if isinstance(part, Mapping))

    @cached_property
    def reward(self) -> Series:
        """The mean reward; windows of it are means."""
        return self.series("reward", fmean)

    @cached_property
    def spread(self) -> float:
        """The largest standard deviation of the answers' rewards in any step: the unit in which a reward moved."""
        return max(self.series("reward_std").values, default=0.0)

    @property
    def noise(self) -> float:
        """The standard error of a window's mean reward, if answers to one question were all alike: an upper bound."""
        return self.spread / math.sqrt(self.reward.window * max(1.0, self.number("train.prompts_per_step", 8)))

    @property
    def reward_moved(self) -> tuple[str, ...]:
        """How the mean reward went, as evidence."""
        if not len(self.reward):
            return ("No answer had a score.",)
        return (f"The mean reward went from {self.reward.first:.3f} to {self.reward.last:.3f}.",)

    @cached_property
    def accuracies(self) -> tuple[Accuracy, ...]:
        """The evaluations that have an accuracy."""
        return tuple(found for row in self.history.evaluations if (found := accuracy(row)) is not None)

    @cached_property
    def solved(self) -> bool:
        """Whether the task is mostly learned: by held-out accuracy, or, since that comes rarely, by rewards that have
        risen by half of their spread and now mostly agree. Where other rewards say what is right, those may be cheated.
        """
        spread, known = self.series("reward_std"), self.accuracies
        if len(known) > 1 and known[-1].judged is not None:
            return known[-1].mean >= SOLVED
        risen = self.spread > 0 and len(self.reward) > 0 and self.reward.change >= self.spread / 2
        settled = risen and len(spread) > 0 and spread.last <= self.spread / 2
        return settled or (len(known) > 0 and known[-1].mean >= SOLVED and not self.fell)

    @cached_property
    def height(self) -> tuple[float, int]:
        """The reward from which it fell furthest: that of the first step, before any update, or of the highest window;
        and the last step that it stands for.
        """
        first = (self.reward.values[0], self.reward.steps[0])
        return max(first, self.reward.highest())

    @cached_property
    def fell(self) -> bool:
        """Whether the training reward fell by half of its spread and by more than chance: 3 errors below the first
        step, or 4 below the highest window, which is the luckiest of many.
        """
        if self.spread == 0 or not len(self.reward):
            return False
        start, window = 3 * self.noise * math.sqrt(self.reward.window), 4 * self.noise
        falls = (self.reward.values[0] - start, self.reward.highest()[0] - window)
        half = self.reward.last + self.spread / 2
        return self.reward.last <= max(falls) and half <= self.height[0]

    @property
    def improved(self) -> bool:
        """Whether the run got better at what it is for: held-out accuracy where it was measured again, else the reward,
        by a tenth of its spread.
        """
        if len(self.accuracies) > 1:
            return self.accuracies[-1].mean > self.accuracies[0].mean
        return len(self.reward) > 0 and self.reward.change > self.spread / 10

    @cached_property
    def weights(self) -> dict[str, float]:
        """The weight of each reward function, by the start of its metrics' names."""
        return dict(_weights(self.history.config))

    def saved(self, steps: Sequence[int] = ()) -> Iterator[tuple[str, list[Row]]]:
        """Files of answers and their rows, the latest few first: between the first and the last of `steps`, or of any
        where none was saved there.
        """
        files = self.history.completions
        near = [step for step in files if steps and steps[0] <= step <= steps[-1]]
        for step in sorted(near or files, reverse=True)[:FILES]:
            yield f"completions/{files[step].name}", self.history.answers(step)

    def answers(self, wanted: Callable[[Row], bool], steps: Sequence[int] = ()) -> tuple[str, ...]:
        """Saved answers that are as wanted, the latest first: `completions/step-000010.jsonl:3 (train:17)`."""
        numbered = ((name, line, row) for name, rows in self.saved(steps) for line, row in enumerate(rows, start=1))
        return tuple(islice((self.sample(*found) for found in numbered if wanted(found[2])), MOST))

    def sample(self, name: str, line: int, row: Row) -> str:
        """Where a saved answer stands, and the question that it answers."""
        return f"{name}:{line}" + (f" ({visible(str(row['id']))})" if "id" in row else "")


def accuracy(row: Row) -> Accuracy | None:
    """An evaluation's sampled accuracy, if it is there."""
    share = row.get("avg@k")
    if not isinstance(share, Mapping) or not all(is_number(share.get(end)) for end in ("mean", "low", "high")):
        return None
    judged = row.get("judged")
    return Accuracy(row["step"], share["mean"], share["low"], share["high"], judged if is_number(judged) else None)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _weights(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, start in (("reward", "rewards"), ("step_reward", "step_rewards")):
        specs = [spec for spec in config.get(key, ()) if isinstance(spec, Mapping)]
        names = distinct([name_of(str(spec.get("function"))) for spec in specs])
        yield from ((f"{start}/{name}", _weight(spec)) for name, spec in zip(names, specs, strict=True))


def _weight(spec: Mapping[str, Any]) -> float:
    weight = spec.get("weight", 1.0)
    return float(weight) if is_number(weight) else 1.0
