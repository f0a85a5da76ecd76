from __future__ import annotations

import math

import pytest

from scoreline.reports.strips import ruler, strip


def test_a_scale_holds_all_values_and_zero() -> None:
    scale = ruler([0.2, 0.4, None, math.nan])
    assert (scale.low, scale.high) == (0.0, 0.4)
    assert scale.at(0.0) == 2.0
    assert scale.at(0.2) == 50.0
    assert scale.at(0.4) == 98.0


def test_a_scale_of_nothing_has_zero_in_its_middle() -> None:
    assert ruler([]).at(0.0) == 50.0


def test_values_beyond_the_ends_stand_at_the_ends() -> None:
    assert (ruler([-1.0, 1.0]).at(9.0), ruler([-1.0, 1.0]).at(-9.0)) == (98.0, 2.0)


def test_a_strip_has_a_dot_for_each_known_value() -> None:
    drawn = strip(ruler([-1.0, 1.0]), "a", [1.0, None, -1.0], (0.0, None, None), margin=0.5)
    assert drawn.dots == (98.0, 2.0)
    assert (drawn.mean, drawn.low, drawn.high, drawn.zero) == (50.0, None, None, 50.0)
    assert drawn.band == (26.0, 74.0)


@pytest.mark.parametrize(
    ("low", "high", "tone"),
    [(0.1, 0.3, "above"), (-0.3, -0.1, "below"), (-0.1, 0.1, "unsure"), (0.2, 0.2, "unsure"), (None, None, "unsure")],
)
def test_the_tone_says_where_the_whole_interval_lies(low: float | None, high: float | None, tone: str) -> None:
    assert strip(ruler([1.0]), "a", [], (0.2, low, high)).tone == tone
