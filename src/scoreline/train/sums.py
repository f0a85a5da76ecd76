"""g = sum_k g_k: the gradient of a minibatch from those of its portions, on this rank and on the others.

In fp32 the rounding of that sum depends on its order, and so on how many ranks share the portions. In fp64 a sum of
fp32 numbers is exact to 29 bits more than are kept: rounded once, at its end, it is the same in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from scoreline.train.ranks import Ranks, SumPrecision

STABLE = 1e-6
"""What torch's `clip_grad_norm_` adds to a norm that it divides by."""


class GradientSums(Protocol):
    """Where the gradients of portions go. What all ranks must call together says so."""

    def begin(self) -> None:
        """Nothing is summed yet."""
        ...

    def portion(self) -> None:
        """The backward pass of a portion has ended."""
        ...

    def total(self) -> None:
        """`grad` of every parameter is its sum over all portions of all ranks. Together."""
        ...

    def clip(self, group: Sequence[nn.Parameter], most: float) -> float:
        """The norm of a group's gradient, which is then scaled down to `most`. Together."""
        ...


def make_sums(precision: SumPrecision, groups: Iterable[Sequence[nn.Parameter]], ranks: Ranks) -> GradientSums:
    """Sums in fp32 or in fp64 of the gradients of all that learns."""
    made = Rounded if precision == "fp32" else Exact
    return made([parameter for group in groups for parameter in group], ranks)


class Rounded:
    """fp32 sums in `grad` itself, where a backward pass adds to what is there."""

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
        self.parameters, self.ranks = parameters, ranks

    def begin(self) -> None:
        """A zero sum for every parameter, before there are activations between which it would be laid.

        On a CPU the sums stay where they are from update to update: the memory of a step is the same each time.
        """
        clear(self.parameters)

    def portion(self) -> None:
        """The backward pass has added it."""

    def total(self) -> None:
        """What lies in rows is summed already."""
        self.ranks.add([p.grad for p in self.parameters if p.grad is not None])

    def clip(self, group: Sequence[nn.Parameter], most: float) -> float:
        """Over all rows, so that it is the same on every rank."""
        return float(self.ranks.whole(torch.nn.utils.clip_grad_norm_(group, most)))


class Exact:
    """fp64 sums beside `grad`, 8 bytes more for each parameter. What lies in rows is summed by `Ranks.shard`."""

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
        self.parameters, self.ranks = parameters, ranks
        self.sums: dict[nn.Parameter, Tensor] = {}

    def begin(self) -> None:
        """Zeros."""
        clear(self.parameters)
        for total in self.sums.values():
            total.zero_()

    def portion(self) -> None:
        """Added, and `grad` is free for the next."""
        for parameter in (p for p in self.parameters if p.grad is not None and self.ranks.local(p) is p):
            assert parameter.grad is not None
            if parameter not in self.sums:
                self.sums[parameter] = torch.zeros_like(parameter, dtype=torch.float64)
            self.sums[parameter] += parameter.grad
            parameter.grad.zero_()

    def total(self) -> None:
        """The one rounding."""
        self.ranks.add(list(self.sums.values()))
        for parameter, total in self.sums.items():
            if parameter.grad is not None:
                parameter.grad.copy_(total)

    def clip(self, group: Sequence[nn.Parameter], most: float) -> float:
        """In fp64 too, where the order of squares is lost as well."""
        grads = [(p, p.grad) for p in group if p.grad is not None]
        whole = squares(grad for p, grad in grads if self.ranks.local(p) is p)
        rows = squares(self.ranks.local(grad) for p, grad in grads if self.ranks.local(p) is not p)
        norm = math.sqrt(whole + self.ranks.total({"squares": rows})["squares"])
        scale = min(1.0, most / (norm + STABLE))
        for _, grad in grads:
            grad.mul_(scale)
        return norm


def squares(tensors: Iterable[Tensor]) -> float:
    """The sum of the squares of all elements, in fp64."""
    return sum(float(tensor.double().square().sum()) for tensor in tensors)


def clear(parameters: Iterable[Tensor]) -> None:
    """Zeros in the `grad` of all that learns now."""
    for parameter in (p for p in parameters if p.requires_grad):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad.zero_()
