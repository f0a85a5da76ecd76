"""Curves of runs against what they spent, so that runs are compared at equal cost, and bands over seeds.

level(e)  = the curve's value at cost e, linear between two measurements
height(e) = 1/(e - x_0) integral_(x_0)^e y dx: the area under the curve as the mean of what it is the curve of
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from scoreline.reports.compare.statistics import bootstrap
from scoreline.reports.history import History
from scoreline.reports.jsonl import Row

Kind = Literal["tokens", "steps", "seconds"]
"""What is spent: sampled tokens, steps, or seconds of training."""

Curve = list[tuple[float, float]]
"""(spent, value), in the order in which it was spent."""

POINTS = 41

EVALUATED = {"accuracy": "avg@k", "greedy": "greedy", "answer_length": "mean_length", "judged": "judged"}
"""What evaluations measure, by the name of its curve."""

TRAINED = {
    "reward": "reward",
    "kl": "kl",
    "length": "completions/mean_length",
    "entropy": "entropy",
    "clip": "clip_ratio/region_mean",
    "seconds": "time/step",
}
"""What every step measures, by the name of its curve."""

SHOWN = ("accuracy", "judged", "reward", "kl", "length", "entropy")
"""The curves that a comparison keeps."""


def curves(history: History, kind: Kind) -> dict[str, Curve]:
    """Every curve of a run that has a point."""
    cost = spent(history, kind)
    evaluated = {name: _curve(history.evaluations, column, cost) for name, column in EVALUATED.items()}
    trained = {name: _curve(history.metrics, column, cost) for name, column in TRAINED.items()}
    return {name: curve for name, curve in (evaluated | trained).items() if curve}


def spent(history: History, kind: Kind) -> dict[int, float]:
    """What was spent by the end of each step of which that is known; nothing by step 0."""
    steps = [int(row["step"]) for row in history.metrics]
    if kind == "steps":
        used = [float(step) for step in steps]
    elif kind == "tokens":
        used = [_number(row.get("num_tokens")) for row in history.metrics]
    else:
        used = list(accumulate(_number(row.get("time/step")) for row in history.metrics))
    return {0: 0.0} | {step: cost for step, cost in zip(steps, used, strict=True) if math.isfinite(cost)}


def level(curve: Curve, end: float | None = None) -> float:
    """The value at `end`; without it the last one."""
    if end is None:
        return curve[-1][1]
    return float(np.interp(end, *_axes(curve)))


def height(curve: Curve, end: float) -> float | None:
    """The mean of the curve from its first point to `end`; None where it has no length."""
    start = curve[0][0]
    if end <= start:
        return None
    inside = [point for point in curve if point[0] < end] + [(end, level(curve, end))]
    x, y = _axes(inside)
    return float(np.trapezoid(y, x) / (end - start))


def late(curve: Curve, end: float | None = None, share: float = 0.1) -> float:
    """The mean over the last tenth of the points up to `end`: what a noisy curve ends at."""
    values = [y for x, y in curve if end is None or x <= end] or [curve[0][1]]
    last = values[-max(1, round(share * len(values))) :]
    return math.fsum(last) / len(last)


def band(each: Sequence[Curve]) -> list[list[float | int | None]]:
    """[x, mean, low, high, n] on a grid that ends where the shortest curve does; low and high are the bootstrap's."""
    start, end = max(curve[0][0] for curve in each), min(curve[-1][0] for curve in each)
    grid = np.linspace(start, end, POINTS) if end > start else np.array([start])
    values = np.array([np.interp(grid, *_axes(curve)) for curve in each])
    mean, n = values.mean(0), len(each)
    low, high = bootstrap(values) if n > 1 else (None, None)
    return [
        [float(x), float(mean[i]), None if low is None else float(low[i]), None if high is None else float(high[i]), n]
        for i, x in enumerate(grid)
    ]


def _axes(curve: Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in curve], [y for _, y in curve]


def _curve(rows: Sequence[Row], column: str, cost: Mapping[int, float]) -> Curve:
    """The points that are known; those of an evaluation's accuracy are means with intervals."""
    values = [(cost.get(row["step"]), _mean(row.get(column))) for row in rows]
    return [(x, y) for x, y in values if x is not None and math.isfinite(x) and math.isfinite(y)]


def _mean(value: Any) -> float:
    return _number(value.get("mean") if isinstance(value, Mapping) else value)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
