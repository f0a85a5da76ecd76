"""The in-process engine: batched decoding with the learner's own model, so new weights need no transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoreline.errors import ConfigError
from scoreline.models.decoder import make_decoder
from scoreline.models.device import lowered
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.sampling import draw, uniforms
from scoreline.types import Completion, Metrics, Request

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

    def facts(self) -> Metrics:
        """Nothing beside what the loop measures."""
        return {}

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests."""
        if not requests:
            return []
        with lowered(self.policy.model, self.policy.precision), self.policy.compute():
            flight = Flight(self.policy, requests, sampling, self.max_rows)
            try:
                flight.run()
            finally:
                flight.decoder.close()
        return flight.completions(self.version)


class Flight:
    """Answers from their prompts to their last token. Axis n: requests; axis m: answers in flight.

    An answer that ends leaves, and a request that waits takes its place: both when they are enough to be worth it.
    """

    def __init__(self, policy: Policy, requests: Sequence[Request], sampling: Sampling, max_rows: int) -> None:
        self.policy, self.requests, self.sampling, self.max_rows = policy, requests, sampling, max_rows
        n, budget, device = len(requests), sampling.max_completion_length, policy.device
        streams = np.stack([uniforms(request.stream, budget) for request in requests])
        self.uniform = torch.from_numpy(streams.astype(np.float32)).to(device)
        self.tokens = torch.zeros(n, budget, dtype=torch.long, device=device)
        self.logps = torch.zeros(n, budget, device=device)
        self.length = torch.zeros(n, dtype=torch.long, device=device)
        self.stopped = torch.zeros(n, dtype=torch.bool, device=device)
        self.ends = torch.tensor(policy.text.eos_ids, dtype=torch.long, device=device)
        self.alive = torch.zeros(0, dtype=torch.long, device=device)
        self.entered = 0
        self.decoder = make_decoder(policy, budget, max(len(request.prompt_ids) for request in requests))

    def run(self) -> None:
        """Draw, note, let what has ended leave, step, let what waits enter; until nothing is in flight."""
        self._enter()
        going = torch.ones_like(self.alive, dtype=torch.bool)  # [m] whether an answer in flight goes on
        while len(self.alive):
            token, going = self._leave(self._draw(going), going)
            if len(self.alive):
                self.decoder.step(token)
            going = torch.cat([going, going.new_ones(self._enter())])

    def completions(self, version: int) -> list[Completion]:
        """The answers as token ids, cut where they ended."""
        lengths, stopped = self.length.tolist(), self.stopped.tolist()
        tokens, logps = self.tokens.tolist(), self.logps.tolist()
        return [
            Completion(tuple(ids[:n]), tuple(logp[:n]), "stop" if ended else "length", version)
            for ids, logp, n, ended in zip(tokens, logps, lengths, stopped, strict=True)
        ]

    def _draw(self, going: Tensor) -> Tensor:
        """One token an answer in flight, noted where the answer goes on; `going` is false from its last one on."""
        rows = self.alive
        t = self.length[rows].clamp(max=self.sampling.max_completion_length - 1)
        token, logp = draw(self.decoder.logits, self.uniform[rows, t], self.sampling)
        on, at = rows[going], t[going]
        self.tokens[on, at], self.logps[on, at] = token[going], logp[going]
        self.length[on] = at + 1
        self.stopped[rows] |= going & self._ending(token, t)
        going &= ~self.stopped[rows] & (self.length[rows] < self.sampling.max_completion_length)
        return token

    def _ending(self, token: Tensor, t: Tensor) -> Tensor:
        ending = torch.isin(token, self.ends)
        return ending | self._at_stop_string(t) if self.sampling.stop else ending

    def _at_stop_string(self, t: Tensor) -> Tensor:
        # A token holds at least one byte, so a stop string of b bytes lies inside the last b tokens.
        reach = max(len(stop.encode()) for stop in self.sampling.stop)
        recent = [
            ids[max(0, end + 1 - reach) : end + 1]
            for ids, end in zip(self.tokens[self.alive].tolist(), t.tolist(), strict=True)
        ]
        texts = [self.policy.text.decode(ids) for ids in recent]
        found = [any(stop in text for stop in self.sampling.stop) for text in texts]
        return torch.tensor(found, device=self.tokens.device)

    def _leave(self, token: Tensor, going: Tensor) -> tuple[Tensor, Tensor]:
        ended = len(going) - int(going.sum())
        if not ended or (ended < DROP_SHARE * len(going)):
            return token, going
        left = going.nonzero().squeeze(1)
        self.alive = self.alive[left]
        self.decoder.pick(left)
        return token[left], going[left]

    def _enter(self) -> int:
        """How many waiting requests took a free place."""
        room, waiting = self.max_rows - len(self.alive), len(self.requests) - self.entered
        if not waiting or not self.decoder.open or room < min(waiting, DROP_SHARE * self.max_rows):
            return 0
        count = min(room, waiting)
        self.decoder.admit([request.prompt_ids for request in self.requests[self.entered : self.entered + count]])
        entering = torch.arange(self.entered, self.entered + count, device=self.alive.device)
        self.alive, self.entered = torch.cat([self.alive, entering]), self.entered + count
        return count
