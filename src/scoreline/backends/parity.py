"""Whether an engine samples from the learner's policy:  |log pi_old(o_t) - log pi_sampler(o_t)|  on its own answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scoreline.models.policy import Policy
from scoreline.train.collate import collate
from scoreline.types import Completion, Prompt, Request, Reward, Rollout


@dataclass(frozen=True)
class Gap:
    """Mean and maximum of |log pi_old - log pi_sampler| in nats, over so many tokens."""

    mean: float
    max: float
    tokens: int

    def __str__(self) -> str:
        return f"{self.mean:.2g} nats on average and {self.max:.2g} at most, over {self.tokens} tokens"

    def within(self, mean: float, most: float) -> bool:
        """Whether both are at most these; what is not a number is not."""
        return self.mean <= mean and self.max <= most


@torch.no_grad()
def gap(policy: Policy, requests: Sequence[Request], answers: Sequence[Completion], temperature: float) -> Gap:
    """The learner scores an engine's answers at the temperature they were sampled at."""
    numbers = {ids: number for number, ids in enumerate(dict.fromkeys(request.prompt_ids for request in requests))}
    rows = [
        Rollout(Prompt("probe", ""), request.prompt_ids, answer, "", Reward(None), numbers[request.prompt_ids])
        for request, answer in zip(requests, answers, strict=True)
    ]
    batch = collate(rows, device=policy.device)
    with policy.compute():
        logp = policy.logprobs(policy.states(batch), batch, temperature=temperature)[0]
    difference = (logp - batch.logp_sampler).abs()[batch.mask]
    return Gap(float(difference.mean()), float(difference.max()), difference.numel())
