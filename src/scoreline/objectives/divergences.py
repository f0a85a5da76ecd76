"""Distance to the reference model, and the entropy bonus.

Estimators of KL(pi || pi_ref) from one sampled token, x = log pi(o) - log pi_ref(o):

| name | value | its gradient in a loss, on policy |
|---|---|---|
| k1 | x | zero on average, as grad log pi has mean zero: right in the reward, refused in the loss |
| k2 | x^2 / 2 | x grad log pi: the gradient of KL(pi || pi_ref) |
| k3 | exp(-x) - 1 + x | (1 - pi_ref/pi) grad log pi: the gradient of KL(pi_ref || pi); DeepSeekMath's choice |
| k3_unbiased | k3's value | k2's gradient: the gradient of KL(pi || pi_ref) |

Values: Schulman 2020, "Approximating KL divergence". In the reward, k1 gives the gradient of KL(pi || pi_ref).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

Estimator = Literal["k1", "k2", "k3", "k3_unbiased"]


def divergence(
    logp: Float[Tensor, "n t"], logp_ref: Float[Tensor, "n t"], estimator: Estimator
) -> Float[Tensor, "n t"]:
    """The estimator's value, with the gradient that the table above states. Nats, uncapped."""
    x = logp - logp_ref
    if estimator == "k1":
        return x
    k2 = x**2 / 2
    if estimator == "k2":
        return k2
    k3 = (-x).expm1() + x
    return k3 if estimator == "k3" else k3.detach() + k2 - k2.detach()


@dataclass(frozen=True)
class AdaptiveBeta:
    """beta <- beta (1 + clip(KL/target - 1, -clip, clip) n / horizon) after n answers (1909.08593, section 2.2)."""

    target: float = 0.1
    horizon: int = 10_000
    clip: float = 0.2

    formula: ClassVar[str] = "beta <- beta (1 + clip(KL/target - 1, -clip, clip) n / horizon)"
    source: ClassVar[str] = "Ziegler et al., arXiv 1909.08593, section 2.2"

    def next(self, beta: float, kl: float, n: int) -> float:
        """The coefficient after a step of `n` answers whose mean KL per answer-token was `kl`."""
        error = min(max(kl / self.target - 1, -self.clip), self.clip)
        return beta * (1 + error * n / self.horizon)


@dataclass(frozen=True)
class KL:
    """beta KL(pi || pi_ref), in the reward (r_t - beta KL_t, no gradient) or in the loss (+ beta KL_t).

    PPO as InstructGPT and DeepSeekMath (2402.03300, equation 2) write it: k1 in the reward. GRPO: k3 in the loss,
    beta 0.04 (2402.03300, equations 3 and 4). `adapt` moves beta towards a target.
    """

    beta: float = 0.04
    estimator: Estimator = "k3"
    into: Literal["reward", "loss"] = "loss"
    adapt: AdaptiveBeta | None = None

    formula: ClassVar[str] = "beta KL(pi || pi_ref)"
    source: ClassVar[str] = "DeepSeekMath, arXiv 2402.03300, equations 2 and 4; estimators: Schulman 2020"


@dataclass(frozen=True)
class EntropyBonus:
    """- c H(pi(.|q, o_<t)), nats: keeps the policy from settling too early (1707.06347, equation 9)."""

    coefficient: float = 0.01

    formula: ClassVar[str] = "-c H(pi_t)"
    source: ClassVar[str] = "PPO, arXiv 1707.06347, equation 9"
