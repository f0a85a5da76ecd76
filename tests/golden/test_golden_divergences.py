"""KL estimators, the moving beta and the entropy bonus, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scoreline.objectives.divergences import KL, AdaptiveBeta, EntropyBonus, divergence
from scoreline.objectives.objective import PolicyOutput
from scoreline.objectives.zoo import grpo, naive, ppo


# x = log pi - log pi_ref = 0.5 and -1.
@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [
        ("k1", [0.5, -1.0], [1.0, 1.0]),  # no KL signal in a loss: the same push whatever x is
        ("k2", [0.125, 0.5], [0.5, -1.0]),  # x^2 / 2 and x
        ("k3", [0.106531, 0.718282], [0.393469, -1.718282]),  # exp(-x) - 1 + x and 1 - exp(-x)
        ("k3_unbiased", [0.106531, 0.718282], [0.5, -1.0]),  # k3's value, k2's gradient
    ],
)
def test_estimators(estimator, value, gradient):
    logp = torch.tensor([[-0.5, -2.0]], requires_grad=True)
    kl = divergence(logp, torch.tensor([[-1.0, -1.0]]), estimator)
    kl.sum().backward()
    torch.testing.assert_close(kl.detach(), torch.tensor([value]), atol=1e-5, rtol=0)
    torch.testing.assert_close(logp.grad, torch.tensor([gradient]), atol=1e-5, rtol=0)


def test_k3_is_not_capped():
    # x = -3: exp(3) - 1 - 3 = 16.085537.
    assert float(divergence(torch.tensor([[-4.0]]), torch.tensor([[-1.0]]), "k3")) == pytest.approx(16.085537, abs=1e-4)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (0.3, 0.201024),  # 0.3 / 0.1 - 1 = 2, cut to 0.2: 0.2 (1 + 0.2 * 256 / 10000)
        (0.09, 0.199488),  # -0.1: 0.2 (1 - 0.1 * 0.0256)
        (0.0, 0.198976),  # -1, cut to -0.2
        (0.1, 0.2),  # on target
    ],
)
def test_adaptive_beta(kl, expected):
    assert AdaptiveBeta(target=0.1, horizon=10_000, clip=0.2).next(0.2, kl, 256) == pytest.approx(expected)


def one_answer(batch, **more):
    """Two tokens, score 1, x = log pi_old - log pi_ref = 0.2, -0.4."""
    return batch([[0.0, 1.0]], [[1, 1]], logp_old=[[-0.8, -1.4]], logp_ref=[[-1.0, -1.0]], **more)


def test_kl_in_the_reward(batch):
    # 0 - 0.5 * 0.2 = -0.1 and 1 + 0.5 * 0.4 = 1.2; to go: 1.1, 1.2.
    objective = replace(naive, kl=KL(beta=0.5, estimator="k1", into="reward"))
    made = objective.estimate(one_answer(batch))
    torch.testing.assert_close(made.advantages, torch.tensor([[1.1, 1.2]]))
    # A beta given by the loop replaces the objective's own: -0.2 and 1.4; to go 1.2, 1.4.
    torch.testing.assert_close(objective.estimate(one_answer(batch), beta=1.0).advantages, torch.tensor([[1.2, 1.4]]))


def test_kl_in_the_loss(batch):
    # k3 at x = 0.2, -0.4: 0.018731 and 0.091825; mean 0.055278; times beta.
    made = replace(one_answer(batch), advantages=torch.zeros(1, 2), weights=torch.full((1, 2), 0.5))
    policy = PolicyOutput(logp=torch.tensor([[-0.8, -1.4]]))
    assert float(grpo.loss(made, policy).parts["kl"]) == pytest.approx(0.04 * 0.055278, abs=1e-6)
    assert float(grpo.loss(made, policy, beta=1.0).parts["kl"]) == pytest.approx(0.055278, abs=1e-5)
    assert "kl" not in replace(ppo, value=None, credit=naive.credit).loss(made, policy).parts  # ppo: in the reward


def test_entropy_bonus(batch):
    # -0.01 * (1 + 2) / 2.
    objective = replace(naive, entropy=EntropyBonus(0.01))
    made = replace(one_answer(batch), advantages=torch.zeros(1, 2), weights=torch.full((1, 2), 0.5))
    policy = PolicyOutput(logp=torch.zeros(1, 2), entropy=torch.tensor([[1.0, 2.0]]))
    assert float(objective.loss(made, policy).parts["entropy"]) == pytest.approx(-0.015)
