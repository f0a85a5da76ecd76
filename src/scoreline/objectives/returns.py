"""From rewards on tokens to what each token is told: reward-to-go, totals, GAE, whitening."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreline.errors import ObjectiveError
from scoreline.objectives.signal import Signal, power_of_two


def charged(signal: Signal) -> Float[Tensor, "n t"]:
    """r_it minus the KL penalty, where there is one."""
    return signal.rewards if signal.penalty is None else signal.rewards - signal.penalty


def advantages(
    rewards: Float[Tensor, "n t"],
    values: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    *,
    gamma: float,
    lam: float,
    value_end: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n t"]:
    """A_t = d_t + gamma lam A_{t+1},  d_t = r_t + gamma V_{t+1} - V_t: GAE (1506.02438,
    equation 16; 1707.06347, equations 11 and 12).

    Time runs over the policy's own tokens alone: for a token before a tool's output, t+1 is the next token that the
    policy wrote, and a reward on a token that is not its own belongs to the last one that is. `value_end` [n] is
    V after the last token: zero for an ended answer, the critic's estimate where the budget cut it off.
    """
    n, t = rewards.shape
    next_value = rewards.new_zeros(n) if value_end is None else value_end
    next_advantage, pending = rewards.new_zeros(n), rewards.new_zeros(n)
    out = torch.zeros_like(rewards)
    for i in range(t - 1, -1, -1):
        own, pending = mask[:, i], pending + rewards[:, i]
        advantage = pending + gamma * next_value - values[:, i] + gamma * lam * next_advantage
        out[:, i] = torch.where(own, advantage, 0.0)
        next_value = torch.where(own, values[:, i], next_value)
        next_advantage = torch.where(own, advantage, next_advantage)
        pending = torch.where(own, 0.0, pending)
    return out


def reward_to_go(
    rewards: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"], *, gamma: float = 1.0
) -> Float[Tensor, "n t"]:
    """R_t = sum_{k >= t} gamma^{k-t} r_k over the policy's own tokens: GAE with lam = 1 and no values."""
    if gamma == 1.0:
        return rewards.flip(1).cumsum(1).flip(1) * mask
    return advantages(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)


@dataclass(frozen=True)
class ToGo:
    """A_t = sum_{k >= t} gamma^{k-t} r_k: a token answers for what came after it.

    REINFORCE with reward-to-go (Williams 1992). After `GroupNorm` on step rewards it is the sum over the steps that
    end at or after the token (DeepSeekMath 2402.03300, section 4.1.3).
    """

    gamma: float = 1.0

    formula: ClassVar[str] = "A_t = sum_{k >= t} gamma^(k-t) r_k"
    source: ClassVar[str] = "Williams 1992; DeepSeekMath, arXiv 2402.03300, section 4.1.3"

    def __call__(self, signal: Signal) -> Signal:
        carried = reward_to_go(charged(signal), signal.mask, gamma=self.gamma)
        return replace(signal, rewards=carried, rewarded=signal.credited, penalty=None)


@dataclass(frozen=True)
class Total:
    """r_i = sum_t (r_it - beta KL_it), on the last rewarded token: one score an answer, KL included.

    RLOO's sequence-level reward (2402.14740). Needed before a group baseline when the KL is in the reward.
    """

    formula: ClassVar[str] = "r_i = sum_t (r_it - beta KL_it)"
    source: ClassVar[str] = "RLOO, arXiv 2402.14740"

    def __call__(self, signal: Signal) -> Signal:
        position = torch.arange(signal.rewarded.shape[1], device=signal.rewarded.device)
        last = torch.where(signal.rewarded, position, -1).amax(1, keepdim=True)
        at = (position == last) & signal.rewarded
        return replace(signal, rewards=charged(signal).sum(1, keepdim=True) * at, rewarded=at, penalty=None)


@dataclass(frozen=True)
class GAE:
    """A_t = sum_l (gamma lam)^l d_{t+l},  d_t = r_t + gamma V_{t+1} - V_t: the critic's score line.

    Generalised advantage estimation (1506.02438, equation 16). lam = 1 is A = (reward to go) - V; lam = 0 the one-step
    TD error. Tokens that are not the policy's own are skipped. `bootstrap` puts V after the last token behind an
    answer that the token budget cut off, instead of treating the cut as an end.
    """

    gamma: float = 1.0
    lam: float = 0.95
    bootstrap: bool = False

    formula: ClassVar[str] = "A_t = sum_l (gamma lam)^l d_(t+l),  d_t = r_t + gamma V_(t+1) - V_t"
    source: ClassVar[str] = "GAE, arXiv 1506.02438, equation 16"

    def __call__(self, signal: Signal) -> Signal:
        return replace(signal, rewards=self.estimate(signal), rewarded=signal.credited, penalty=None)

    def estimate(self, signal: Signal) -> Float[Tensor, "n t"]:
        """The advantages, before any later part changes them."""
        if signal.values is None:
            raise ObjectiveError("GAE was asked for advantages, but the batch has no values.", todo="give it a critic.")
        end = None
        if self.bootstrap and signal.value_end is not None and signal.truncated is not None:
            end = torch.where(signal.truncated, signal.value_end, 0.0)
        return advantages(charged(signal), signal.values, signal.mask, gamma=self.gamma, lam=self.lam, value_end=end)


@dataclass(frozen=True)
class Whiten:
    """A <- (A - mean(A)) / sqrt(var(A) + eps) over all own tokens of the scored answers, sample variance.

    A habit of PPO implementations, in no equation of 1707.06347; so it is a part of its own.
    """

    eps: float = 1e-8

    formula: ClassVar[str] = "A = (A - mean(A)) / sqrt(var(A) + eps)"
    source: ClassVar[str] = "common practice with PPO; not part of arXiv 1707.06347"

    def __call__(self, signal: Signal) -> Signal:
        own = signal.rewards[signal.credited]
        if own.numel() < 2:
            return signal
        scale = power_of_two(own.abs().max()).clamp(min=1)  # the square of 1e30 is infinite in fp32
        deviation = (signal.rewards - own.mean()) / scale
        white = deviation * ((own / scale).var() + self.eps / scale**2).rsqrt()
        return replace(signal, rewards=white * signal.mask)
