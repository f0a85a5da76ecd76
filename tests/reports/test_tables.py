from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import scoreline.reports
from scoreline.reports.tables import MOST_COLUMNS, Cell, Column, Table, Value, ranks

STYLE = Path(scoreline.reports.__file__).parent / "templates" / "style" / "tables.css"


@pytest.mark.parametrize(
    ("values", "smallest", "largest"),
    [
        ([3.0, 1.0, 2.0], [2, 0, 1], [0, 2, 1]),
        ([1.0, None, 0.5], [1, 2, 0], [0, 2, 1]),
        ([math.nan, 2.0, 1.0], [2, 1, 0], [2, 0, 1]),
        ([2.0, 2.0, 1.0], [1, 2, 0], [0, 1, 2]),
        (["b", "a", None], [1, 0, 2], [0, 1, 2]),
        (["a", 7.0, 3.0], [2, 1, 0], [0, 1, 2]),
        ([0.0, -1.0, None], [1, 0, 2], [0, 1, 2]),
        ([], [], []),
    ],
)
def test_ranks_both_ways_with_the_missing_ones_last(
    values: list[Value], smallest: list[int], largest: list[int]
) -> None:
    assert ranks(values) == smallest
    assert ranks(values, largest=True) == largest


def test_a_row_carries_its_ranks_as_variables() -> None:
    rows = [[Cell("a", value="a"), Cell("2", value=2.0)], [Cell("b", value="b"), Cell("1", value=1.0)]]
    table = Table("small", "", [Column("name"), Column("size")], rows)
    assert [row.ranks for row in table.ranked] == [
        "--u0: 0; --d0: 1; --u1: 1; --d1: 0",
        "--u0: 1; --d0: 0; --u1: 0; --d1: 1",
    ]


def test_the_style_has_a_rule_for_each_column() -> None:
    assert re.findall(r"range\((\d+)\)", STYLE.read_text(encoding="utf-8")) == [str(MOST_COLUMNS)]
