"""Several processes that compute one update:  grad L = sum_r grad L(rows of rank r).

The loss is a plain sum under weights of the whole minibatch, so ranks add up as micro-batches do: nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

from torch import Tensor, nn

from scoreline.types import Metrics

Outputs = tuple[Tensor | None, ...]
SumPrecision = Literal["fp32", "fp64"]


class Within(Protocol):
    """Compute a forward pass of some models with all of their weights at hand.

    `last`: the backward pass of what is computed completes a sum of gradients.
    """

    def __call__(self, compute: Callable[[], Outputs], last: bool = True) -> Outputs: ...


class Ranks(Protocol):
    """The processes that share a learner's work, as one of them sees them. What all must call together says so."""

    rank: int
    world: int

    def making(self) -> AbstractContextManager[None]:
        """Make inside what `shard` is given: one process reads weights, the others need not. Together; an error on one
        rank is every rank's.
        """
        ...

    def shard(self, models: Sequence[nn.Module], sums: SumPrecision = "fp32") -> Within:
        """From here on a rank may hold only its rows of the models' weights; their passes go through what this returns.

        Every rank calls it, and makes as many passes as the others, forward and backward. Gradients of what lies in
        rows are summed over passes and ranks: in fp32 after each pass, or in fp64 after the last.
        """
        ...

    def deal(self, own: Tensor, whole: Tensor) -> None:
        """Fill a tensor, or a rank's rows of it, with rank 0's `whole`; that of another may lack numbers. Together."""
        ...

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over the ranks, unless it lies in rows. Together."""
        ...

    def total(self, values: Metrics) -> Metrics:
        """Each value's sum over the ranks, which all give the same names. Together."""
        ...

    def most(self, count: int) -> int:
        """The largest count of any rank. No rank goes on before all have asked. Together."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """All rows of a tensor. Together."""
        ...

    def local(self, tensor: Tensor) -> Tensor:
        """The rows of a tensor that this rank holds, in its own memory; the tensor itself where it holds all."""
        ...

    def rows(self, tensor: Tensor) -> slice:
        """Which rows those are."""
        ...


class Alone:
    """One process: its sums are the totals, and all rows are its own."""

    rank, world = 0, 1

    def making(self) -> AbstractContextManager[None]:
        """A process makes its own."""
        return nullcontext()

    def shard(self, models: Sequence[nn.Module], sums: SumPrecision = "fp32") -> Within:
        """Nothing to share."""
        return here

    def deal(self, own: Tensor, whole: Tensor) -> None:
        """All of it."""
        own.detach().copy_(whole)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """They are the sums."""

    def total(self, values: Metrics) -> Metrics:
        """The values."""
        return values

    def most(self, count: int) -> int:
        """The count."""
        return count

    def whole(self, tensor: Tensor) -> Tensor:
        """The tensor."""
        return tensor

    def local(self, tensor: Tensor) -> Tensor:
        """The tensor."""
        return tensor

    def rows(self, tensor: Tensor) -> slice:
        """All of them."""
        return slice(None)


def here(compute: Callable[[], Outputs], last: bool = True) -> Outputs:
    """Compute with the weights as they are."""
    return compute()


ALONE = Alone()
