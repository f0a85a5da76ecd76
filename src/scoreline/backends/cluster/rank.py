"""One rank of the learner gang, as a process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from scoreline.backends.cluster.parcel import Array, Parcel, own_tokens, said, unpacked
from scoreline.backends.cluster.process import Setting, telling, versions
from scoreline.backends.fsdp import join
from scoreline.backends.stream import LOST, Streamed, prepare
from scoreline.backends.transfer import Seat, Source, WholeTensors
from scoreline.models.device import choose_device
from scoreline.models.outline import Outline, outline
from scoreline.train.checkpoint import writing
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.ranks import ALONE, Ranks
from scoreline.types import Metrics

MakeLearner = Callable[[Ranks, int], LocalLearner]
"""From the ranks, as this one sees them, and how many are on its node."""


@telling
class Rank:
    """A learner that is one of `world`. It does what it is told, when all the others are told the same."""

    def __init__(self, make: MakeLearner, transfer: WholeTensors, rank: int, world: int, setting: Setting) -> None:
        self.make, self.transfer, self.rank, self.world = make, transfer, rank, world
        self.device = setting.device
        self.stream = Streamed()
        setting.enter()

    def meeting(self) -> str:
        """Where the ranks find one another: a free port of this node."""
        with socket.socket() as free:
            free.bind((address(), 0))
            return f"{address()}:{free.getsockname()[1]}"

    def build(self, meeting: str, timeout: float, learners: int) -> tuple[Outline, int]:
        """Meet the others and load the models; what the policy is like, and how many parameters learn. This node has
        so many `learners`.
        """
        device = choose_device(self.device)
        ranks = ALONE if self.world == 1 else join(self.rank, self.world, meeting, device, timeout)
        self.learner = self.make(ranks, learners)
        return outline(self.learner.policy), self.learner.parameters

    def whereabouts(self) -> tuple[str, int, dict[str, str]]:
        """Node, process and versions."""
        ray: Any = import_module("ray")
        return str(ray.get_runtime_context().get_node_id()), os.getpid(), versions()

    def shares(self, file: str, text: str) -> bool:
        """Whether this file, which the controller wrote, is seen from here."""
        try:
            return Path(file).read_text(encoding="utf-8") == text
        except OSError:
            return False

    def annotate(self, rows: Parcel, passes: frozenset[str]) -> dict[str, Array]:
        """The learner's own."""
        return said(self.learner.annotate(unpacked(rows), passes))

    def update(self, rows: Parcel, told: Update) -> tuple[Metrics, Array]:
        """The learner's own."""
        batch = unpacked(rows)
        updated = self.learner.update(batch, told)
        return updated.metrics, own_tokens(updated.logp, batch.length)

    def refresh(self, mix: float) -> None:
        """The learner's own."""
        self.learner.refresh(mix)

    def save(self, folder: str) -> None:
        """Every rank writes its part."""
        with writing(Path(folder).parent):
            self.learner.save(Path(folder))

    def restore(self, folder: str) -> None:
        """Every rank reads its part."""
        self.learner.restore(Path(folder))

    def publish(self) -> Any:
        """The policy's weights, for whoever samples. All ranks gather them; the first one hands them out."""
        sent = self.transfer.sent(self.learner.whole_weights())
        return sent if self.rank == 0 else None

    def prepare(self, backend: str) -> None:
        """Make ready to stream by this backend."""
        prepare(backend)

    def send(self, seat: Seat) -> str:
        """The policy's weights to whoever sits in this group; why not, where they were lost. All ranks gather them to
        the last one, come what may: the first one sends them.
        """
        weights = Source(self.learner, seat.precision)
        try:
            if self.rank == 0:
                self.stream.sit(seat)
                self.stream.sent(weights)
        except LOST as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0].split('. ')[0]}"
        finally:
            weights.exhaust()
        return ""


def address() -> str:
    """Of this node, as Ray knows it."""
    ray: Any = import_module("ray")
    return str(ray.util.get_node_ip_address())
