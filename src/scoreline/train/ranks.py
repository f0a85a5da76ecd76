"""Several processes that compute one update:  grad L = sum_r grad L(rows of rank r).

The loss is a plain sum under weights of the whole minibatch, so ranks add up as micro-batches do: nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

from scoreline.types import Metrics

Outputs = tuple[Tensor | None, ...]


class Within(Protocol):
    """Compute a forward pass of some models with all of their weights at hand."""

    def __call__(self, compute: Callable[[], Outputs]) -> Outputs: ...


class Ranks(Protocol):
    """The processes that share a learner's work, as one of them sees them. What all must call together says so."""

    rank: int
    world: int

    def shard(self, models: Sequence[nn.Module]) -> Within:
        """From here on a rank may hold only its rows of the models' weights; their passes go through what this returns.

        Every rank calls it, and makes as many passes as the others, forward and backward.
        """
        ...

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum over the ranks the gradients that backward passes have not summed already. Together."""
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

    def shard(self, models: Sequence[nn.Module]) -> Within:
        """Nothing to share."""
        return here

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """They are the sum."""

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


def here(compute: Callable[[], Outputs]) -> Outputs:
    """Compute with the weights as they are."""
    return compute()


ALONE = Alone()
