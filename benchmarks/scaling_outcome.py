"""What a simulated run showed: shares of its time, throughput, staleness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[float, float]
"""From when to when, in seconds."""


@dataclass(frozen=True)
class Step:
    """What a step took, in seconds, and the staleness of each of its units."""

    began: float
    waited: float
    scored: float
    learned: float
    synced: float
    tokens: float
    answers: int
    staleness: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What happened in the steps that count, all but the warm-up. Shares are of their time."""

    steps: int
    seconds: float
    tokens: float
    answers: int
    waited: float
    """share in which the learners wait for answers"""
    scored: float
    learned: float
    synced: float
    sampled: float
    """share of the workers' time in which they have something to sample"""
    filled: float
    """answer tokens, as a share of those that the workers could sample with all places always taken"""
    staleness: dict[int, float]
    """share of the units, by the learner's steps since the weights that sampled them"""
    lost: int = 0
    """steps that had to be made again"""
    failures: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Answer tokens that were learned from."""
        return self.tokens / self.seconds

    @property
    def seconds_per_step(self) -> float:
        """On average."""
        return self.seconds / self.steps

    @property
    def mean_staleness(self) -> float:
        """Over units."""
        return sum(steps * share for steps, share in self.staleness.items())


def outcome(
    steps: Sequence[Step], end: float, spans: Sequence[Sequence[Span]], fastest: float, lost: int, failures: int
) -> Outcome:
    """Of the steps that count, which ended at `end`; `spans` are those in which each worker sampled."""
    start = steps[0].began
    seconds, tokens = end - start, sum(step.tokens for step in steps)
    busy = sum(max(0.0, min(b, end) - max(a, start)) for worker in spans for a, b in worker)
    units = Counter(stale for step in steps for stale in step.staleness)
    return Outcome(
        steps=len(steps),
        seconds=seconds,
        tokens=tokens,
        answers=sum(step.answers for step in steps),
        waited=sum(step.waited for step in steps) / seconds,
        scored=sum(step.scored for step in steps) / seconds,
        learned=sum(step.learned for step in steps) / seconds,
        synced=sum(step.synced for step in steps) / seconds,
        sampled=busy / seconds / len(spans),
        filled=tokens / seconds / fastest,
        staleness={stale: count / units.total() for stale, count in sorted(units.items())},
        lost=lost,
        failures=failures,
    )
