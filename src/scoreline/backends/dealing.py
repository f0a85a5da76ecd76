"""How models that rank 0 made come to all ranks: what it says of them, and then its weights, a tensor at a time.

    rank 0   makes its models ... says what it found ............... hands out rows of W_1, of W_2, ...
    rank r   waits ................ makes the same without numbers .. takes its rows

Whatever raises on one rank while models are made is raised on all. What is said is JSON: nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from scoreline import errors
from scoreline.errors import EngineError, ModelError, ScorelineError
from scoreline.models.making import Making, making


@contextmanager
def made_after(rank: int, device: torch.device) -> Iterator[None]:
    """Rank 0 makes models as they are; when it has, the others make theirs after its note. All enter, and all leave."""
    how = Making(None if rank == 0 else heard(0, device)["note"])
    try:
        with making(how):
            yield
    except Exception as error:
        if rank == 0:  # the others wait for its note
            say(told(error), device)
        else:
            agree(rank, error, device)
        raise
    if rank == 0:
        say({"note": how.note}, device)
    agree(rank, None, device)


def agree(rank: int, failure: Exception | None, device: torch.device) -> None:
    """Whether all ranks went well: all but it raise the error of the first that did not."""
    world = dist.get_world_size()
    first = torch.tensor(world if failure is None else rank, device=device)
    dist.all_reduce(first, dist.ReduceOp.MIN)
    if failure is not None and int(first) == rank:
        say(told(failure), device)
    elif int(first) < world:
        heard(int(first), device)


def compare(rank: int, own: Mapping[str, Any], device: torch.device) -> None:
    """All ranks have the settings that rank 0 has; the first that is another one is the error of all."""
    if rank == 0:
        say({"settings": own}, device)
        error = None
    else:
        error = unlike(rank, own, heard(0, device)["settings"])
    agree(rank, error, device)
    if error is not None:
        raise error


def unlike(rank: int, own: Mapping[str, Any], first: Mapping[str, Any]) -> ModelError | None:
    """What to say of settings that are not those of rank 0, by the first of them."""
    names = (name for name in sorted({**own, **first}) if json.dumps(own.get(name)) != json.dumps(first.get(name)))
    name = next(names, None)
    if name is None:
        return None
    return ModelError(
        "The learner's ranks make different models.",
        got=f"{name} = {own.get(name)!r} on rank {rank}, {first.get(name)!r} on rank 0",
        accepted="one model, with the same config.json on every machine",
        todo="give a folder that all machines share, or copy it to each again.",
    )


def told(error: Exception) -> dict[str, str]:
    """An error as text: what it says, and which of this library's it is."""
    kind = type(error)
    if isinstance(error, ScorelineError) and getattr(errors, kind.__name__, None) is kind:
        return {"error": kind.__name__, "says": str(error)}
    return {"error": EngineError.__name__, "says": f"Another learner failed: {kind.__name__}: {error}"}


def say(what: Mapping[str, Any], device: torch.device) -> None:
    """To all other ranks, who have to hear it."""
    line = torch.frombuffer(bytearray(json.dumps(what).encode()), dtype=torch.uint8).to(device)
    dist.broadcast(torch.tensor(len(line), device=device), dist.get_rank())
    dist.broadcast(line, dist.get_rank())


def heard(source: int, device: torch.device) -> dict[str, Any]:
    """What a rank says to all others. An error that it says is raised."""
    length = torch.tensor(0, device=device)
    dist.broadcast(length, source)
    line = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(line, source)
    what: dict[str, Any] = json.loads(bytes(line.tolist()))
    if "error" in what:
        raise getattr(errors, what["error"])(what["says"])
    return what


@torch.no_grad()
def deal(own: Tensor, whole: Tensor | None) -> None:
    """This rank's rows of a tensor that rank 0 has `whole`, or all of a tensor that every rank has whole.

    A device holds its rows and, on rank 0, one whole tensor.
    """
    if not isinstance(own, DTensor):
        if whole is not None:
            own.copy_(whole)
        dist.broadcast(own, 0)
        return
    rows, world = own.to_local(), dist.get_world_size()
    each = -(-own.shape[0] // world)
    taken = rows if len(rows) == each else rows.new_empty(each, *own.shape[1:])
    dist.scatter(taken, None if whole is None else cut(whole.to(rows.device), each, world), 0)
    if taken is not rows:
        rows.copy_(taken[: len(rows)])


def cut(whole: Tensor, each: int, world: int) -> list[Tensor]:
    """The rows of every rank; the last ones are filled up to as many as the first has."""
    parts = [whole[rank * each : (rank + 1) * each].contiguous() for rank in range(world)]
    return [part if len(part) == each else filled(part, each) for part in parts]


def filled(part: Tensor, rows: int) -> Tensor:
    """With zeros behind."""
    longer = part.new_zeros(rows, *part.shape[1:])
    longer[: len(part)] = part
    return longer
