"""Reward-to-go, totals, GAE and whitening, worked by hand."""

from __future__ import annotations

import pytest
import torch

from scoreline.errors import ObjectiveError
from scoreline.objectives.returns import GAE, ToGo, Total, Whiten, advantages, reward_to_go


def near(actual: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("rewards", "mask", "gamma", "expected"),
    [
        ([0.0, 1.0, 0.0, 2.0], [1, 1, 1, 1], 1.0, [3.0, 3.0, 2.0, 2.0]),
        ([0.0, 1.0, 0.0, 2.0], [1, 1, 1, 1], 0.5, [0.75, 1.5, 1.0, 2.0]),  # 2; 0.5 * 2; 1 + 0.5 * 1; 0.5 * 1.5
        ([0.0, 1.0, 0.0, 2.0], [1, 1, 0, 1], 0.5, [1.0, 2.0, 0.0, 2.0]),  # a tool's token takes no time
        ([0.0, 4.0, 1.0], [1, 0, 1], 0.5, [4.5, 0.0, 1.0]),  # a reward on a tool's token: 4 + 0.5 * 1
        ([0.0, 4.0, 1.0], [1, 0, 1], 1.0, [5.0, 0.0, 1.0]),
    ],
)
def test_to_go(signal, rewards, mask, gamma, expected):
    s = signal([rewards], mask=[mask])
    near(ToGo(gamma)(s).rewards, [expected])
    near(reward_to_go(s.rewards, s.mask, gamma=gamma), [expected])


def test_to_go_carries_the_kl_charge(signal):
    # Charged rewards: -0.1, 1 - 0.2.
    out = ToGo()(signal([[0.0, 1.0]], penalty=[[0.1, 0.2]]))
    near(out.rewards, [[0.7, 0.8]])
    assert out.penalty is None


def test_total(signal):
    # 1 + 2 - (0.1 + 0.2 + 0.3 + 0.4) = 2 on the last rewarded token. A row without a score keeps none.
    s = signal([[0.0, 1.0, 2.0, 0.0]] * 2, rewarded=[[0, 1, 1, 0], [0] * 4], penalty=[[0.1, 0.2, 0.3, 0.4]] * 2)
    out = Total()(s)
    near(out.rewards, [[0.0, 0.0, 2.0, 0.0], [0.0] * 4])
    assert out.rewarded.tolist() == [[False, False, True, False], [False] * 4]


def test_gae(signal):
    # gamma 0.9, lambda 0.5. d_2 = 1 - 0.6 = 0.4; d_1 = 0.9 * 0.6 - 0.4 = 0.14; d_0 = 0.9 * 0.4 - 0.2 = 0.16.
    # A_2 = 0.4; A_1 = 0.14 + 0.45 * 0.4 = 0.32; A_0 = 0.16 + 0.45 * 0.32 = 0.304.
    s = signal([[0.0, 0.0, 1.0]], values=[[0.2, 0.4, 0.6]])
    near(GAE(0.9, 0.5)(s).rewards, [[0.304, 0.32, 0.4]])


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        (0.0, [0.2, 0.2, 0.4]),  # gamma 1, one-step errors: 0.4 - 0.2, 0.6 - 0.4, 1 - 0.6
        (1.0, [0.8, 0.6, 0.4]),  # reward to go minus V: 1 - 0.2, 1 - 0.4, 1 - 0.6
    ],
)
def test_gae_at_both_ends_of_lambda(signal, lam, expected):
    near(GAE(1.0, lam)(signal([[0.0, 0.0, 1.0]], values=[[0.2, 0.4, 0.6]])).rewards, [expected])


def test_gae_skips_tokens_of_a_tool(signal):
    # Own tokens 0, 1, 4 with V 0.5, 0.6, 0.7 and reward 1 at the end; gamma 1, lambda 0.95.
    # d_4 = 0.3, d_1 = 0.7 - 0.6 = 0.1, d_0 = 0.6 - 0.5 = 0.1.
    # A_4 = 0.3; A_1 = 0.1 + 0.95 * 0.3 = 0.385; A_0 = 0.1 + 0.95 * 0.385 = 0.46575.
    s = signal([[0.0, 0.0, 0.0, 0.0, 1.0]], mask=[[1, 1, 0, 0, 1]], values=[[0.5, 0.6, 9.0, 9.0, 0.7]])
    near(GAE(1.0, 0.95)(s).rewards, [[0.46575, 0.385, 0.0, 0.0, 0.3]])


