"""The losses of judges and what is measured of them, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from scoreline.train.judging import accuracy, calibration_error, majority, pairwise_loss, step_loss


def test_a_pair_of_equal_scores_costs_log_2() -> None:
    assert float(pairwise_loss(torch.tensor([3.0]), torch.tensor([3.0]))) == pytest.approx(math.log(2))


def test_pairwise_by_hand() -> None:
    """Margins log 3 and -log 3: sigmoid is 3/4 and 1/4, the losses log 4/3 and log 4."""
    scores = torch.tensor([2.0, 0.5]), torch.tensor([2.0 - math.log(3), 0.5 + math.log(3)])
    assert pairwise_loss(*scores).tolist() == pytest.approx([math.log(4 / 3), math.log(4)], abs=1e-6)


def test_the_gradient_of_a_pair_is_what_it_was_not_sure_of() -> None:
    """dL / dr(o+) = sigmoid(margin) - 1 = -1/4, and the opposite for o-."""
    chosen, rejected = torch.tensor([math.log(3)], requires_grad=True), torch.zeros(1, requires_grad=True)
    pairwise_loss(chosen, rejected).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == (pytest.approx(-0.25), pytest.approx(0.25))


def test_a_hopeless_pair_does_not_overflow() -> None:
    assert pairwise_loss(torch.tensor([-500.0]), torch.tensor([500.0])).tolist() == [1000.0]


def test_steps_by_hand() -> None:
    """p = 3/4 against y = 1, 0 and 1/4: -log 3/4; -log 1/4; -(1/4 log 3/4 + 3/4 log 1/4)."""
    logits, labels = torch.full((3,), math.log(3)), torch.tensor([1.0, 0.0, 0.25])
    soft = -(0.25 * math.log(0.75) + 0.75 * math.log(0.25))
    assert step_loss(logits, labels).tolist() == pytest.approx([math.log(4 / 3), math.log(4), soft], abs=1e-6)


def test_a_soft_label_is_fitted_by_its_own_probability() -> None:
    logits = torch.tensor([math.log(0.25 / 0.75)], requires_grad=True)
    step_loss(logits, torch.tensor([0.25])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(0.0, abs=1e-7)


def test_accuracy_and_the_majority() -> None:
    logits, labels = torch.tensor([2.0, -1.0, 0.5, -0.1, -3.0]), torch.tensor([1.0, 0.0, 0.4, 0.6, 0.0])
    assert accuracy(logits, labels) == pytest.approx(3 / 5)
    assert majority(labels) == pytest.approx(3 / 5)
    assert majority(1 - labels) == pytest.approx(3 / 5)


def test_calibration_by_hand() -> None:
    """Bins [0.2, 0.3): p 0.2 0.25, y 0 1; [0.9, 1]: p 0.9 1.0, y 1 1. |0.45 - 1| + |1.9 - 2| over 4."""
    said, labels = torch.tensor([0.2, 0.9, 0.25, 1.0]), torch.tensor([0.0, 1.0, 1.0, 1.0])
    assert float(calibration_error(said, labels)) == pytest.approx((0.55 + 0.1) / 4, abs=1e-6)
    assert float(calibration_error(said, labels, bins=1)) == pytest.approx(abs(2.35 - 3) / 4, abs=1e-6)


def test_who_says_three_quarters_and_is_right_as_often_is_calibrated() -> None:
    assert float(calibration_error(torch.full((8,), 0.75), torch.tensor([1.0, 1.0, 1.0, 0.0] * 2))) == 0.0
