"""What a credit part reads and writes: rewards on tokens, and the facts of the batch that it may need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Signal:
    """Rewards r_it on the tokens where they were earned.

    A `Credit` turns one signal into the next; after the last one `rewards` are the advantages A_it. `penalty` is the
    KL charge in reward units; it joins the rewards in the part that carries them back (`ToGo`, `GAE`) or adds them up
    (`Total`), so that a group's mean and std see scores alone.
    """

    rewards: Float[Tensor, "n t"]
    rewarded: Bool[Tensor, "n t"]
    mask: Bool[Tensor, "n t"]
    group: Int[Tensor, " n"]
    penalty: Float[Tensor, "n t"] | None = None
    values: Float[Tensor, "n t"] | None = None
    value_end: Float[Tensor, " n"] | None = None
    truncated: Bool[Tensor, " n"] | None = None

    @property
    def credited(self) -> Bool[Tensor, "n t"]:
        """Own tokens of the rows that were scored: an answer without a score teaches nothing."""
        return self.mask & self.rewarded.any(1, keepdim=True)


class Credit(Protocol):
    """One link of the chain from rewards to advantages. Runs once a batch, without gradient.

    A part whose score line is other answers to the same question also says `grouped: ClassVar[bool] = True`: a run
    then asks for at least two answers a question.
    """

    formula: ClassVar[str]
    source: ClassVar[str]

    def __call__(self, signal: Signal) -> Signal: ...


def power_of_two(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """2^k <= x < 2^(k + 1); 1 for zero. What is divided by it keeps all bits of its mantissa."""
    return torch.where(x > 0, x / (2 * torch.frexp(x).mantissa), 1.0)
