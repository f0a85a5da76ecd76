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

    Where training is rewarded by something else than what says right, `judged` is the mean score that the training
    rewards give to the sampled answers, and `judge_accuracy` how often they order a right and a wrong answer to one
    question as they should. Judged scores that rise while accuracy does not are over-optimisation.

    `rights` counts the right ones among the k sampled answers to each prompt, in the order of the prompts.
    """

    step: int
    greedy: Interval
    avg_at_k: Interval
    pass_at_k: Interval
    k: int
    mean_length: float
    samples: tuple[Rollout, ...]
    seconds: float
    judged: float | None = None
    judge_accuracy: float | None = None
    rights: tuple[int, ...] = ()


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
    judge: Sampler | None = None

    def evaluate(self, step: int) -> Evaluation:
        """Greedy and sampled accuracy of the engine's current policy."""
        started = time.perf_counter()
        streams = [(self.seed, EVAL, i) for i in range(len(self.prompts))]
        greedy = self.sampler.rollouts(self.prompts, streams, 1, replace(self.sampling, temperature=0.0))
        sampled = self.sampler.rollouts(self.prompts, streams, self.k, self.sampling)
        right = np.array([self.right(r) for r in sampled], dtype=float).reshape(len(self.prompts), self.k)
        judged = [] if self.judge is None else [r.reward.score for r in self.judge.rescored(sampled)]
        return Evaluation(
            step=step,
            greedy=wilson([self.right(r) for r in greedy]),
            avg_at_k=bootstrap(right.mean(1), self.seed),
            pass_at_k=wilson([bool(row.any()) for row in right]),
            k=self.k,
            mean_length=fmean(len(r.completion.token_ids) for r in sampled),
            samples=tuple(greedy[: self.shown]),
            seconds=time.perf_counter() - started,
            judged=fmean(known) if (known := [score for score in judged if score is not None]) else None,
            judge_accuracy=ordered(judged, right) if judged else None,
            rights=tuple(int(count) for count in right.sum(1)),
        )

    def right(self, rollout: Rollout) -> bool:
        """Whether the answer counts as right. One that nothing could score does not."""
        return rollout.reward.total is not None and rollout.reward.total >= self.right_at


def ordered(scores: Sequence[float | None], right: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float | None:
    """P(score of a right answer > score of a wrong one to the same question), ties counting half.

    `scores` are those of the answers in `right` [prompts, k], row by row. None without such a pair.
    """
    rows = np.array([math.nan if score is None else score for score in scores]).reshape(right.shape)
    gaps = np.concatenate(
        [(row[is_right == 1][:, None] - row[is_right == 0]).ravel() for row, is_right in zip(rows, right, strict=True)]
    )
    gaps = gaps[~np.isnan(gaps)]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean()) if len(gaps) else None


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
