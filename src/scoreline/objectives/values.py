"""The critic: its target, its loss, and how much of the reward it explains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreline.objectives.returns import GAE
from scoreline.objectives.signal import Signal


@dataclass(frozen=True)
class LambdaReturn:
    """R_t = V_t + sum_l (gamma lam)^l d_{t+l}: the critic's target (1506.02438, section 3 with its own lambda).

    lam = 1 is the reward to go. It is computed from the rewards, never from advantages that were normalised or
    whitened, so that no later part changes what the critic learns.
    """

    gamma: float = 1.0
    lam: float = 1.0
    bootstrap: bool = False

    formula: ClassVar[str] = "R_t = V_t + sum_l (gamma lam)^l d_(t+l)"
    source: ClassVar[str] = "GAE, arXiv 1506.02438; lambda = 1: VAPO, arXiv 2504.05118"

    def __call__(self, signal: Signal) -> Float[Tensor, "n t"]:
        estimate = GAE(self.gamma, self.lam, self.bootstrap).estimate(signal)
        assert signal.values is not None
        return (estimate + signal.values) * signal.mask


@dataclass(frozen=True)
class ValueLoss:
    """c 1/2 max( (V - R)^2, (V_old + clip(V - V_old, -clip, clip) - R)^2 ), or c 1/2 (V - R)^2 without a clip.

    PPO (1707.06347, equation 9); the clipped form is its authors' code. `target` is the critic's own.
    """

    coefficient: float = 1.0
    clip: float | None = None
    target: LambdaReturn = field(default_factory=LambdaReturn)

    formula: ClassVar[str] = "c 1/2 (V_t - R_t)^2"
    source: ClassVar[str] = "PPO, arXiv 1707.06347, equation 9"

    def __call__(
        self, value: Float[Tensor, "n t"], value_old: Float[Tensor, "n t"], returns: Float[Tensor, "n t"]
    ) -> Float[Tensor, "n t"]:
        loss = (value - returns) ** 2
        if self.clip is not None:
            near = value_old + (value - value_old).clamp(-self.clip, self.clip)
            loss = torch.maximum(loss, (near - returns) ** 2)
        return 0.5 * self.coefficient * loss


def explained_variance(values: Float[Tensor, "n t"], returns: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"]) -> float:
    """1 - Var(R - V) / Var(R) over own tokens: 1 is a perfect critic, 0 a constant one. nan where R does not vary."""
    target, error = returns[mask], (returns - values)[mask]
    if target.numel() < 2 or float(target.var()) == 0.0:
        return float("nan")
    return float(1 - error.var() / target.var())
