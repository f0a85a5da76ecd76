"""An interval and its values on a scale that several share: a line, dots, a mark at zero.

A strip is drawn in percent of its width, so that it is as wide as its place and its dots stay round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Known = float | None


@dataclass(frozen=True)
class Ruler:
    """The values from `low` to `high`, in percent: from 2 to 98, so that a dot at an end is whole."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value stands; one beyond an end stands at the end."""
        share = (value - self.low) / (self.high - self.low)
        return round(2 + 96 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True)
class Strip:
    """Places in percent. `label` says the same in words; `band` is what counts as no difference around zero."""

    label: str
    dots: tuple[float, ...]
    mean: Known
    low: Known
    high: Known
    zero: float
    band: tuple[float, float] | None = None
    tone: str = ""

    @property
    def zero_apart(self) -> bool:
        """Whether a 0 can be written between the numbers at the ends."""
        return 20 < self.zero < 80


def ruler(values: Iterable[Known]) -> Ruler:
    """A scale that holds all known values and zero."""
    known = [value for value in values if value is not None and math.isfinite(value)] + [0.0]
    low, high = min(known), max(known)
    return Ruler(low, high) if high > low else Ruler(low - 1.0, high + 1.0)


def strip(
    scale: Ruler, label: str, values: Sequence[Known], spread: tuple[Known, Known, Known], *, margin: float = 0.0
) -> Strip:
    """`values` as dots and (mean, low, high) as a line with its middle; amber below zero, blue above, grey across."""
    mean, low, high = (None if value is None else scale.at(value) for value in spread)
    dots = tuple(scale.at(value) for value in values if value is not None)
    band = (scale.at(-margin), scale.at(margin)) if margin else None
    return Strip(label, dots, mean, low, high, scale.at(0.0), band, _tone(spread))


def _tone(spread: tuple[Known, Known, Known]) -> str:
    _, low, high = spread
    if low is None or high is None or low == high:
        return "unsure"
    return "above" if low > 0 else "below" if high < 0 else "unsure"
