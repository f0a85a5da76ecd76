from __future__ import annotations

from typing import Any

import pytest

from scoreline.reports.tints import Scale, advantages_scale, rewards_scale


def steps(*rewards: float | None) -> list[dict[str, Any]]:
    return [{"steps": [{"text": "x", "reward": reward} for reward in rewards]}]


def tokens(*advantages: float | None) -> list[dict[str, Any]]:
    return [{"tokens": [["x", advantage] for advantage in advantages]}]


@pytest.mark.parametrize(
    ("value", "tint"),
    [(-9.0, "t-4"), (-2.0, "t-4"), (-1.0, "t-2"), (-0.1, "t0"), (0.0, "t0"), (0.5, "t1"), (2.0, "t4"), (9.0, "t4")],
)
def test_a_tint_grows_with_the_distance_from_the_middle(value: float, tint: str) -> None:
    assert Scale(-2.0, 2.0, ("", "", "")).tint(value) == tint


def test_there_are_nine_tints() -> None:
    assert Scale(0.0, 1.0, ("", "", "")).tints == ["t-4", "t-3", "t-2", "t-1", "t0", "t1", "t2", "t3", "t4"]


@pytest.mark.parametrize(
    ("rewards", "ends", "marks"),
    [
        ((0.0, 0.3, 1.0), (0.0, 1.0), ("0", "0.5", "1")),
        ((0.2, 0.5), (0.0, 0.5), ("0", "0.25", "0.5")),
        ((-0.5, 2.0), (-2.0, 2.0), ("−2", "0", "2")),
        ((-1.0, None), (-1.0, 0.0), ("−1", "−0.5", "0")),
        ((0.0, 0.0), (0.0, 1.0), ("0", "0.5", "1")),
    ],
)
def test_rewards_of_one_sign_have_zero_at_an_end_and_those_of_two_in_the_middle(
    rewards: tuple[float | None, ...], ends: tuple[float, float], marks: tuple[str, str, str]
) -> None:
    scale = rewards_scale(steps(*rewards))
    assert scale == Scale(*ends, marks)


def test_a_wrong_step_and_a_right_one_are_at_opposite_ends() -> None:
    scale = rewards_scale(steps(0.0, 1.0))
    assert scale is not None
    assert (scale.tint(0.0), scale.tint(0.5), scale.tint(1.0)) == ("t-4", "t0", "t4")


def test_advantages_have_zero_in_the_middle_and_far_ones_do_not_pale_the_rest() -> None:
    scale = advantages_scale(tokens(*[1.0, -1.0] * 50, 0.0, None, 80.0))
    assert scale == Scale(-1.0, 1.0, ("≤ −1.00", "0", "≥ +1.00"))


def test_advantages_that_are_all_zero_have_no_tint() -> None:
    scale = advantages_scale(tokens(0.0, 0.0))
    assert scale is not None
    assert scale.tint(0.0) == "t0"


def test_nothing_scored_has_no_scale() -> None:
    assert rewards_scale([{}, *steps(None)]) is None
    assert advantages_scale([{}, *tokens(None)]) is None
