"""Group score lines, worked by hand."""

from __future__ import annotations

import pytest
import torch

from scoreline.objectives.groups import GroupNorm, LeaveOneOut, group_constant, group_mean, group_std, group_sum
from scoreline.objectives.returns import ToGo


def near(actual: torch.Tensor, expected: object, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=tolerance, rtol=0)


def test_sum_mean_and_std_of_a_group(signal):
    # Group 5 has rewards 1, 0, 0, 0; group 2 has 3 and 5.
    s = signal([[1.0], [3.0], [0.0], [0.0], [5.0], [0.0]], group=[5, 2, 5, 5, 2, 5])
    where = (s.rewarded, s.group)
    near(group_sum(s.rewards, s.group), [[1.0], [8.0], [1.0], [1.0], [8.0], [1.0]])
    near(group_mean(s.rewards, *where), [[0.25], [4.0], [0.25], [0.25], [4.0], [0.25]])
    # Squared deviations: 0.75^2 + 3 * 0.25^2 = 0.75; over 3 is 0.25, over 4 is 0.1875. And 1 + 1 = 2; over 1, over 2.
    a, b = 0.5, 2**0.5
    near(group_std(s.rewards, *where, ddof=1), [[a], [b], [a], [a], [b], [a]])
    a, b = 0.1875**0.5, 1.0
    near(group_std(s.rewards, *where, ddof=0), [[a], [b], [a], [a], [b], [a]])


@pytest.mark.parametrize(
    ("std", "eps", "expected"),
    [
        ("sample", 1e-6, [1.5, -0.5, -0.5, -0.5]),  # 0.75 / 0.5, -0.25 / 0.5
        ("population", 1e-6, [1.732051, -0.577350, -0.577350, -0.577350]),  # 0.75 / 0.433013, -0.25 / 0.433013
        ("none", 1e-6, [0.75, -0.25, -0.25, -0.25]),
        ("sample", 1e-4, [1.499700, -0.499900, -0.499900, -0.499900]),  # 0.75 / 0.5001, -0.25 / 0.5001
        ("sample", 0.5, [0.75, -0.25, -0.25, -0.25]),  # 0.75 / (0.5 + 0.5): epsilon stands outside the root
    ],
)
def test_group_norm(signal, std, eps, expected):
    out = GroupNorm(std, eps)(signal([[1.0], [0.0], [0.0], [0.0]]))
    near(out.rewards[:, 0], expected)


@pytest.mark.parametrize("size", [1e30, 1.0, 1e-30, 2.0**-120])
@pytest.mark.parametrize(("std", "expected"), [("sample", 1.5), ("population", 1.732051)])
def test_the_size_of_rewards_does_not_matter(signal, size, std, expected):
    # 0.75 / 0.5 and 0.75 / 0.433013 whatever the unit, though 1e30^2 and 1e-30^2 are no numbers of fp32.
    out = GroupNorm(std, eps=0.0)(signal([[size], [0.0], [0.0], [0.0]])).rewards[:, 0]
    near(out, [expected, *[-expected / 3] * 3])


def test_epsilon_is_there_for_small_rewards(signal):
    # 0.75e-30 / (0.5e-30 + 1e-6), and 0.75e30 / (0.5e30 + 1e-6).
    small, large = (GroupNorm()(signal([[size], [0.0], [0.0], [0.0]])).rewards[:, 0] for size in (1e-30, 1e30))
    near(small / 1e-24, [0.75, -0.25, -0.25, -0.25])
    near(large, [1.5, -0.5, -0.5, -0.5])


def test_groups_of_all_sizes_stand_side_by_side(signal):
    s = signal([[1e30], [1.0], [0.0], [0.0], [-1e30], [1e-30]], group=[0, 1, 0, 1, 2, 2])
    half = 0.5**0.5
    near(GroupNorm(eps=0.0)(s).rewards[:, 0], [half, half, -half, -half, -half, half])
    near(
        LeaveOneOut()(s).rewards[:, 0] / torch.tensor([1e30, 1.0, 1e30, 1.0, 1e30, 1e30]),
        [1.0, 1.0, -1.0, -1.0, -1.0, 1.0],
    )


