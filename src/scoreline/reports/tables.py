"""Tables of a page that sort without scripts: each row carries its rank in each column, both ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_COLUMNS = 24
"""Columns that style/tables.css has rules for; later ones are shown and do not sort."""

Value = float | str | None
"""What a cell is sorted by. Nothing, and a number that is none, comes last both ways."""


@dataclass(frozen=True)
class Column:
    """The head of a column, and the small print under it."""

    title: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """What a cell shows, the small print under it, what it is sorted by, its class ("" for none), where it leads.

    `link` is a relative address that the page's own code made, never one that a model or a file gave.
    """

    text: str
    small: str = ""
    value: Value = None
    mark: str = ""
    link: str = ""


class Ranked(NamedTuple):
    """A row and its ranks as CSS variables: `--u0: 2; --d0: 1` is third from the smallest, second from the largest."""

    cells: Sequence[Cell]
    ranks: str


@dataclass(frozen=True)
class Table:
    """A table whose first column says what a row is. `name` is unique on its page, and plain enough for an id."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    @property
    def ranked(self) -> list[Ranked]:
        """The rows in their own order, with their ranks."""
        values = [[row[column].value for row in self.rows] for column in range(len(self.columns))]
        ways = [(ranks(column), ranks(column, largest=True)) for column in values]
        return [
            Ranked(row, "; ".join(f"--u{at}: {up[i]}; --d{at}: {down[i]}" for at, (up, down) in enumerate(ways)))
            for i, row in enumerate(self.rows)
        ]


def ranks(values: Sequence[Value], *, largest: bool = False) -> list[int]:
    """The place of each value, from 0: smallest first, or `largest`; equal ones as they stand, missing ones last."""
    known = [i for i, value in enumerate(values) if not _missing(value)]
    known.sort(key=lambda i: _key(values[i]), reverse=largest)  # a stable sort: equal ones keep their order
    order = known + [i for i, value in enumerate(values) if _missing(value)]
    places = [0] * len(values)
    for place, i in enumerate(order):
        places[i] = place
    return places


def _missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _key(value: Value) -> tuple[bool, float, str]:
    """Numbers before words."""
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value or 0), "")
