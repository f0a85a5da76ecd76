"""Surrogates: what log-probabilities and advantages make of a token. And the correction for a sampler that differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreline.errors import ConfigError


@dataclass(frozen=True)
class Terms:
    """A per-token loss, and per-token facts about it that become metrics (means over own tokens)."""

    loss: Float[Tensor, "n t"]
    stats: Mapping[str, Float[Tensor, "n t"]] = field(default_factory=dict)


class Surrogate(Protocol):
    """Per-token loss whose gradient is the policy's. `ratios` says whether it compares with pi_old."""

    formula: ClassVar[str]
    source: ClassVar[str]
    ratios: ClassVar[bool]

    def __call__(
        self, logp: Float[Tensor, "n t"], logp_old: Float[Tensor, "n t"], advantage: Float[Tensor, "n t"]
    ) -> Terms: ...


@dataclass(frozen=True)
class LogProb:
    """l_t = - A_t log pi(o_t): the policy gradient itself (Williams 1992)."""

    formula: ClassVar[str] = "l_t = -A_t log pi_t"
    source: ClassVar[str] = "REINFORCE, Williams 1992"
    ratios: ClassVar[bool] = False

    def __call__(
        self, logp: Float[Tensor, "n t"], logp_old: Float[Tensor, "n t"], advantage: Float[Tensor, "n t"]
    ) -> Terms:
        return Terms(-advantage * logp)


@dataclass(frozen=True)
class Clip:
    """l_t = - min( rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t ),  rho = pi / pi_old.

    PPO (1707.06347, equation 7). `high` above `low` is DAPO's clip-higher (2503.14476, equation 10). `dual` = c > 1 is
    dual clip (1912.09729, equation 5): where A < 0 the surrogate is at least c A, so one very likely bad token cannot
    dominate.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    formula: ClassVar[str] = "l_t = -min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t),  rho_t = pi_t / pi_old_t"
    source: ClassVar[str] = "PPO, arXiv 1707.06347, equation 7; dual clip, arXiv 1912.09729, equation 5"
    ratios: ClassVar[bool] = True

    def __call__(
        self, logp: Float[Tensor, "n t"], logp_old: Float[Tensor, "n t"], advantage: Float[Tensor, "n t"]
    ) -> Terms:
        rho = (logp - logp_old).exp()
        gain = torch.minimum(rho * advantage, rho.clamp(1 - self.low, 1 + self.high) * advantage)
        if self.dual is not None:
            gain = torch.where(advantage < 0, torch.maximum(gain, self.dual * advantage), gain)
        return Terms(-gain, self.clipped(rho, advantage))

    def clipped(self, rho: Float[Tensor, "n t"], advantage: Float[Tensor, "n t"]) -> dict[str, Float[Tensor, "n t"]]:
        """1 where the clip took the gradient away: bad tokens already unlikelier, good ones already likelier."""
        low: Bool[Tensor, "n t"] = (rho < 1 - self.low) & (advantage < 0)
        high: Bool[Tensor, "n t"] = (rho > 1 + self.high) & (advantage > 0)
        named = {"clip_ratio/low_mean": low, "clip_ratio/high_mean": high, "clip_ratio/region_mean": low | high}
        return {name: where.to(rho) for name, where in named.items()}


@dataclass(frozen=True)
class TruncatedImportance:
    """w_t = min( pi_old(o_t) / pi_sampler(o_t), cap ), no gradient; multiplies the token's surrogate.

    Truncated importance sampling (Ionides 2008) for an engine whose numbers differ from the learner's.
    """

    cap: float = 2.0

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise ConfigError("The cap of an importance weight is above 0.", got=self.cap, accepted="usually 2.0")

    formula: ClassVar[str] = "w_t = min(pi_old_t / pi_sampler_t, cap)"
    source: ClassVar[str] = "truncated importance sampling, Ionides 2008"

    def __call__(self, logp_old: Float[Tensor, "n t"], logp_sampler: Float[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        return (logp_old - logp_sampler).exp().clamp(max=self.cap).detach()
