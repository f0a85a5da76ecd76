"""A stream of weights through a cluster: all learners and all workers at the same time.

learner 1 --gathers--> learner 0 --broadcast--> worker 0, worker 1, ...
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scoreline.backends.cluster.gang import GangLearner
from scoreline.backends.transfer import Seat

SHARE = 1 / 3
"""Of `runtime.timeout`: what a group waits for a partner, when it is formed and at each weight. So the learners notice
the loss of a worker before somebody takes them for lost."""
MOST = 3
"""Streams in a row that may be lost; then all weights go through the object store."""


@dataclass
class Channel:
    """The group of the first learner and all workers. It is formed anew where one of its processes is another."""

    gang: GangLearner
    backend: str
    precision: str
    timeout: float
    members: Sequence[Any] = ()
    seat: Seat | None = field(default=None, init=False)
    groups: int = field(default=0, init=False)
    lost: int = field(default=0, init=False)

    @property
    def works(self) -> bool:
        """Whether another stream is worth trying."""
        return self.lost < MOST

    def seats(self, members: Sequence[Any]) -> list[Seat]:
        """A place for each of these workers, in the order of the workers."""
        if self.seat is not None:  # all that flowed through this group came whole
            self.lost = 0
        if self.seat is None or self.members != members:
            self.groups += 1
            self.members, world = list(members), 1 + len(members)
            patience = SHARE * self.timeout
            self.seat = Seat(self.gang.meeting(), self.groups, 0, world, patience, self.backend, self.precision)
        return [self.seat.at(number) for number in range(1, self.seat.world)]

    def send(self) -> bool:
        """The learner's weights to all who have a seat and are receiving; whether all went well here."""
        assert self.seat is not None
        why = self.gang.send(self.seat)
        if why:
            self.broke(why)
        return not why

    def broke(self, why: str) -> None:
        """A stream was lost, and its group with it: noted once, whoever says it first."""
        if self.seat is None:
            return
        self.seat, self.lost = None, self.lost + 1
        rest = "" if self.works else f" So do all from here on: {MOST} streams in a row were lost."
        warnings.warn(f"weights go through the object store, a stream was lost: {why}.{rest}", stacklevel=2)

    def describe(self) -> str:
        """How weights travel."""
        way = f"vLLM's weight transfer ({self.backend}), {self.precision}"
        return way if self.works else f"the object store, after {MOST} lost streams of {way}"
