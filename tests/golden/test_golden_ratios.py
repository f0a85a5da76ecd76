"""Surrogates and the sampler's correction, worked by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from scoreline.objectives.ratios import Clip, LogProb, TruncatedImportance


def loss_and_gradient(surrogate, rho, advantage):
    """The loss of one token whose probability ratio is `rho`, and its derivative by log pi."""
    logp = torch.tensor([[log(rho) - 1.0]], requires_grad=True)
    loss = surrogate(logp, torch.tensor([[-1.0]]), torch.tensor([[advantage]])).loss
    loss.sum().backward()
    return loss.item(), logp.grad.item()


def test_log_prob():
    # -A log pi = -2 * (-1 + log 1.5) = 1.189070; its derivative by log pi is -2.
    assert loss_and_gradient(LogProb(), 1.5, 2.0) == pytest.approx((1.189070, -2.0), abs=1e-5)


# d rho / d log pi = rho, so an unclipped token has the gradient -rho A.
@pytest.mark.parametrize(
    ("clip", "rho", "advantage", "loss", "gradient"),
    [
        (Clip(), 1.5, 1.0, -1.2, 0.0),  # good and likelier: min(1.5, 1.2), cut
        (Clip(), 0.5, 1.0, -0.5, -0.5),  # good and unlikelier: min(0.5, 0.8), keeps its gradient
        (Clip(), 1.5, -1.0, 1.5, 1.5),  # bad and likelier: min(-1.5, -1.2), keeps its gradient
        (Clip(), 0.5, -1.0, 0.8, 0.0),  # bad and unlikelier: min(-0.5, -0.8), cut
        (Clip(), 1.0, 2.0, -2.0, -2.0),
        (Clip(0.2, 0.28), 1.25, 1.0, -1.25, -1.25),  # inside the higher bound
        (Clip(0.2, 0.28), 1.5, 1.0, -1.28, 0.0),
        (Clip(0.2, 0.28), 0.75, -1.0, 0.8, 0.0),  # the lower bound did not move
        (Clip(dual=3.0), 4.0, -1.0, 3.0, 0.0),  # max(min(-4, -1.2), 3 * -1): bounded
        (Clip(dual=3.0), 2.0, -1.0, 2.0, 2.0),  # max(-2, -3)
        (Clip(dual=3.0), 4.0, 1.0, -1.2, 0.0),  # a good token: as without
    ],
)
def test_clip(clip, rho, advantage, loss, gradient):
    assert loss_and_gradient(clip, rho, advantage) == pytest.approx((loss, gradient), abs=1e-5)


def test_clip_ratios_count_where_the_clip_took_the_gradient():
    rho = torch.tensor([[1.5, 0.5, 1.5, 0.5, 1.0, 0.5]])
    stats = Clip().clipped(rho, torch.tensor([[1.0, 1.0, -1.0, -1.0, 1.0, 0.0]]))
    assert stats["clip_ratio/high_mean"].tolist() == [[1, 0, 0, 0, 0, 0]]
    assert stats["clip_ratio/low_mean"].tolist() == [[0, 0, 0, 1, 0, 0]]
    assert stats["clip_ratio/region_mean"].tolist() == [[1, 0, 0, 1, 0, 0]]


def test_truncated_importance():
    # Ratios 3, 0.5, 1 between learner and sampler, capped at 2.
    old = torch.tensor([[log(3.0), log(0.5), 0.0]], requires_grad=True)
    weight = TruncatedImportance(cap=2.0)(old, torch.zeros(1, 3))
    torch.testing.assert_close(weight, torch.tensor([[2.0, 0.5, 1.0]]))
    assert not weight.requires_grad
