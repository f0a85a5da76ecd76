"""What a token was told: the coefficient of its own grad log pi, for any objective.

grad J = sum_it w_it GC_it grad log pi(o_it),  so  GC_it = -(1 / w_it) dL / d log pi(o_it)   (2402.03300, appendix A.1)

J = -L is what the update climbs. GC comes from differentiating the objective's own loss at a leaf of log-probabilities,
and so holds for parts of anybody's. Written out:

| part | its share of GC |
|---|---|
| `LogProb` | A |
| `Clip` | rho A, or 0 where the clip (or the dual clip) holds |
| `TruncatedImportance` | c times that |
| KL in the loss, k3 | beta (pi_ref / pi - 1) |
| KL in the loss, k2 or k3_unbiased | -beta (log pi - log pi_ref) |
| KL in the reward | none of its own: it is in A |

The critic's loss and the entropy bonus move weights too, but not along grad log pi(o_it): `outside` names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreline.objectives.divergences import divergence
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.types import Batch


@dataclass(frozen=True)
class Coefficients:
    """GC_it = `policy` + `kl`, and what it comes from; zero outside the policy's own tokens. All [n, t].

    `ratio` is rho = pi / pi_old. `clipped` says where the surrogate has no gradient although A is not zero.
    `divergence` is the estimator's value, without beta, in nats: at pi where the KL is in the loss, at pi_old where it
    was charged to the reward; None without a KL. `losses` are the weighted sums of the policy's and the KL's part.
    """

    ratio: Float[Tensor, "n t"]
    clipped: Bool[Tensor, "n t"]
    divergence: Float[Tensor, "n t"] | None
    policy: Float[Tensor, "n t"]
    kl: Float[Tensor, "n t"]
    weights: Float[Tensor, "n t"]
    losses: Mapping[str, float]

    @property
    def total(self) -> Float[Tensor, "n t"]:
        """GC_it."""
        return self.policy + self.kl

    @property
    def weighted(self) -> Float[Tensor, "n t"]:
        """w_it GC_it: what the update adds up."""
        return self.weights * self.total


def coefficients(objective: Objective, batch: Batch, beta: float | None = None) -> Coefficients:
    """GC at the batch's `logp`, under its `advantages` and `weights`. `beta` replaces the KL's own.

    Without `logp_old` the batch was used once, and pi_old is pi.
    """
    assert batch.logp is not None
    assert batch.weights is not None
    assert batch.advantages is not None
    with torch.enable_grad():
        leaf = batch.logp.detach().clone().requires_grad_()
        loss = objective.loss(batch, PolicyOutput(leaf, torch.zeros_like(leaf), batch.values), beta)
        share = {name: _share(loss.parts.get(name), leaf, batch.weights) for name in ("policy", "kl")}
    old = batch.logp if batch.logp_old is None else batch.logp_old
    return Coefficients(
        ratio=(batch.logp - old).exp() * batch.mask,
        clipped=batch.mask & (batch.advantages != 0) & (share["policy"] == 0),
        divergence=_divergence(objective, batch),
        policy=share["policy"],
        kl=share["kl"],
        weights=batch.weights,
        losses={name: float(part.detach()) for name, part in loss.parts.items() if name in share},
    )


def outside(objective: Objective) -> tuple[str, ...]:
    """The parts of the loss whose gradient is not of the form GC grad log pi(o)."""
    known = {"value": objective.value, "entropy": objective.entropy}
    return tuple(name for name, part in known.items() if part is not None)


@dataclass(frozen=True)
class Alignment:
    """Of two directions: cos = <a, b> / (|a| |b|), nan where one of them is zero, and the norms |a| and |b|."""

    cosine: float
    norm: float
    other: float


def alignment(a: Tensor, b: Tensor) -> Alignment:
    """How alike two directions are, summed in double precision."""
    first, second = a.detach().double().flatten(), b.detach().double().flatten()
    norms = float(first.norm()), float(second.norm())
    cosine = float(first @ second) / (norms[0] * norms[1]) if all(norms) else float("nan")
    return Alignment(cosine, *norms)


def _share(part: Tensor | None, leaf: Tensor, weights: Tensor) -> Tensor:
    """-(1 / w) d part / d log pi; zero where nothing weighs or there is no such part."""
    if part is None:
        return torch.zeros_like(weights)
    (slope,) = torch.autograd.grad(part, leaf, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.where(weights != 0, -slope / weights.where(weights != 0, 1.0), 0.0)


def _divergence(objective: Objective, batch: Batch) -> Tensor | None:
    """The KL estimator's value on each own token, where the objective looks at it."""
    kl = objective.kl
    if kl is None or batch.logp_ref is None or batch.logp is None:
        return None
    at = batch.logp_old if kl.into == "reward" and batch.logp_old is not None else batch.logp
    return divergence(at, batch.logp_ref, kl.estimator) * batch.mask
