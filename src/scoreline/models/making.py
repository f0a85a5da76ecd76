"""Models that several processes will hold in rows. Rank 0 makes them first; the others make the same without numbers.

    rank 0     weights are read, and stay on the CPU     what is found by computing with them is noted
    others     weights are shapes, on the meta device    the note says what was found

Outside of `making` a process makes models for itself: it reads, computes, and puts them on their device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor, nn

from scoreline.errors import ModelError

M = TypeVar("M", bound=nn.Module)


Note = list[tuple[str, bool]]
"""Questions about models in the order in which they came up, and their answers."""


class Making:
    """How models are made now: by who reads, or after the `note` of who did."""

    def __init__(self, note: Sequence[tuple[str, bool]] | None = None) -> None:
        self.reads = note is None
        self.note: Note = list(note or ())
        self._left = iter(self.note)

    def answer(self, question: str, probe: Callable[[], bool]) -> bool:
        """What the probe finds, or found where the weights are."""
        if self.reads:
            self.note.append((question, probe()))
            return self.note[-1][1]
        asked, found = next(self._left, ("", False))
        if asked == question:
            return found
        raise ModelError(
            "The learner's ranks make different models.",
            got=f"{question!r} is asked about the model here, {asked!r} on rank 0",
            accepted="one model, with the same config.json on every machine",
            todo="give a folder that all machines share, or copy it to each again.",
        )


_now: ContextVar[Making | None] = ContextVar("how models are made", default=None)


@contextmanager
def making(how: Making) -> Iterator[None]:
    """Models that are made inside will be dealt to processes, and are not used before."""
    before = _now.set(how)
    try:
        yield
    finally:
        _now.reset(before)


def together() -> bool:
    """Whether models are made for several processes."""
    return _now.get() is not None


def reads() -> bool:
    """Whether this process reads weights."""
    now = _now.get()
    return now is None or now.reads


def confirmed(question: str, probe: Callable[[], bool]) -> bool:
    """What a computation with a model's weights finds."""
    now = _now.get()
    return probe() if now is None else now.answer(question, probe)


def placed(model: M, device: torch.device) -> M:
    """The model on its device; one that will be dealt stays where it is: a device may have no room for all of it."""
    return model if together() else model.to(device)


def shared(model: nn.Module) -> dict[int, nn.Parameter]:
    """For a copy of a model that will be dealt: by id, weights that lie in the same memory until they are cut."""
    weights = model.parameters() if together() else ()
    return {id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in weights}


def emptied(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights and buffers by name. Their shapes stay in it, on the meta device; what is tied stays tied."""
    whole = {name: weight.detach() for name, weight in model.named_parameters()}
    whole |= dict(model.named_buffers(remove_duplicate=False))
    shapes = {id(weight): as_shape(weight) for weight in model.parameters()}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = shapes[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device="meta")
    return whole


def as_shape(weight: nn.Parameter) -> nn.Parameter:
    """A weight without its numbers."""
    return nn.Parameter(torch.empty(weight.shape, dtype=weight.dtype, device="meta"), weight.requires_grad)
