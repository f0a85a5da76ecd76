"""Aggregation as weights: the loss of an optimiser step is sum_it w_it l_it, so parts of a batch simply add up.

`mask` [n, t] covers the *whole* optimiser step: micro-batches and ranks then sum without a further factor.
Answers without a token of their own (all masked) do not count as answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from scoreline.errors import ObjectiveError


class Aggregate(Protocol):
    """mask -> weights; zero outside the mask."""

    formula: ClassVar[str]
    source: ClassVar[str]

    def __call__(self, mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]: ...


def answers(mask: Bool[Tensor, "n t"]) -> Float[Tensor, ""]:
    """How many rows have at least one token of their own; at least 1."""
    return mask.any(1).sum().clamp(min=1).float()


@dataclass(frozen=True)
class TokenMean:
    """w_it = 1 / sum_i |o_i|: every token counts the same, long answers more (DAPO 2503.14476, equation 8)."""

    formula: ClassVar[str] = "w_it = 1 / sum_i |o_i|"
    source: ClassVar[str] = "DAPO, arXiv 2503.14476, equation 8"

    def __call__(self, mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        return mask.float() / mask.sum().clamp(min=1)


@dataclass(frozen=True)
class SequenceMean:
    """w_it = 1 / (n |o_i|): every answer counts the same (GRPO, DeepSeekMath 2402.03300, equation 3)."""

    formula: ClassVar[str] = "w_it = 1 / (n |o_i|)"
    source: ClassVar[str] = "GRPO, DeepSeekMath, arXiv 2402.03300, equation 3"

    def __call__(self, mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        return mask.float() / mask.sum(1, keepdim=True).clamp(min=1) / answers(mask)


@dataclass(frozen=True)
class SequenceSum:
    """w_it = 1 / n: an answer's log-probability is the sum over its tokens (REINFORCE, Williams 1992)."""

    formula: ClassVar[str] = "w_it = 1 / n"
    source: ClassVar[str] = "REINFORCE, Williams 1992"

    def __call__(self, mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        return mask.float() / answers(mask)


@dataclass(frozen=True)
class FixedLength:
    """w_it = 1 / (n L) with a constant L, so that length earns and costs nothing (Dr. GRPO 2503.20783).

    `length` is the token budget of an answer; left out, the run fills in its `max_completion_length`.
    """

    length: int | None = None

    formula: ClassVar[str] = "w_it = 1 / (n L)"
    source: ClassVar[str] = "Dr. GRPO, arXiv 2503.20783"

    def __call__(self, mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        if self.length is None:
            raise ObjectiveError(
                "FixedLength has no length.",
                accepted="a token budget",
                todo="FixedLength(length=512), or run a recipe.",
            )
        return mask.float() / self.length / answers(mask)
