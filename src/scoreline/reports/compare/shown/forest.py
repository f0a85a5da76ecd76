"""Paired differences as strips: a dot a seed, the interval, and the line at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoreline.reports.compare.shown.measured import Measured, measured
from scoreline.reports.compare.shown.naming import Comparison, in_order, name_of, titles
from scoreline.reports.numerals import signed_figure
from scoreline.reports.strips import Ruler, Strip, ruler, strip


@dataclass(frozen=True)
class Branch:
    """The difference between two arms: their names, the strip, the number, its interval, and how many seeds."""

    arm: str
    against: str
    strip: Strip
    difference: str
    interval: str
    seeds: int


@dataclass(frozen=True)
class Forest:
    """All differences in one measure, on one scale from `low` to `high`."""

    measure: str
    title: str
    note: str
    low: str
    high: str
    branches: tuple[Branch, ...]


def forests(comparison: Comparison) -> list[Forest]:
    """One forest a measure in which some pair has a difference; not of the start, which is the same by design."""
    pairs = [pair for pair in comparison.get("pairs") or () if measured(pair["difference"]).mean is not None]
    grown = {
        name: [pair for pair in pairs if pair["measure"] == name] for name in in_order(p["measure"] for p in pairs)
    }
    return [_forest(name, rows, titles(comparison)) for name, rows in grown.items() if name != "before"]


def _forest(measure: str, pairs: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Forest:
    differences = [measured(pair["difference"]) for pair in pairs]
    scale, name = scale_of(differences), name_of(measure)
    branches = [
        branch(names.get(pair["arm"], pair["arm"]), names.get(pair["against"], pair["against"]), difference, scale)
        for pair, difference in zip(pairs, differences, strict=True)
    ]
    return Forest(measure, name.title, name.note, *scale_ends(scale), tuple(branches))


def branch(arm: str, against: str, difference: Measured, scale: Ruler, margin: float = 0.0) -> Branch:
    """A difference on a scale, with as many decimals as the others there."""
    like = max(abs(scale.low), abs(scale.high))
    number, spread = difference.number(sign=True, like=like), difference.interval(sign=True, like=like)
    label = f"{arm} minus {against}: {number} {spread or 'no interval'}, {difference.seeds} seeds"
    drawn = strip(scale, label, difference.values, difference.spread, margin=margin)
    return Branch(arm, against, drawn, number, spread, difference.seeds)


def scale_ends(scale: Ruler) -> tuple[str, str]:
    """What is written at both ends."""
    like = max(abs(scale.low), abs(scale.high))
    low, high = (signed_figure(end, like) if end else "0" for end in (scale.low, scale.high))
    return low, high


def scale_of(differences: Sequence[Measured], margin: float = 0.0) -> Ruler:
    """A scale that holds every seed and every interval, and the margin around zero."""
    ends = [end for each in differences for end in (*each.values, *each.spread)]
    return ruler([*ends, -margin, margin])
