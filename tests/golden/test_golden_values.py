"""The critic's target and loss, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from scoreline.objectives.values import LambdaReturn, ValueLoss, explained_variance


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (LambdaReturn(1.0, 1.0), [1.0, 1.0, 1.0]),  # the reward to go
        (LambdaReturn(0.9, 0.5), [0.504, 0.72, 1.0]),  # A = 0.304, 0.32, 0.4 (test_golden_returns) plus V
        (LambdaReturn(1.0, 0.0), [0.4, 0.6, 1.0]),  # r + V of the next token
    ],
)
def test_lambda_return(signal, target, expected):
    s = signal([[0.0, 0.0, 1.0]], values=[[0.2, 0.4, 0.6]])
    torch.testing.assert_close(target(s), torch.tensor([expected]))


def test_lambda_return_bootstraps_and_is_zero_outside_the_mask(signal):
    # V after the cut is 0.5, so the reward to go is 1.5.
    s = signal([[0.0, 1.0, 0.0]], mask=[[1, 1, 0]], values=[[0.2, 0.4, 9.0]], value_end=[0.5], truncated=[True])
    torch.testing.assert_close(LambdaReturn(bootstrap=True)(s), torch.tensor([[1.5, 1.5, 0.0]]))


@pytest.mark.parametrize(
    ("loss", "value", "target", "expected", "gradient"),
    [
        (ValueLoss(), 1.0, 0.0, 0.5, 1.0),  # (1 - 0)^2 / 2
        (ValueLoss(coefficient=0.1), 1.0, 0.0, 0.05, 0.1),
        (ValueLoss(clip=0.2), 1.0, 0.0, 0.5, 1.0),  # max(1, (0.2 - 0)^2) / 2
        (ValueLoss(clip=0.2), 1.0, 1.0, 0.32, 0.0),  # max(0, (0.2 - 1)^2) / 2: already moved far enough
        (ValueLoss(clip=0.2), 0.1, 1.0, 0.405, -0.9),  # 0.1 is inside: (0.1 - 1)^2 / 2
    ],
)
def test_value_loss(loss, value, target, expected, gradient):
    v = torch.tensor([[value]], requires_grad=True)
    out = loss(v, torch.tensor([[0.0]]), torch.tensor([[target]]))  # V_old = 0
    out.sum().backward()
    assert (out.item(), v.grad.item()) == pytest.approx((expected, gradient), abs=1e-6)


def test_explained_variance():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[True, True, True, False]])

    def of(values):
        return explained_variance(torch.tensor([[*values, 0.0]]), returns, mask)

    assert of([1.0, 2.0, 3.0]) == 1.0
    assert of([5.0, 5.0, 5.0]) == 0.0
    assert of([1.0, 2.0, 2.0]) == pytest.approx(2 / 3)  # errors 0, 0, 1 have variance 1/3; returns have 1
    assert math.isnan(explained_variance(returns, torch.ones(1, 4), mask))
