"""Intervals over seeds: numbers by hand, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.reports.compare.statistics import bootstrap, difference, estimate, student

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=7)


@pytest.mark.parametrize(
    ("freedom", "t"),
    [
        (1, 12.70620),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (9, 2.26216),
        (10, 2.22814),
        (30, 2.04227),
        (120, 1.97993),
    ],
)
def test_students_t_as_it_is_tabulated(freedom: int, t: float) -> None:
    assert student(freedom) == pytest.approx(t, abs=1e-5)


def test_an_estimate_by_hand() -> None:
    """1 .. 5: s = sqrt(10 / 4), half = 2.77645 sqrt(2.5 / 5) = 1.96325."""
    found = estimate([3, 1, 5, 2, 4])
    assert found is not None
    assert found.mean == 3
    assert (found.t_low, found.t_high) == pytest.approx((1.03675, 4.96325), abs=1e-4)
    assert found.values == (3, 1, 5, 2, 4)
    assert found.low is not None
    assert found.bounds == pytest.approx((1.03675, 4.96325), abs=1e-4), "Student's is the wider one"


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.0, 1.0], 0.0, 1.0),  # means 0, 1/2, 1 with probability 1/4, 1/2, 1/4
        ([0.0, 0.0, 0.0, 0.0, 1.0], 0.0, 0.6),  # ones ~ Binomial(5, 1/5): P(<= 2) = 0.942, P(<= 3) = 0.993
        ([2.0] * 6, 2.0, 2.0),
    ],
)
def test_the_bootstrap_by_its_exact_distribution(values: list[float], low: float, high: float) -> None:
    found = estimate(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_bootstrap_of_many_values_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=200)
    found = estimate(list(values))
    half = 1.96 * values.std() / math.sqrt(200)
    assert found is not None
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_one_value_has_no_interval() -> None:
    found = estimate([None, 0.5, math.nan])
    assert found is not None
    assert (found.mean, found.low, found.t_high, found.bounds, found.count) == (0.5, None, None, None, 1)
    assert found.values == (None, 0.5, None)
    assert estimate([None, math.inf]) is None


def test_a_difference_is_paired_by_seed() -> None:
    """Arms that differ by 0.1 on every seed differ by 0.1, however much the seeds differ."""
    found = difference([0.1, 0.5, None, 0.9], [0.0, 0.4, 0.2, 0.8])
    assert found is not None
    assert found.values == pytest.approx((0.1, 0.1, None, 0.1))
    assert found.bounds == pytest.approx((0.1, 0.1))
    assert difference([None, 1.0], [1.0, None]) is None


@settings(max_examples=30, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = estimate(values), estimate(shuffled)
    assert one is not None
    assert other is not None
    assert (one.mean, one.low, one.high, one.t_low, one.t_high) == (
        other.mean,
        other.low,
        other.high,
        other.t_low,
        other.t_high,
    )


@settings(max_examples=30, deadline=None)
@given(numbers, st.floats(-50, 50))
def test_a_shift_of_both_arms_leaves_the_difference(values: list[float], shift: float) -> None:
    others = [value / 2 for value in values]
    one = difference(values, others)
    two = difference([value + shift for value in values], [value + shift for value in others])
    assert one is not None
    assert two is not None
    assert (two.mean, *two.bounds) == pytest.approx((one.mean, *one.bounds), abs=1e-9)  # type: ignore[misc]


def test_columns_are_resampled_together() -> None:
    columns = np.array([[0.0, 0.0], [1.0, 2.0], [5.0, 10.0]])
    low, high = bootstrap(columns)
    assert (2 * low[0], 2 * high[0]) == pytest.approx((low[1], high[1]))
