"""The in-process engine: batched decoding with the learner's own model, so new weights need no transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoreline.errors import ConfigError
from scoreline.models.decoder import Decoder
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.sampling import draw, uniforms
from scoreline.types import Completion, Request

DROP_SHARE = 0.25
"""Ended answers leave the batch when they are this share of it: leaving copies the keys and values of the others."""


@dataclass(frozen=True)
class Local:
    """Sample with the learner's own model in this process; `rows` answers are in flight at once."""

    rows: int = 256

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError("engine.rows is a count.", got=self.rows, accepted="at least 1")


class LocalEngine:
    """Samples from a policy in this process. Requests with the same prompt next to one another share its computation.

    At most `max_rows` answers are in flight at once; the rest wait. The same requests in the same order are always
    computed together, so a run that is repeated gives the same numbers.
    """

    def __init__(self, policy: Policy, *, max_rows: int = 256) -> None:
        self.policy = policy
        self.max_rows = max_rows
        self.version = 0

    def load(self, version: int) -> None:
        """The model is the learner's: only the number changes."""
        self.version = version

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests."""
        done: list[Completion] = []
        with self.policy.compute():  # one context for all tokens: bf16 copies of the weights are made once
            for start in range(0, len(requests), self.max_rows):
                unit = Flight(self.policy, requests[start : start + self.max_rows], sampling)
                unit.run()
                done += unit.completions(self.version)
        return done


class Flight:
    """One batch of answers from its prompts to its last token. Axis n: requests; axis m: answers still in flight."""

    def __init__(self, policy: Policy, requests: Sequence[Request], sampling: Sampling) -> None:
        self.policy, self.sampling = policy, sampling
        n, budget, device = len(requests), sampling.max_completion_length, policy.device
        streams = np.stack([uniforms(request.stream, budget) for request in requests])
        self.uniform = torch.from_numpy(streams.astype(np.float32)).to(device)
        self.tokens = torch.zeros(n, budget, dtype=torch.long, device=device)
        self.logps = torch.zeros(n, budget, device=device)
        self.length = torch.full((n,), budget, device=device)
        self.ended = torch.zeros(n, dtype=torch.bool, device=device)
        self.ends = torch.tensor(policy.text.eos_ids, dtype=torch.long, device=device)
        self.alive = torch.arange(n, device=device)
        prompts = list(dict.fromkeys(request.prompt_ids for request in requests))
        place = {prompt: i for i, prompt in enumerate(prompts)}
        self.decoder = Decoder(policy, prompts, budget=budget)
        self.decoder.pick(torch.tensor([place[request.prompt_ids] for request in requests], device=device))

    def run(self) -> None:
        """Draw, note, drop what has ended, step; until nothing is in flight or the budget is spent."""
        budget = self.sampling.max_completion_length
        for t in range(budget):
            token, logp = draw(self.decoder.logits, self.uniform[self.alive, t], self.sampling)
            self.tokens[self.alive, t], self.logps[self.alive, t] = token, logp
            ending = self._ending(token, t) & ~self.ended[self.alive]
            self.length[self.alive[ending]] = t + 1
            self.ended[self.alive[ending]] = True
            token = self._drop_ended(token)
            if not len(self.alive) or t + 1 == budget:
                return
            self.decoder.step(token)

    def completions(self, version: int) -> list[Completion]:
        """The answers as token ids, cut where they ended."""
        lengths, ended = self.length.tolist(), self.ended.tolist()
        tokens, logps = self.tokens.tolist(), self.logps.tolist()
        return [
            Completion(tuple(ids[:n]), tuple(logp[:n]), "stop" if stopped else "length", version)
            for ids, logp, n, stopped in zip(tokens, logps, lengths, ended, strict=True)
        ]

    def _ending(self, token: Tensor, t: int) -> Tensor:
        ending = torch.isin(token, self.ends)
        if self.sampling.stop:
            ending = ending | self._at_stop_string(t)
        return ending

    def _at_stop_string(self, t: int) -> Tensor:
        # A token holds at least one byte, so a stop string of b bytes lies inside the last b tokens.
        reach = max(len(stop.encode()) for stop in self.sampling.stop)
        recent = self.tokens[self.alive, max(0, t + 1 - reach) : t + 1].tolist()
        texts = [self.policy.text.decode(ids) for ids in recent]
        found = [any(stop in text for stop in self.sampling.stop) for text in texts]
        return torch.tensor(found, device=self.tokens.device)

    def _drop_ended(self, token: Tensor) -> Tensor:
        ended = self.ended[self.alive]
        count = int(ended.sum())
        if count == len(ended):
            self.alive = self.alive[:0]
        elif count >= DROP_SHARE * len(ended):
            left = (~ended).nonzero().squeeze(1)
            self.alive, token = self.alive[left], token[left]
            self.decoder.pick(left)
        return token
