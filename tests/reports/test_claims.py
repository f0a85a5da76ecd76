"""Verdicts by the interval: the table of claims.py, row by row."""

from __future__ import annotations

import pytest

from scoreline.errors import ConfigError
from scoreline.reports.compare.claims import Claim, verdict
from scoreline.reports.compare.statistics import Estimate, estimate


def interval(low: float, high: float) -> Estimate:
    middle = (low + high) / 2
    return Estimate(middle, low, high, middle, middle, (low, high))


@pytest.mark.parametrize(
    ("expects", "margin", "low", "high", "said"),
    [
        ("more", 0.0, 0.01, 0.2, "supported"),
        ("more", 0.0, -0.2, -0.01, "refuted"),
        ("more", 0.0, -0.1, 0.1, "undecided"),
        ("more", 0.05, 0.01, 0.2, "undecided"),
        ("more", 0.05, 0.06, 0.2, "supported"),
        ("more", 0.05, 0.01, 0.04, "refuted"),
        ("less", 0.0, -0.2, -0.01, "supported"),
        ("less", 0.0, 0.01, 0.2, "refuted"),
        ("less", 0.05, -0.2, -0.01, "undecided"),
        ("less", 0.05, -0.04, 0.2, "refuted"),
        ("same", 0.05, -0.05, 0.05, "supported"),
        ("same", 0.05, -0.01, 0.06, "undecided"),
        ("same", 0.05, 0.06, 0.2, "refuted"),
        ("same", 0.05, -0.2, -0.06, "refuted"),
    ],
)
def test_the_table_of_verdicts(expects: str, margin: float, low: float, high: float, said: str) -> None:
    claim = Claim("it is so", "a", expects=expects, margin=margin)  # type: ignore[arg-type]
    assert verdict(claim, interval(low, high))[0] == said


def test_students_interval_counts_where_it_is_wider() -> None:
    """Five values above zero: the bootstrap says more, Student's interval reaches below zero."""
    found = estimate([0.01, 0.01, 0.01, 0.01, 0.2])
    assert found is not None
    assert found.low is not None
    assert found.low > 0
    said, why = verdict(Claim("more", "a"), found)
    assert said == "undecided"
    assert why.startswith("+0.048 [-0.0575, +0.154] over 5 seeds; expected above 0")


def test_one_seed_decides_nothing() -> None:
    assert verdict(Claim("more", "a"), estimate([0.5]))[0] == "undecided"
    said, why = verdict(Claim("more", "a"), None)
    assert (said, "fewer than two seeds" in why) == ("undecided", True)


def test_the_rule_is_said() -> None:
    found = interval(-0.2, 0.2)
    rules = {
        ("more", 0.1): "above 0.1",
        ("less", 0.0): "below 0",
        ("less", 0.1): "below -0.1",
        ("same", 0.1): "within 0.1",
    }
    for (expects, margin), rule in rules.items():
        assert verdict(Claim("x", "a", expects=expects, margin=margin), found)[1].endswith(f"expected {rule}")  # type: ignore[arg-type]


def test_missing_pairs_are_said() -> None:
    _, why = verdict(Claim("more", "a"), estimate([0.5, None, 0.6]))
    assert "over 2 seeds, 1 of 3 pairs are missing" in why


def test_claims_that_cannot_be_tested_are_refused() -> None:
    with pytest.raises(ConfigError, match="Nothing is ever exactly the same"):
        Claim("same", "a", expects="same")
    with pytest.raises(ConfigError, match="margin is a size"):
        Claim("more", "a", margin=-0.1)
