"""What other libraries compute under a paper's name, as a visible difference from the paper.

Read from TRL 1.16.0, verl 0.9.1 and OpenRLHF 0.11.2 at their defaults. Use them to reproduce a run made elsewhere.
"""

from __future__ import annotations

from dataclasses import replace

from scoreline.objectives.aggregates import TokenMean
from scoreline.objectives.divergences import KL
from scoreline.objectives.groups import GroupNorm
from scoreline.objectives.objective import Objective
from scoreline.objectives.ratios import Clip
from scoreline.objectives.returns import GAE, ToGo, Whiten
from scoreline.objectives.values import LambdaReturn, ValueLoss
from scoreline.objectives.zoo import grpo, ppo

trl_grpo = replace(grpo, credit=(GroupNorm("sample", eps=1e-4), ToGo()), aggregate=TokenMean(), kl=None)
"""TRL 1.16: epsilon 1e-4, token mean (`loss_type="dapo"`), beta 0."""

verl_grpo = replace(grpo, surrogate=Clip(0.2, 0.2, dual=3.0), aggregate=TokenMean(), kl=None)
"""verl 0.9.1: dual clip with c = 3, token mean, no KL."""

openrlhf_grpo = replace(
    grpo,
    credit=(GroupNorm("sample", eps=1e-9), ToGo()),
    aggregate=TokenMean(),
    kl=KL(beta=0.01, estimator="k3", into="loss"),
)
"""OpenRLHF 0.11.2, `group_norm`: epsilon 1e-9, token mean, k3 in the loss at 0.01 (`--algo.kl.use_loss`)."""

verl_ppo = replace(
    ppo,
    credit=(GAE(1.0, 1.0), Whiten()),
    surrogate=Clip(0.2, 0.2, dual=3.0),
    kl=None,
    value=ValueLoss(clip=0.5, target=LambdaReturn(1.0, 1.0)),
)
"""verl 0.9.1: lambda 1, advantages whitened over the batch, dual clip with c = 3, values clipped at 0.5, no KL."""

DIALECTS: dict[str, Objective] = {
    "trl_grpo": trl_grpo,
    "verl_grpo": verl_grpo,
    "openrlhf_grpo": openrlhf_grpo,
    "verl_ppo": verl_ppo,
}
