"""A rollout worker, as a process: an engine with weights that are sent to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from scoreline.backends.cluster.process import Setting, telling, versions
from scoreline.backends.transfer import WeightTransfer
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Engine, Sampling
from scoreline.types import Completion, Request

MakeEngine = Callable[[], tuple[Policy, Engine]]


@telling
class Worker:
    """Samples units of requests with the weights it was last given."""

    def __init__(self, make: MakeEngine, transfer: WeightTransfer, setting: Setting) -> None:
        self.make, self.transfer = make, transfer
        setting.enter()

    def whereabouts(self) -> tuple[int, dict[str, str]]:
        """Process and versions, once the model is loaded: an error of a constructor would lose its kind on the way."""
        self.policy, self.engine = self.make()
        return os.getpid(), versions()

    def load(self, version: int, sent: Any) -> None:
        """Go on with these weights."""
        self.transfer.received(sent, self.policy)
        self.engine.load(version)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> tuple[list[Completion], float]:
        """One completion a request, and the seconds that it took."""
        started = time.perf_counter()
        return self.engine.generate(requests, sampling), time.perf_counter() - started
