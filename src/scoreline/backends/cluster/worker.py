"""A rollout worker, as a process: an engine with weights that are sent to it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from scoreline.backends.cluster.process import Setting, telling, versions
from scoreline.backends.stream import LOST
from scoreline.backends.transfer import Seat, WholeTensors
from scoreline.backends.vllm import VllmEngine
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Completion, Request

MakeEngine = Callable[[], tuple[Policy, LocalEngine | VllmEngine]]


class Inbox:
    """Weights on their way into a policy: the newest that came, until they are taken. One thread puts, another takes.

    Calls of two threads may overtake one another: what is not newer than all that came before is passed over.
    """

    def __init__(self, transfer: WholeTensors, policy: Policy) -> None:
        self.transfer, self.policy, self.newest = transfer, policy, -1
        self.mail: tuple[int, Any] | None = None
        self.lock = Lock()

    def put(self, version: int, sent: Any) -> None:
        """What came before it and was not taken is forgotten."""
        with self.lock:
            if version > self.newest:
                self.newest, self.mail = version, (version, sent)

    def waiting(self) -> bool:
        """Whether there is something to take."""
        return self.mail is not None

    def take(self) -> int:
        """The policy has the weights now; their version."""
        with self.lock:
            assert self.mail is not None
            (version, sent), self.mail = self.mail, None
        self.transfer.received(sent, self.policy)
        return version


@telling
class Worker:
    """Samples units of requests with the weights it was last given."""

    def __init__(self, make: MakeEngine, transfer: WholeTensors, setting: Setting) -> None:
        self.make, self.transfer = make, transfer
        setting.enter()

    def whereabouts(self) -> tuple[int, dict[str, str]]:
        """Process and versions, once the model is loaded: an error of a constructor would lose its kind on the way."""
        self.policy, self.engine = self.make()
        self.inbox = Inbox(self.transfer, self.policy)
        self.engine.arrivals = self.inbox
        return os.getpid(), versions()

    def load(self, version: int, sent: Any) -> None:
        """Go on with these weights, unless they came while answers were in flight."""
        self.inbox.put(version, sent)
        if self.inbox.waiting():
            self.engine.load(self.inbox.take())

    def receive(self, version: int, seat: Seat) -> bool:
        """Go on with the weights that the learners send now; false where they did not come whole."""
        assert isinstance(self.engine, VllmEngine)
        try:
            self.engine.receive(version, seat)
        except LOST:
            traceback.print_exc()
            return False
        return True

    def offer(self, version: int, sent: Any) -> None:
        """Weights for whoever samples now: called in a thread of its own, taken between two tokens."""
        self.inbox.put(version, sent)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> tuple[list[Completion], float]:
        """One completion a request, and the seconds that it took."""
        started = time.perf_counter()
        return self.engine.generate(requests, sampling), time.perf_counter() - started
