"""The in-process engine: batched decoding with the learner's own model, so new weights need no transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from scoreline.errors import ConfigError
from scoreline.models.decoder import make_decoder
from scoreline.models.device import lowered
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Arrivals, Sampling
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
    computed together, so a run that is repeated gives the same numbers. Where there are `arrivals`, new weights are
    taken between two tokens; the keys and values of the tokens before stay.
    """

    def __init__(self, policy: Policy, *, max_rows: int = 256) -> None:
        self.policy = policy
        self.max_rows = max_rows
        self.version = 0
        self.arrivals: Arrivals | None = None

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
        with self.policy.compute():
            flight = Flight(self.policy, requests, sampling, self.max_rows, self.version)
        try:
            while not self._flown(flight):
                self._renew(flight)
        finally:
            flight.decoder.close()
        return flight.completions()

    def _flown(self, flight: Flight) -> bool:
        """Whether all answers ended before other weights came in."""
        with lowered(self.policy.model, self.policy.precision), self.policy.compute():
            return flight.run(never if self.arrivals is None else self.arrivals.waiting)

    def _renew(self, flight: Flight) -> None:
        """Outside of what holds copies of the weights in another type."""
        assert self.arrivals is not None
        self.version = self.arrivals.take()
        flight.renew(self.version)


def never() -> bool:
    """Nothing comes in."""
    return False


class Flight:
    """Answers from their prompts to their last token. Axis n: requests; axis m: answers in flight.

    An answer that ends leaves, and a request that waits takes its place: both when they are enough to be worth it.
    """

    def __init__(
        self, policy: Policy, requests: Sequence[Request], sampling: Sampling, max_rows: int, version: int
    ) -> None:
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
        self.token = self.alive  # [m] what was drawn last
        self.going = torch.zeros(0, dtype=torch.bool, device=device)  # [m] whether an answer in flight goes on
        self.entered = 0
        self.weights = [(version, self.length.clone())]  # versions, and how long each answer was when they came
        self.decoder = make_decoder(policy, budget, max(len(request.prompt_ids) for request in requests))

    def run(self, interrupted: Callable[[], bool]) -> bool:
        """Step, let what waits enter, draw, note, let what has ended leave; whether nothing is in flight any more.

        Where it is interrupted, what was drawn is not stepped on with: the next logits are those of other weights.
        """
        while True:
            if len(self.alive):
                self.decoder.step(self.token)
            self.going = torch.cat([self.going, self.going.new_ones(self._enter())])
            if not len(self.alive):
                return True
            self.token, self.going = self._leave(self._draw(self.going), self.going)
            if interrupted():
                return False

    def renew(self, version: int) -> None:
        """From the next token on the weights are others."""
        self.weights.append((version, self.length.clone()))
        self.decoder.renew()

    def completions(self) -> list[Completion]:
        """The answers as token ids, cut where they ended, with the versions of the weights that sampled them."""
        lengths, stopped = self.length.tolist(), self.stopped.tolist()
        tokens, logps = self.tokens.tolist(), self.logps.tolist()
        return [
            Completion(tuple(ids[:n]), tuple(logp[:n]), "stop" if ended else "length", *sampled_by)
            for ids, logp, n, ended, sampled_by in zip(tokens, logps, lengths, stopped, self._versions(), strict=True)
        ]

    def _versions(self) -> list[tuple[int, tuple[int, ...]]]:
        """The oldest version of each answer; that of each token where there are several."""
        if len(self.weights) == 1:
            return [(self.weights[0][0], ())] * len(self.requests)
        starts = [*(length.tolist() for _, length in self.weights), self.length.tolist()]
        added = [[after - before for before, after in zip(*ends, strict=True)] for ends in pairwise(starts)]
        each = [
            tuple(version for (version, _), count in zip(self.weights, told, strict=True) for _ in range(count))
            for told in zip(*added, strict=True)
        ]
        return [(versions[0], versions if versions[0] != versions[-1] else ()) for versions in each]

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