def test_ordinary_rewards_have_the_std_that_they_had(signal):
    """Bit for bit: what is divided by a power of two is rounded where it was."""
    draws = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1.0, 300.0])
    s = signal(draws.tolist(), group=[row // 8 for row in range(64)])
    where = (s.rewarded, s.group)
    squares = group_sum((s.rewards - group_mean(s.rewards, *where)) ** 2, s.group)
    assert torch.equal(group_std(s.rewards, *where, ddof=1), (squares / 23).sqrt())


@pytest.mark.parametrize("credit", [GroupNorm("sample"), GroupNorm("population"), GroupNorm("none"), LeaveOneOut()])
@pytest.mark.parametrize("reward", [0.1, 1 / 3, 0.0, -7.3])
def test_a_constant_group_gets_exactly_zero(signal, credit, reward):
    # The mean of eight floats 0.1 is not 0.1 in the last bit; dividing the rest by a std of nearly 0 would be noise.
    s = signal([[reward]] * 8)
    assert group_constant(s.rewards, s.rewarded, s.group).all()
    assert credit(s).rewards.eq(0.0).all()


def test_a_group_of_one_gets_zero(signal):
    s = signal([[1.0], [0.0], [3.0]], group=[0, 0, 1])
    near(GroupNorm("none")(s).rewards[:, 0], [0.5, -0.5, 0.0])
    near(LeaveOneOut()(s).rewards[:, 0], [1.0, -1.0, 0.0])


def test_unscorable_rows_stay_out_of_mean_and_std_and_get_zero(signal):
    # Scores 1, 0, none, 0.5: mean 0.5, sample std 0.5. The 9 was never earned.
    s = signal([[1.0], [0.0], [9.0], [0.5]], rewarded=[[1], [1], [0], [1]])
    near(GroupNorm()(s).rewards[:, 0], [1.0, -1.0, 0.0, 0.0])
    # Leave one out: 1 - 0.25, 0 - 0.75, none, 0.5 - 0.5.
    near(LeaveOneOut()(s).rewards[:, 0], [0.75, -0.75, 0.0, 0.0])


def test_leave_one_out(signal):
    # 1 - 0, 0 - 1/3; the same as 4/3 (r - 0.25).
    near(LeaveOneOut()(signal([[1.0], [0.0], [0.0], [0.0]])).rewards[:, 0], [1.0, -1 / 3, -1 / 3, -1 / 3])


def test_leave_one_out_with_rewards_on_steps(signal):
    # Row 0 earned 1, 0; row 1 earned 0, 0, 1. Row 0 is measured by 1/3, row 1 by 1/2.
    s = signal([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], rewarded=[[1, 1, 0], [1, 1, 1]])
    near(LeaveOneOut()(s).rewards, [[2 / 3, -1 / 3, 0.0], [-0.5, -0.5, 0.5]])


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        # Five rewards 1, 0, 0, 0, 1: mean 0.4, squared deviations 2 * 0.36 + 3 * 0.16 = 1.2.
        # Population: sqrt(1.2 / 5) = 0.489898, so 1 -> 1.224745 and 0 -> -0.816497.
        # Row 0, steps end at 1 and 3: tokens 0, 1 get 1.224745 - 0.816497; tokens 2, 3 get -0.816497; token 4 nothing.
        # Row 1, steps end at 0, 2, 4: -2 * 0.816497 + 1.224745; then -0.816497 + 1.224745 twice; then 1.224745 twice.
        (
            "population",
            [[0.408248, 0.408248, -0.816497, -0.816497, 0.0], [-0.408248, 0.408248, 0.408248, 1.224745, 1.224745]],
        ),
        # Sample: sqrt(1.2 / 4) = 0.547723, so 1 -> 1.095445 and 0 -> -0.730297.
        (
            "sample",
            [[0.365148, 0.365148, -0.730297, -0.730297, 0.0], [-0.365148, 0.365148, 0.365148, 1.095445, 1.095445]],
        ),
    ],
)
def test_process_supervision(signal, std, expected):
    s = signal(
        [[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]],
        mask=[[1] * 5] * 2,
        rewarded=[[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]],
    )
    near(ToGo()(GroupNorm(std)(s)).rewards, expected)
