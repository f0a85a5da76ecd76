"""Numbers as tints: nine classes from t-4 to t4, from the lowest value over the middle to the highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scoreline.reports.jsonl import Row
from scoreline.reports.numerals import brief, signed

LEVELS = 4
"""Tints on each side of the middle."""


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, and what the legend writes at the two ends and in the middle."""

    low: float
    high: float
    marks: tuple[str, str, str]

    def tint(self, value: float) -> str:
        """`t-4` at `low` and below, `t0` in the middle, `t4` at `high` and above."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return f"t{round(LEVELS * max(-1.0, min(1.0, (value - middle) / half)))}"

    @property
    def tints(self) -> list[str]:
        """All classes, from the lowest."""
        return [f"t{level}" for level in range(-LEVELS, LEVELS + 1)]


def rewards_scale(rows: Sequence[Row]) -> Scale | None:
    """The scale of all step rewards of some answers, or None.

    Rewards of both signs: zero is the middle. Of one sign, as right and wrong or a probability are: zero is one end.
    """
    rewards = [step["reward"] for row in rows for step in row.get("steps", ()) if step["reward"] is not None]
    if not rewards:
        return None
    low, high = min(0.0, *rewards), max(0.0, *rewards)
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        high = 1.0
    return Scale(low, high, (brief(low), brief((low + high) / 2), brief(high)))


def advantages_scale(rows: Sequence[Row], share: float = 0.95) -> Scale | None:
    """The scale of all token advantages of some answers, or None: zero is the middle.

    The ends hold `share` of the values that are not zero; a few far ones must not pale all others.
    """
    values = [value for row in rows for _, value in row.get("tokens", ()) if value is not None]
    if not values:
        return None
    sizes = sorted(abs(value) for value in values if value) or [1.0]
    end = sizes[min(len(sizes) - 1, int(share * len(sizes)))]
    return Scale(-end, end, (f"≤ {signed(-end)}", "0", f"≥ {signed(end)}"))
