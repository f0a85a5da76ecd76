"""What the estimators promise: invariances, unbiasedness, and the gradients that the KL table states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.objectives.divergences import divergence
from scoreline.objectives.groups import GroupNorm, LeaveOneOut
from scoreline.objectives.ratios import Clip
from scoreline.objectives.returns import GAE, ToGo, Whiten, advantages, reward_to_go
from scoreline.objectives.signal import Signal
from scoreline.objectives.values import LambdaReturn, ValueLoss

settings.register_profile("small", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("small")

SEEDS = st.integers(0, 2**20)


def random_signal(seed: int) -> Signal:
    g = torch.Generator().manual_seed(seed)
    n, t = 8, 6
    mask = (torch.rand(n, t, generator=g) < 0.7) | (torch.arange(t) == 0)
    rewarded = mask & ((torch.rand(n, t, generator=g) < 0.4) | (torch.arange(t) == 0))
    rewards = torch.randn(n, t, generator=g, dtype=torch.float64) * rewarded
    values = torch.randn(n, t, generator=g, dtype=torch.float64)
    return Signal(rewards, rewarded, mask, torch.arange(n) // 4, values=values)


@given(seed=SEEDS, shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_group_norm_ignores_shift_and_scale(seed, shift, scale):
    s = random_signal(seed)
    moved = replace(s, rewards=(s.rewards * scale + shift) * s.rewarded)
    for std in ("sample", "population"):
        part = GroupNorm(std, eps=0.0)
        torch.testing.assert_close(part(moved).rewards, part(s).rewards)
    plain = GroupNorm("none")
    torch.testing.assert_close(plain(moved).rewards, scale * plain(s).rewards)


@given(seed=SEEDS)
def test_group_norm_has_mean_zero_and_std_one_in_every_group(seed):
    s = random_signal(seed)
    out = GroupNorm("sample", eps=0.0)(s)
    for k in range(2):
        own = out.rewards[(s.group == k)[:, None] & s.rewarded]
        assert own.mean().item() == pytest.approx(0, abs=1e-9)
        assert own.std().item() == pytest.approx(1)


@given(rewards=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=9))
def test_leave_one_out_is_the_centred_reward_times_g_over_g_minus_1(rewards):
    g = len(rewards)
    r = torch.tensor(rewards, dtype=torch.float64)[:, None]
    one = torch.ones_like(r, dtype=torch.bool)
    out = LeaveOneOut()(Signal(r, one, one, torch.zeros(g, dtype=torch.long))).rewards
    torch.testing.assert_close(out, g / (g - 1) * (r - r.mean()))
    torch.testing.assert_close(out.sum(), torch.zeros((), dtype=torch.float64), atol=1e-9, rtol=0)


@given(seed=SEEDS)
def test_leave_one_out_is_unbiased(seed):
    # Two answers from a categorical policy, all pairs enumerated: E[A_1 grad log pi(o_1)] is the gradient of E[r].
    # The group mean, which holds the answer itself, gives half of it.
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, generator=g, dtype=torch.float64, requires_grad=True)
    reward = torch.randn(4, generator=g, dtype=torch.float64)
    pi = logits.softmax(0)
    (exact,) = torch.autograd.grad((pi * reward).sum(), logits)
    one = torch.ones(2, 1, dtype=torch.bool)

    def expected(part):
        total = torch.zeros((), dtype=torch.float64)
        for a in range(4):
            for b in range(4):
                pair = Signal(reward[[a, b]][:, None], one, one, torch.zeros(2, dtype=torch.long))
                first = part(pair).rewards[0, 0]
                total = total + (pi[a] * pi[b]).detach() * first * logits.log_softmax(0)[a]
        return torch.autograd.grad(total, logits)[0]

    torch.testing.assert_close(expected(LeaveOneOut()), exact)
    torch.testing.assert_close(expected(GroupNorm("none")), exact / 2)


@given(seed=SEEDS, gamma=st.floats(0.5, 1.0))
def test_gae_with_lambda_one_is_reward_to_go_minus_v(seed, gamma):
    s = random_signal(seed)
    to_go = reward_to_go(s.rewards, s.mask, gamma=gamma)
    torch.testing.assert_close(GAE(gamma, 1.0)(s).rewards, (to_go - s.values) * s.mask)
    torch.testing.assert_close(LambdaReturn(gamma, 1.0)(s), to_go)


@given(seed=SEEDS)
def test_the_fast_path_of_reward_to_go_is_the_general_one(seed):
    s = random_signal(seed)
    slow = advantages(s.rewards, torch.zeros_like(s.rewards), s.mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(reward_to_go(s.rewards, s.mask), slow)


@given(seed=SEEDS, lam=st.floats(0, 1))
def test_tool_tokens_take_no_time_in_gae(seed, lam):
    # Dropping the tokens that are not the policy's own changes nothing for the others.
    s = random_signal(seed)
    row = GAE(0.9, lam)(s).rewards[0][s.mask[0]]
    kept = s.mask[0]
    dense = Signal(s.rewards[:1, kept], s.rewarded[:1, kept], s.mask[:1, kept], s.group[:1], values=s.values[:1, kept])
    torch.testing.assert_close(GAE(0.9, lam)(dense).rewards[0], row)


@given(seed=SEEDS)
def test_whitened_advantages_have_mean_zero_and_variance_one(seed):
    s = ToGo()(random_signal(seed))
    own = Whiten(eps=0.0)(s).rewards[s.mask]
    assert own.mean().item() == pytest.approx(0, abs=1e-9)
    assert own.var().item() == pytest.approx(1)


@given(seed=SEEDS)
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_unbiased"])
def test_gradients_of_the_kl_estimators_are_what_the_table_states(estimator, seed):
    # The whole vocabulary enumerated: E_pi[gradient of the estimator] against the gradient of the exact KL.
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 5, generator=g, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(1, 5, generator=g, dtype=torch.float64).log_softmax(1)
    logp = logits.log_softmax(1)
    pi = logp.exp()
    (found,) = torch.autograd.grad((pi.detach() * divergence(logp, ref, estimator)).sum(), logits, retain_graph=True)
    forward = (pi * (logp - ref)).sum()
    reverse = (ref.exp() * (ref - logp)).sum()
    exact = {"k1": 0 * forward, "k2": forward, "k3": reverse, "k3_unbiased": forward}[estimator]
    (wanted,) = torch.autograd.grad(exact, logits)
    torch.testing.assert_close(found, wanted)


@given(seed=SEEDS)
@pytest.mark.parametrize("estimator", ["k1", "k3", "k3_unbiased"])
def test_values_of_the_unbiased_kl_estimators(estimator, seed):
    g = torch.Generator().manual_seed(seed)
    logp, ref = (torch.randn(1, 5, generator=g, dtype=torch.float64).log_softmax(1) for _ in range(2))
    exact = (logp.exp() * (logp - ref)).sum()
    torch.testing.assert_close((logp.exp() * divergence(logp, ref, estimator)).sum(), exact)


@given(rho=st.floats(0.05, 8.0), advantage=st.floats(-3, 3), dual=st.sampled_from([None, 3.0]))
def test_clip_never_promises_more_than_the_plain_ratio(rho, advantage, dual):
    logp, zero = torch.tensor([[rho]]).log(), torch.zeros(1, 1)
    loss = Clip(0.2, 0.28, dual)(logp, zero, torch.tensor([[advantage]])).loss
    plain = -rho * advantage
    assert dual is not None or loss.item() >= plain - 1e-5
    assert dual is None or advantage >= 0 or loss.item() <= -3.0 * advantage + 1e-5


@given(seed=SEEDS)
def test_a_value_clip_only_ever_adds_loss(seed):
    g = torch.Generator().manual_seed(seed)
    value, old, returns = (torch.randn(2, 3, generator=g) for _ in range(3))
    plain = ValueLoss()(value, old, returns)
    assert (ValueLoss(clip=0.2)(value, old, returns) >= plain).all()
    torch.testing.assert_close(ValueLoss(clip=1e9)(value, old, returns), plain)
