"""The group's score line: what other answers to the same question earned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scoreline.objectives.signal import Signal, power_of_two

StdKind = Literal["sample", "population", "none"]


def group_sum(x: Float[Tensor, "n t"], group: Int[Tensor, " n"]) -> Float[Tensor, "n 1"]:
    """sum_{j in group(i)} sum_t x_jt, given back to every row i of the group."""
    size = int(group.max()) + 1 if len(group) else 0
    return x.new_zeros(size).index_add(0, group, x.sum(1))[group, None]


def group_mean(
    rewards: Float[Tensor, "n t"], rewarded: Bool[Tensor, "n t"], group: Int[Tensor, " n"]
) -> Float[Tensor, "n 1"]:
    """mean(R) over all rewarded positions of a row's group (DeepSeekMath 2402.03300, section 4.1); 0 of none."""
    count = group_sum(rewarded.to(rewards), group)
    return group_sum(rewards * rewarded, group) / count.clamp(min=1)


def group_std(
    rewards: Float[Tensor, "n t"], rewarded: Bool[Tensor, "n t"], group: Int[Tensor, " n"], *, ddof: int
) -> Float[Tensor, "n 1"]:
    """std(R) = sqrt( sum (r - mean(R))^2 / (N - ddof) ) over the N rewarded positions of a row's group.

    Squared are deviations over 2^k <= max |r - mean(R)|: the square of 1e30 is infinite in fp32, and of 1e-30 zero.
    """
    deviation = (rewards - group_mean(rewards, rewarded, group)) * rewarded
    scale = power_of_two(group_max(deviation.abs(), group))
    count = group_sum(rewarded.to(rewards), group)
    return (group_sum((deviation / scale) ** 2, group) / (count - ddof).clamp(min=1)).sqrt() * scale


def group_max(x: Float[Tensor, "n t"], group: Int[Tensor, " n"]) -> Float[Tensor, "n 1"]:
    """max_{j in group(i)} max_t x_jt of what is not negative, given back to every row i of the group."""
    size = int(group.max()) + 1 if len(group) else 0
    return x.new_zeros(size).scatter_reduce(0, group, x.amax(1), "amax")[group, None]


def group_constant(
    rewards: Float[Tensor, "n t"], rewarded: Bool[Tensor, "n t"], group: Int[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Whether all rewards of a row's group are equal: such a group says nothing about its answers.

    Compared by minimum and maximum. A mean of equal floats may differ from them in the last bit, and dividing that by
    a std of nearly zero would make a signal out of rounding.
    """
    size = int(group.max()) + 1 if len(group) else 0
    rows = torch.where(rewarded, rewards, torch.inf).amin(1), torch.where(rewarded, rewards, -torch.inf).amax(1)
    low = rewards.new_full((size,), torch.inf).scatter_reduce(0, group, rows[0], "amin")
    high = rewards.new_full((size,), -torch.inf).scatter_reduce(0, group, rows[1], "amax")
    return (low >= high)[group]


@dataclass(frozen=True)
class GroupNorm:
    """A_i = (r_i - mean(r)) / (std(r) + eps) over all rewarded positions of the group.

    DeepSeekMath (2402.03300) section 4.1.2 for one reward an answer, section 4.1.3 for rewards on steps. The paper
    states neither the kind of std nor an epsilon: here the sample std (N - 1) and 1e-6, outside the root. `std="none"`
    is Dr. GRPO (2503.20783). Rewards [1, 0, 0, 0] give 1.5, -0.5, -0.5, -0.5.

    A group whose rewards are all equal gets exactly zero. Rows without a reward stay out of mean and std and get zero.
    """

    std: StdKind = "sample"
    eps: float = 1e-6

    formula: ClassVar[str] = "A_i = (r_i - mean(r)) / (std(r) + eps)"
    source: ClassVar[str] = "DeepSeekMath, arXiv 2402.03300, sections 4.1.2 and 4.1.3"
    grouped: ClassVar[bool] = True

    def __call__(self, signal: Signal) -> Signal:
        where = (signal.rewarded, signal.group)
        centred = signal.rewards - group_mean(signal.rewards, *where)
        if self.std != "none":
            centred = centred / (group_std(signal.rewards, *where, ddof=int(self.std == "sample")) + self.eps)
        silent = group_constant(signal.rewards, *where)[:, None] | ~signal.rewarded
        return replace(signal, rewards=centred.masked_fill(silent, 0.0))


@dataclass(frozen=True)
class LeaveOneOut:
    """A_i = r_i - mean_{j != i} r_j: the other answers are the score line, so that it does not depend on the answer.

    RLOO (2402.14740); equal to G/(G-1) (r_i - mean(r)). With rewards on several tokens of an
    answer, the mean is over all rewarded positions of the *other* answers. A row whose group has no other scored
    answer gets zero.
    """

    formula: ClassVar[str] = "A_i = r_i - mean_{j != i}(r_j)"
    source: ClassVar[str] = "RLOO, arXiv 2402.14740"
    grouped: ClassVar[bool] = True

    def __call__(self, signal: Signal) -> Signal:
        rewards = signal.rewards * signal.rewarded
        others = group_sum(rewards, signal.group) - rewards.sum(1, keepdim=True)
        counted = signal.rewarded.to(rewards)
        count = group_sum(counted, signal.group) - counted.sum(1, keepdim=True)
        centred = rewards - others / count.clamp(min=1)
        constant = group_constant(signal.rewards, signal.rewarded, signal.group)[:, None]
        return replace(signal, rewards=centred.masked_fill(constant | ~signal.rewarded | (count == 0), 0.0))
