"""The sum of portions' gradients: in fp64 it is the same in any order, and what fp32 gives up to its rounding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from scoreline.errors import ConfigError
from scoreline.objectives.zoo import ppo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.plan import Plan
from scoreline.train.ranks import ALONE, SumPrecision
from scoreline.train.sums import make_sums
from scoreline.types import Batch
from tests import parts
from tests.train.test_learner import learner, prepared, weights

PORTIONS = ([1.0, 3.0], [2.0**-25, 0.0], [2.0**-25, 0.0], [-1.0, 0.0])


def summed(precision: SumPrecision, order: list[int]) -> tuple[list[float], list[float], float]:
    """The sum of the portions, what is left of it when it is clipped to 0.6, and its norm."""
    parameter = nn.Parameter(torch.zeros(2))
    sums = make_sums(precision, [[parameter]], ALONE)
    sums.begin()
    assert parameter.grad is not None
    for number in order:
        parameter.grad += torch.tensor(PORTIONS[number])  # as a backward pass does
        sums.portion()
    sums.total()
    total = parameter.grad.tolist()
    norm = sums.clip([parameter], 0.6)
    return total, parameter.grad.tolist(), norm


def test_fp64_keeps_what_fp32_rounds_away() -> None:
    """1 + 2^-25 is 1 in fp32, so the two small portions are lost between the large ones, and not after them."""
    exact = [2.0**-24, 3.0]
    assert summed("fp32", [0, 1, 2, 3])[0] == [0.0, 3.0]
    assert summed("fp32", [0, 3, 1, 2])[0] == exact
    for order in ([0, 1, 2, 3], [0, 3, 1, 2], [2, 3, 0, 1]):
        assert summed("fp64", order)[0] == exact


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_clipping_by_hand(precision: SumPrecision) -> None:
    _, clipped, norm = summed(precision, [0, 3, 1, 2])
    assert norm == pytest.approx(3.0)
    assert clipped == pytest.approx([0.2 * 2.0**-24, 0.6], rel=1e-5)


def trained(precision: SumPrecision, monkeypatch: pytest.MonkeyPatch, *, backwards: bool) -> Tensor:
    made = learner(ppo, micro=2)
    made.sums = make_sums(precision, made.groups.values(), ALONE)
    if backwards:
        cut = made.portions.cut
        monkeypatch.setattr(made.portions, "cut", lambda batch: reversed(list(cut(batch))))
    for seed in range(3):
        made.update(prepared(made, batch_of(made, seed)), Update())
    return weights(made)


def batch_of(made: LocalLearner, seed: int) -> Batch:
    return collate(parts.rollouts(made.policy, seed=seed))


def test_the_order_of_portions_changes_no_bit_of_fp64_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {(precision, order): trained(precision, monkeypatch, backwards=order) for precision, order in every_case()}
    assert torch.equal(ends["fp64", False], ends["fp64", True])
    assert not torch.equal(ends["fp32", False], ends["fp32", True]), "else this test shows nothing"
    assert torch.allclose(ends["fp64", False], ends["fp32", False], atol=1e-4)


def every_case() -> Iterator[tuple[SumPrecision, bool]]:
    for order in (False, True):
        yield "fp32", order
        yield "fp64", order


def test_what_is_not_finite_is_not_clipped_into_something_finite() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    sums = make_sums("fp64", [[parameter]], ALONE)
    sums.begin()
    assert parameter.grad is not None
    parameter.grad[0] = torch.inf
    sums.portion()
    sums.total()
    assert sums.clip([parameter], 1.0) == torch.inf


def test_exact_sums_need_portions_that_are_cut_alike() -> None:
    with pytest.raises(ConfigError, match="cut alike") as refused:
        Plan(gradient_sums="fp64")
    assert "micro_batch_size" in str(refused.value)
    assert Plan(gradient_sums="fp64", micro_batch_size=8).gradient_sums == "fp64"