def test_gae_bootstraps_only_what_the_budget_cut_off(signal):
    # V after the last token is 0.5: d_2 = 1 + 0.9 * 0.5 - 0.6 = 0.85.
    # A_2 = 0.85; A_1 = 0.14 + 0.45 * 0.85 = 0.5225; A_0 = 0.16 + 0.45 * 0.5225 = 0.395125. The ended row: as above.
    s = signal([[0.0, 0.0, 1.0]] * 2, values=[[0.2, 0.4, 0.6]] * 2, value_end=[0.5, 0.5], truncated=[True, False])
    near(GAE(0.9, 0.5, bootstrap=True)(s).rewards, [[0.395125, 0.5225, 0.85], [0.304, 0.32, 0.4]])
    near(GAE(0.9, 0.5)(s).rewards, [[0.304, 0.32, 0.4]] * 2)


def test_gae_reads_the_kl_charge(signal):
    # Rewards 0 - 0.1, 1 - 0.2 and V = 0: with lambda 1, the reward to go.
    s = signal([[0.0, 1.0]], values=[[0.0, 0.0]], penalty=[[0.1, 0.2]])
    near(GAE(1.0, 1.0)(s).rewards, [[0.7, 0.8]])


def test_advantages_behind_the_last_own_token_are_zero(signal):
    # Own tokens 0 and 1: d_1 = 1 - 0.4, d_0 = 0.4 - 0.2; gamma = lambda = 1.
    s = signal([[0.0, 1.0, 0.0]], mask=[[1, 1, 0]])
    out = advantages(s.rewards, torch.tensor([[0.2, 0.4, 9.0]]), s.mask, gamma=1.0, lam=1.0)
    near(out, [[0.8, 0.6, 0.0]])


def test_gae_without_values_is_refused(signal):
    with pytest.raises(ObjectiveError, match="batch has no values"):
        GAE()(signal([[1.0]]))


def test_whiten(signal):
    # Own advantages 1 and 3: mean 2, sample variance 2, so -+1 / sqrt(2). The 100 is padding.
    s = signal([[1.0, 3.0, 100.0]], mask=[[1, 1, 0]])
    near(Whiten()(s).rewards, [[-0.707107, 0.707107, 0.0]])
    near(Whiten(eps=2.0)(s).rewards, [[-0.5, 0.5, 0.0]])  # epsilon inside the root: 1 / sqrt(2 + 2)


@pytest.mark.parametrize("size", [1e30, 3e19, 1e4])
def test_whiten_advantages_of_any_size(signal, size):
    # 1 and 3 times as much: mean 2, sample variance 2, though 1e30^2 is no number of fp32.
    near(Whiten()(signal([[size, 3 * size]])).rewards, [[-0.707107, 0.707107]])


def test_whiten_small_advantages_by_epsilon(signal):
    # Their variance is nothing beside epsilon: -+1e-30 / sqrt(1e-8).
    near(Whiten()(signal([[1e-30, 3e-30]])).rewards / 1e-26, [[-1.0, 1.0]])


def test_whiten_leaves_out_answers_without_a_score(signal):
    # The second row was not scored: GAE says 0 - V of it, and that must not move the mean of the others.
    s = signal([[1.0, 3.0], [0.0, 0.0]], rewarded=[[1, 1], [0, 0]], values=[[0.0, 0.0], [50.0, 60.0]])
    near(Whiten()(GAE(1.0, 0.0)(s)).rewards[:1], [[-0.707107, 0.707107]])


def test_whiten_leaves_a_single_token_alone(signal):
    near(Whiten()(signal([[5.0]])).rewards, [[5.0]])
