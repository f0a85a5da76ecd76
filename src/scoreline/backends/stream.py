"""vLLM's own transfer of weights, from the first learner to all workers at once, without a copy in between.

    learner 0 --broadcast-->  worker 1, worker 2, ...       NCCL between GPUs; gloo, by `gloo.py`, between CPUs

vLLM has an engine for each end. What it calls a client, which tells the workers that something comes, is the controller
here: it calls both ends at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from scoreline.backends.transfer import GLOO, NCCL, Described, Seat, Source

LOST = (RuntimeError, OSError)
"""What torch, gloo and NCCL raise where a partner is gone or silent, and sockets where a meeting fails."""


class Streamed:
    """The end of streams in this process. All that have a seat in a group must form it at the same time."""

    def __init__(self) -> None:
        self.seat: Seat | None = None
        self.trainer: Any = None
        self.llm: Any = None

    def sit(self, seat: Seat) -> None:
        """From here on, this is its seat."""
        if seat != self.seat:
            self.close()
            self.seat = seat

    def sent(self, weights: Source) -> list[Described]:
        """Broadcast to all that sit in the group. Raises `LOST` where one of them is gone or silent."""
        with self._limited() as seat:
            if self.trainer is None:
                self.trainer = trainer(seat, weights)
            self.trainer.source = weights
            self.trainer.send_weights()
        return weights.metadata()

    def received(self, sent: Sequence[Described], taker: Any) -> None:
        """Into a vLLM's model. Raises `LOST` where they did not come whole: then some are new, and some are noise."""
        with self._limited() as seat:
            if self.llm is None:
                self.llm = taker
                taker.init_weight_transfer_engine({"init_info": place(seat)})
            taker.start_weight_update()
            try:
                taker.update_weights({"update_info": columns(sent)})
            except LOST:
                taker.collective_rpc(abandon)
                raise
            taker.finish_weight_update()

    def close(self) -> None:
        """Leave the group: whoever waits in it finds out."""
        if self.trainer is not None:
            self.trainer.shutdown()
        if self.llm is not None:
            self.llm.collective_rpc(leave)
        self.trainer = self.llm = self.seat = None

    @contextmanager
    def _limited(self) -> Iterator[Seat]:
        """Leaves the group where a partner was lost. NCCL waits for ever for one that is gone: after the seat's
        patience the group is left too, which ends that. Gloo has such a limit itself.
        """
        seat = self.seat
        assert seat is not None
        timer = threading.Timer(seat.patience, self.close)
        timer.daemon = True
        if seat.backend == NCCL:
            timer.start()
        try:
            yield seat
            if self.seat is None:
                raise RuntimeError(f"nobody took part for {seat.patience:g} s")
        except LOST:
            self.close()
            raise
        finally:
            timer.cancel()


class Told:
    """vLLM's client for a sender whose workers have been told already."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """They form the group now."""

    def start_weight_update(self) -> None:
        """They have begun."""

    def update_weights(self, update_info: Any) -> None:
        """They know what comes."""

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """They know when it is all."""


def trainer(seat: Seat, weights: Source) -> Any:
    """VLLM's engine for the sender, in its group."""
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

    host, port = seat.address
    told: Any
    if seat.backend == NCCL:
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        told = NCCLTrainerInitInfo(master_address=host, master_port=port, world_size=seat.world, rank=0)
    else:
        from scoreline.backends.gloo import Sending

        register()
        told = Sending(meeting=seat.meeting, world=seat.world, patience=seat.patience, rank=0)
    return WeightTransferTrainerFactory.trainer_init(told, client=Told(), source=weights)


def place(seat: Seat) -> dict[str, Any]:
    """What vLLM's engine for a worker is told. Each worker is a vLLM of its own: what vLLM counts from is its seat."""
    if seat.backend != NCCL:
        return {"meeting": seat.meeting, "number": seat.number, "world": seat.world, "patience": seat.patience}
    host, port = seat.address
    group = {"master_address": host, "master_port": port, "world_size": seat.world}
    return group | {"rank_offset": seat.number, "packed": True}


def columns(sent: Sequence[Described]) -> dict[str, list[Any]]:
    """The weights that come, as both engines want to be told of them."""
    return {
        "names": [one.name for one in sent],
        "dtype_names": [one.kind for one in sent],
        "shapes": [list(one.shape) for one in sent],
    }


def register() -> None:
    """Our pair of engines, under its name in vLLM's registries."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory

    for factory, name in ((WeightTransferEngineFactory, "Receiver"), (WeightTransferTrainerFactory, "Sender")):
        if GLOO not in factory._registry:
            factory.register_engine(GLOO, "scoreline.backends.gloo", name)


def prepare(backend: str) -> None:
    """Import what sends weights: seconds, which the first stream need not take."""
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

    register()
    WeightTransferTrainerFactory._registry[backend]()


def abandon(worker: Any) -> None:
    """In vLLM's worker: end an update that stopped in the middle, so that another one can begin."""
    worker.weight_transfer_engine.finish_weight_update()


def leave(worker: Any) -> None:
    """In vLLM's worker: out of the group, even in the middle of an update."""
    worker.weight_transfer_engine.shutdown()
