"""A pair of engines for vLLM's transfer of weights that moves the bytes by gloo, where there is no GPU.

Imported by vLLM when such an engine is made (`stream.register`), and only then: it is made of vLLM's classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import BroadcastOptions
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from scoreline.backends.fsdp import meet, own_address
from scoreline.backends.transfer import GLOO


class Group:
    """Processes that listen to number 0. What one does not take part in for `patience` seconds raises; so does what
    a dead one should take part in. It listens on the address by which number 0 is reached, and on no other.
    """

    def __init__(self, meeting: str, number: int, world: int, patience: float) -> None:
        limit = timedelta(seconds=patience)
        self.store = meet(number, world, meeting, limit)
        kind: Any = dist.ProcessGroupGloo
        options = kind._Options()
        options._timeout = limit
        options._devices = [kind.create_device(hostname=own_address(meeting.rpartition(":")[0]))]
        self.gloo = kind(self.store, number, world, options)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Number 0's, everywhere."""
        self.gloo.broadcast([tensor], BroadcastOptions()).wait()
        return tensor


@dataclass
class Receiving(WeightTransferInitInfo):  # type: ignore[misc]
    """A worker's place in a group."""

    meeting: str
    number: int
    world: int
    patience: float


@dataclass
class Coming(WeightTransferUpdateInfo):  # type: ignore[misc]
    """The weights of a round, in order."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


class Receiver(WeightTransferEngine):  # type: ignore[misc]
    """A worker's end: each weight is loaded as it comes, by the model's own loader."""

    init_info_cls, update_info_cls = Receiving, Coming
    group: Group | None = None

    def init_transfer_engine(self, init_info: Receiving) -> None:
        """Join the group, together with all others."""
        self.shutdown()
        self.group = Group(init_info.meeting, init_info.number, init_info.world, init_info.patience)

    def start_weight_update(self) -> None:
        """Layers wait for their weights."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """As in vLLM's own engines, which wait for an accelerator afterwards; a CPU has none to wait for."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: Coming) -> None:
        """Whatever the sender broadcasts."""
        self.model.load_weights(self._coming(update_info))

    def finish_weight_update(self) -> None:
        """Layers make of their weights what they compute with."""
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Leave the group: its connections are closed."""
        self.group = None

    def _coming(self, told: Coming) -> Iterator[tuple[str, Tensor]]:
        assert self.group is not None
        for name, kind, shape in zip(told.names, told.dtype_names, told.shapes, strict=True):
            yield name, self.group.broadcast(torch.empty(shape, dtype=getattr(torch, kind)))


@dataclass
class Sending(TrainerInitInfo):  # type: ignore[misc]
    """The first learner's place in a group."""

    backend: ClassVar[str] = GLOO

    meeting: str
    world: int
    patience: float


class Sender(TrainerWeightTransferEngine):  # type: ignore[misc]
    """The first learner's end: one broadcast a weight, when it has been gathered."""

    init_info_cls = Sending
    group: Group | None = None

    @classmethod
    def trainer_init(cls, init_info: Sending, *, client: Any, source: Any = None) -> Sender:
        """Serve the meeting, and wait for all workers there."""
        made = cls(client=client, source=source)
        made.group = Group(init_info.meeting, 0, init_info.world, init_info.patience)
        return made

    def send_weights(self) -> None:
        """Everything that the source has. The client tells nobody (`stream.Told`): the workers are there already."""
        assert self.group is not None
        for _, weight in self.source:
            self.group.broadcast(weight.contiguous())

    def shutdown(self) -> None:
        """Leave the group: its connections are closed."""
        self.group = None
