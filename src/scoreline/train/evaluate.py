"""Evidence: accuracy on prompts that training never saw, greedy and sampled, with 95 % intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean

import numpy as np

from scoreline.rollout.collect import EVAL, Encoded, Sampler
from scoreline.rollout.engine import Sampling
from scoreline.rollout.sampling import uniforms
from scoreline.types import Rollout

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on held-out prompts. An answer is right when its reward is at least `right_at`.

    `greedy`: the share of prompts whose most likely answer is right. `avg_at_k`: the share of right answers among k
    sampled ones a prompt. `pass_at_k`: the share of prompts with at least one right answer among k.
    """

    step: int
    greedy: Interval
    avg_at_k: Interval
    pass_at_k: Interval
    k: int
    mean_length: float
    samples: tuple[Rollout, ...]
    seconds: float


@dataclass(frozen=True)
class Evaluator:
    """The same held-out prompts and random numbers at every evaluation, so that two of them can be compared."""

    sampler: Sampler
    prompts: Sequence[Encoded]
    sampling: Sampling
    k: int = 4
    right_at: float = 1.0
    seed: int = 0
    shown: int = 8

    def evaluate(self, step: int) -> Evaluation:
        """Greedy and sampled accuracy of the engine's current policy."""
        started = time.perf_counter()
        streams = [(self.seed, EVAL, i) for i in range(len(self.prompts))]
        greedy = self.sampler.rollouts(self.prompts, streams, 1, replace(self.sampling, temperature=0.0))
        sampled = self.sampler.rollouts(self.prompts, streams, self.k, self.sampling)
        right = np.array([self.right(r) for r in sampled], dtype=float).reshape(len(self.prompts), self.k)
        return Evaluation(
            step=step,
            greedy=wilson([self.right(r) for r in greedy]),
            avg_at_k=bootstrap(right.mean(1), self.seed),
            pass_at_k=wilson([bool(row.any()) for row in right]),
            k=self.k,
            mean_length=fmean(len(r.completion.token_ids) for r in sampled),
            samples=tuple(greedy[: self.shown]),
            seconds=time.perf_counter() - started,
        )

    def right(self, rollout: Rollout) -> bool:
        """Whether the answer counts as right. One that nothing could score does not."""
        return rollout.reward.total is not None and rollout.reward.total >= self.right_at


def wilson(right: Sequence[bool]) -> Interval:
    """The Wilson (1927) score interval of a share of independent yes-or-no outcomes."""
    n, p = len(right), fmean(right)
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def bootstrap(means: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int, draws: int = 2000) -> Interval:
    """The percentile bootstrap over prompts (Efron 1979): answers to one prompt are not independent of one another.

    Where all prompts agree the bootstrap has no width, and Wilson's interval over prompts is the honest one.
    """
    if means.min() == means.max():
        edge = wilson([bool(round(m)) for m in means])
        return Interval(float(means[0]), min(edge.low, float(means[0])), max(edge.high, float(means[0])))
    n = len(means)
    picks = (uniforms((seed, -2, n), draws * n) * n).astype(int).reshape(draws, n)
    low, high = np.quantile(means[picks].mean(1), [0.025, 0.975])
    return Interval(float(means.mean()), float(low), float(high))
