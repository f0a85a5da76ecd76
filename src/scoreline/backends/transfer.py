"""How weights get from the learner to those that sample. A version counts the learner's steps.

    store     W_v  --sent-->  arrays, in the object store  --received-->  W_v      each worker when it has the time
    stream    W_v  --sent-->  a group of processes         --received-->  W_v      all workers at the same time

Through the store goes what learns: all weights of a model, or A and B of an adapter. Through a stream goes what the
sampler takes: the weights of the model that it runs, in its own precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from scoreline.models.policy import Policy
from scoreline.train.learner import LocalLearner

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GLOO, NCCL = "scoreline-gloo", "nccl"
"""What moves the bytes of a stream, by its name among vLLM's engines: the first is ours, the second vLLM's own."""
Given = TypeVar("Given", contravariant=True)
Taker = TypeVar("Taker", contravariant=True)


class WeightTransfer(Protocol[Given, Taker]):
    """Two ends of one way, one version at a time: what the learner gives there, and what takes it in at a worker."""

    def sent(self, weights: Given) -> Any:
        """At the learner, on every rank: what is handed to the workers beside what has gone its way already."""
        ...

    def received(self, sent: Any, taker: Taker) -> None:
        """At a worker: it has the weights that were sent."""
        ...


class WholeTensors:
    """Whole fp32 tensors through Ray's object store: once to each node, and from its shared memory to every process."""

    def sent(self, weights: Iterable[tuple[str, Tensor]]) -> Arrays:
        """Arrays by name, in memory of their own."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in weights}

    @torch.no_grad()
    def received(self, sent: Mapping[str, Any], taker: Policy) -> None:
        """Copied into the policy's weights. A name that one side lacks is a `KeyError`: it must be the same model."""
        own = taker.weights()
        if sent.keys() != own.keys():
            raise KeyError(f"other weights than the policy's: {sorted(sent.keys() ^ own.keys())[:4]}")
        for name, weight in own.items():
            weight.copy_(torch.from_numpy(sent[name]))


@dataclass(frozen=True)
class Seat:
    """A place in the group that a stream flows through: `number` 0 sends, 1 to `world` - 1 receive.

    `meeting` is the address where the sender listens while the group is formed; `group` tells one from the next. What
    nobody takes part in for `patience` seconds is given up. `backend` is what moves the bytes.
    """

    meeting: str
    group: int
    number: int
    world: int
    patience: float
    backend: str
    precision: str

    def at(self, number: int) -> Seat:
        """Another place in the same group."""
        return replace(self, number=number)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.meeting.rpartition(":")
        return host, int(port)


class Described(NamedTuple):
    """A weight before it is there."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """`float32`, `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")


def described(policy: Policy, precision: str) -> list[Described]:
    """All weights as a sampler takes them, in order. Both ends of a stream find the same; nothing is gathered, and no
    adapter added in.
    """
    return [Described(name, DTYPES[precision], shape) for name, shape in policy.merged_shapes()]


class Source:
    """A learner's weights for one stream. Gathering them takes all ranks: whatever becomes of the stream, every rank
    goes through all of them (`exhaust`).
    """

    def __init__(self, learner: LocalLearner, precision: str) -> None:
        self.learner, self.precision = learner, precision
        self.weights = learner.merged_weights(DTYPES[precision])

    def metadata(self) -> list[Described]:
        """What iteration will yield."""
        return described(self.learner.policy, self.precision)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return self.weights

    def exhaust(self) -> None:
        """Gather what is left, for the other ranks' sake."""
        for _ in self.weights:
            pass
