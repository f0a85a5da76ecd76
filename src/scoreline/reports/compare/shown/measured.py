"""A measure of a comparison, as its file has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scoreline.reports.numerals import figure, signed_figure

Known = float | None


@dataclass(frozen=True)
class Measured:
    """A mean over seeds with its 95 % interval, and the value of each seed; None for what is not known.

    The interval is the wider of the bootstrap's and Student's t: with five seeds the bootstrap's is too narrow. One
    seed has none.
    """

    mean: Known
    low: Known
    high: Known
    values: tuple[Known, ...]

    @property
    def seeds(self) -> int:
        """How many seeds were measured."""
        return sum(value is not None for value in self.values)

    @property
    def spread(self) -> tuple[Known, Known, Known]:
        return self.mean, self.low, self.high

    def number(self, *, sign: bool = False, like: Known = None) -> str:
        """The mean, with as many decimals as its interval has; or as a number `like` that."""
        return (signed_figure if sign else figure)(self.mean, like or self.size)

    def interval(self, *, sign: bool = False, like: Known = None) -> str:
        """`[0.410 – 0.520]`, or `[−0.020, +0.310]` for a difference; nothing where there is no interval."""
        if self.low is None or self.high is None:
            return ""
        write, dash = (signed_figure, ", ") if sign else (figure, " – ")
        return f"[{dash.join(write(end, like or self.size) for end in (self.low, self.high))}]"

    @property
    def size(self) -> Known:
        """Of its largest number."""
        return max((abs(end) for end in self.spread if end is not None), default=None)

    @property
    def side(self) -> Literal[-1, 0, 1]:
        """The side of zero on which the whole interval lies; 0 where it holds zero or is not known."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


NOTHING = Measured(None, None, None, ())


def measured(value: Any) -> Measured:
    """Reads `{"mean", "low", "high", "t_low", "t_high", "values"}`; anything else was not measured."""
    if not isinstance(value, Mapping):
        return NOTHING
    values = tuple(known(each) for each in value.get("values") or ())
    lows = [known(value.get(name)) for name in ("low", "t_low")]
    highs = [known(value.get(name)) for name in ("high", "t_high")]
    if sum(each is not None for each in values) < 2:
        return Measured(known(value.get("mean")), None, None, values)
    return Measured(known(value.get("mean")), _end(min, lows), _end(max, highs), values)


def known(value: Any) -> Known:
    """A finite number, or None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _end(choose: Callable[[list[float]], float], values: Iterable[Known]) -> Known:
    there = [value for value in values if value is not None]
    return choose(there) if there else None
