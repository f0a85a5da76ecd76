"""Iterative RL: DeepSeekMath's Algorithm 1 (2402.03300), a generator around the one loop.

for round = 1..I:   pi_ref <- pi_theta;   M steps of RL;   r_phi goes on training on the policy's fresh samples
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from scoreline.errors import ConfigError
from scoreline.train.loop import Parts, train
from scoreline.train.schedule import Progress
from scoreline.types import Metrics, Report


@dataclass(frozen=True)
class Rounds:
    """I = `count` rounds of M = train.steps / count steps. One round is a plain run."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError("rounds.count is a number of rounds.", got=self.count, accepted="at least 1")


@dataclass(frozen=True)
class Reference:
    """pi_ref <- mix pi_theta + (1 - mix) pi_ref, at the start of each round after the first, or every `every` steps.

    Mix 1 at the start of a round is Algorithm 1; TR-DPO (2404.09656) publishes mix 0.6 every 512 steps. Mix 0 keeps
    the first reference.
    """

    mix: float = 1.0
    every: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise ConfigError("reference.mix is a share.", got=self.mix, accepted="0 to 1")
        if self.every is not None and self.every < 1:
            raise ConfigError("reference.every is a number of steps.", got=self.every, accepted='at least 1, or "none"')


class Student(Protocol):
    """A judge that goes on learning."""

    def learn(self, number: int) -> Metrics:
        """What round `number` (from 1) teaches it, and how well it judges."""
        ...


@dataclass(frozen=True)
class Round:
    """The end of a round: its number from 1, the step it ended at, what its judge learned, and the loop's state."""

    number: int
    step: int
    metrics: Metrics
    state: dict[str, Any]


def iterate(
    parts: Parts, progress: Progress, rounds: Rounds, reference: Reference, judge: Student | None
) -> Iterator[Report | Round]:
    """The loop's reports, and a `Round` at the end of each round; a plain run without a judge has none.

    All state is in `progress` and in what the parts save: a run that goes on from any step's or any round's state is
    the run that never stopped. Where the budget of tokens ends it inside a round there is nothing more to teach a judge
    for.
    """
    length = parts.plan.steps // rounds.count
    for number in range(progress.round, rounds.count):
        if number and reference.every is None and progress.step == number * length:
            parts.learner.refresh(reference.mix)
        for report in train(parts, progress, until=(number + 1) * length):
            progress = Progress(**report.state)
            if reference.every is not None and progress.step % reference.every == 0:
                parts.learner.refresh(reference.mix)
            yield report
        plain = rounds.count == 1 and judge is None
        if plain or progress.step < (number + 1) * length:
            return
        learned = {} if judge is None else judge.learn(number + 1)
        tokens = progress.tokens + int(learned.get("judge/tokens", 0))
        progress = replace(progress, round=number + 1, tokens=tokens)
        yield Round(number + 1, progress.step, learned, asdict(progress))
