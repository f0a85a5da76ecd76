"""Means over seeds and what they are worth: two 95 % intervals, the percentile bootstrap's and Student's.

bootstrap: the 2.5 and 97.5 % quantiles of  (1/n) sum_j x_(i_j),  i drawn with replacement     (Efron 1979)
Student:   mean -+ t_(n-1) s / sqrt(n),  s^2 = sum_i (x_i - mean)^2 / (n - 1)

With five seeds the bootstrap is narrow: it knows only five values. Student's interval is wider and leans on normal
errors. Verdicts take the wider one on each side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from scoreline.rollout.sampling import uniforms

DRAWS = 10_000
STREAM = -3
"""The address of the bootstrap's random numbers, beside those of prompts (-2) and orders (-1)."""

Values = Sequence[float | None]
"""One value a seed; None where it is missing."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """The mean of the values that are known, and its intervals; they are None for a single value, which has none."""

    mean: float
    low: float | None
    high: float | None
    t_low: float | None
    t_high: float | None
    values: tuple[float | None, ...]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The wider of both intervals on each side."""
        if self.low is None or self.high is None or self.t_low is None or self.t_high is None:
            return None
        return min(self.low, self.t_low), max(self.high, self.t_high)

    @property
    def count(self) -> int:
        """n: how many values are known."""
        return sum(value is not None for value in self.values)


def estimate(values: Values) -> Estimate | None:
    """Mean and intervals; None where nothing is known. The order of the seeds does not matter."""
    known = sorted(value for value in values if value is not None and math.isfinite(value))
    kept = tuple(value if value is not None and math.isfinite(value) else None for value in values)
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return Estimate(mean, None, None, None, None, kept)
    low, high = bootstrap(np.array(known)[:, None])
    half = student(len(known) - 1) * math.sqrt(math.fsum((x - mean) ** 2 for x in known) / (len(known) - 1))
    half /= math.sqrt(len(known))
    return Estimate(mean, float(low[0]), float(high[0]), mean - half, mean + half, kept)


def difference(values: Values, against: Values) -> Estimate | None:
    """The paired difference x_s - y_s over the seeds s that both know."""
    pairs = zip(values, against, strict=True)
    return estimate([None if x is None or y is None else x - y for x, y in pairs])


def bootstrap(columns: Array) -> tuple[Array, Array]:
    """The percentile interval of the mean of each column of [n, m]; the same resamples for all of them."""
    low, high = np.quantile(_resamples(len(columns)) @ np.sort(columns, axis=0), [0.025, 0.975], axis=0)
    return low, high


@lru_cache(maxsize=8)
def _resamples(n: int) -> Array:
    """[draws, n]: the weight of each value in each resample, a multiple of 1 / n."""
    picks = (uniforms((STREAM, n), DRAWS * n) * n).astype(int).reshape(DRAWS, n)
    counts: Array = (picks[:, :, None] == np.arange(n)).sum(1) / n
    return counts


@lru_cache(maxsize=64)
def student(freedom: int) -> float:
    """t with P(|T| <= t) = 0.95 for this many degrees of freedom, from the closed form by bisection."""
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= t) at t = sqrt(freedom) tan(angle): Abramowitz and Stegun (1964), 26.7.3 (odd) and 26.7.4 (even)."""
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
