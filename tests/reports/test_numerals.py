from __future__ import annotations

import math

import pytest

from scoreline.reports.numerals import figure, lasting, signed_figure


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.93051, "0.931"),
        (12.44, "12.4"),
        (0.0, "0"),
        (-0.0, "0"),
        (-3.5, "−3.5"),
        (0.070312, "0.07"),
        (0.0025, "0.0025"),
        (123.4, "123"),
        (440_000.0, "440,000"),
        (2.13e-5, "2.1e−05"),
        (4.4e7, "4.4e+07"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_three_digits_that_count(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.12, "+0.12"), (-0.12, "−0.12"), (0.0, "0"), (None, "–"), (math.inf, "–")]
)
def test_a_difference_has_a_sign(value: float | None, text: str) -> None:
    assert signed_figure(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(35.2, "35 s"), (300.0, "5 min"), (9000.0, "2.5 h")])
def test_how_long_it_lasts(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [(0.79, 0.9, "0.790"), (0.79, 12.0, "0.8"), (3.0, 250.0, "3"), (1.5, 3.0, "1.50"), (2e-5, 1e-4, "2e−05")],
)
def test_numbers_under_one_another_have_as_many_decimals(value: float, like: float, text: str) -> None:
    assert figure(value, like) == text
