"""The direction in which a batch moves the weights: sum_it c_it grad log pi_theta(o_it)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scoreline.models.footprint import footprint
from scoreline.models.policy import Policy
from scoreline.train.collate import trim
from scoreline.train.portions import Models, Portions
from scoreline.train.sums import clear
from scoreline.types import Batch


def direction(
    policy: Policy, batch: Batch, amounts: Float[Tensor, "n t"], *, temperature: float
) -> Float[Tensor, " weights"]:
    """sum_it c_it grad log pi(o_it) with respect to all that learns in `policy`, one after the other.

    With c = w GC it is grad J, before gradient clipping and the optimiser's own scaling. `grad` of the weights is
    overwritten.
    """
    models = Models((footprint(policy.model, policy.precision),), lambda: 0)
    portions = Portions("auto", packed=policy.packs, device=policy.device, models=models)
    weights = list(policy.weights().values())

    def climb() -> Tensor:
        clear(weights)
        with policy.compute():
            for rows in portions.cut(batch):
                micro = trim(batch.rows(rows))
                logp = policy.logprobs(policy.states(micro), micro, temperature=temperature)[0]
                (amounts[rows, : logp.shape[1]] * logp).sum().backward()
        return torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])

    return portions.retried(climb, batch)
