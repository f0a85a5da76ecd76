"""The learner gang: N processes that hold the models together, and behave like one learner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from scoreline.backends.cluster.process import Setting, cause, check_versions, places, see, spawn, unborn, versions
from scoreline.backends.cluster.rank import MakeLearner, Rank
from scoreline.backends.runtime import Ray
from scoreline.backends.transfer import WeightTransfer
from scoreline.errors import ClusterError, GangLostError, ScorelineError
from scoreline.models.outline import Outline
from scoreline.train.learner import Update, Updated
from scoreline.types import Batch

GRACE = 15.0
"""Seconds in which the others' ends are seen, once a rank failed."""


class Beside(Protocol):
    """Others, whose work ends while the learners are waited for."""

    def pending(self) -> list[Any]:
        """What they are at."""
        ...

    def finished(self, ref: Any) -> None:
        """One of these has ended; no learner may be asked for anything now."""
        ...


class GangLearner:
    """The `Learner` of a cluster. Rows are dealt to the ranks; the loss is a sum, so their gradients add up to one
    learner's. Raises `GangLostError` when a rank dies or says nothing for `runtime.timeout` seconds.
    """

    device = torch.device("cpu")

    def __init__(
        self, ray: Any, settings: Ray, make: MakeLearner, transfer: WeightTransfer, setting: Setting, gpus: float
    ) -> None:
        self.ray, self.timeout = ray, settings.timeout
        self.beside: Beside | None = None
        world = settings.learners
        self.group = places(ray, world, "PACK", gpus, settings.timeout)
        self.ranks = [
            spawn(
                ray,
                Rank,
                (self.group, rank),
                gpus=gpus,
                threads=setting.threads,
                arguments=(make, transfer, rank, world, replace(setting, name=f"learner-{rank}")),
            )
            for rank in range(world)
        ]
        try:
            self.outline, self.parameters = self._begin(setting)
        except BaseException:
            self.close()  # what a dead gang holds of the cluster, the next one needs
            raise

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch:
        """The batch with what the models say of it."""
        dealt = deal(batch, len(self.ranks))
        parts = self._all("annotate", [(batch.rows(rows), passes) for rows in dealt])
        added = {f.name for f in fields(batch) if getattr(parts[0], f.name) is not None} & COLUMNS
        return replace(batch, **{name: joined([getattr(part, name) for part in parts], dealt) for name in added})

    def update(self, batch: Batch, told: Update) -> Updated:
        """One optimiser update of all ranks together. Metrics are totals; seconds are those of the slowest."""
        dealt = deal(batch, len(self.ranks))
        parts: list[Updated] = self._all("update", [(batch.rows(rows), told) for rows in dealt])
        slowest = max(part.metrics["time/update"] for part in parts)
        logp = joined([part.logp for part in parts], dealt)
        return Updated(parts[0].metrics | {"time/update": slowest}, logp)

    def refresh(self, mix: float) -> None:
        """pi_ref <- mix pi_theta + (1 - mix) pi_ref."""
        self._all("refresh", [(mix,)] * len(self.ranks))

    def save(self, folder: Path) -> None:
        """All ranks write into one folder."""
        self._all("save", [(str(folder.resolve()),)] * len(self.ranks))

    def restore(self, folder: Path) -> None:
        """Exactly what any number of ranks saved."""
        self._all("restore", [(str(folder.resolve()),)] * len(self.ranks))

    def publish(self) -> Any:
        """A reference to the policy's weights, which stay in the cluster's object store."""
        refs = [rank.publish.remote() for rank in self.ranks]
        self._wait(refs)
        return refs[0]

    def pids(self) -> list[int]:
        """The processes."""
        return [pid for _, pid, _ in self._all("whereabouts", [()] * len(self.ranks))]

    def close(self) -> None:
        """End all ranks."""
        for rank in self.ranks:
            self.ray.kill(rank, no_restart=True)
        self.ray.util.remove_placement_group(self.group)

    def _begin(self, setting: Setting) -> tuple[Outline, int]:
        found = self._all("whereabouts", [()] * len(self.ranks))
        for rank, (_, _, theirs) in enumerate(found):
            check_versions(versions(), theirs, f"learner-{rank}")
        self._check_shared(Path(setting.folder))
        (meeting,) = self._wait([self.ranks[0].meeting.remote()])
        outlines = self._all("build", [(meeting, self.timeout)] * len(self.ranks))
        built: tuple[Outline, int] = outlines[0]
        return built

    def _check_shared(self, folder: Path) -> None:
        """All ranks write checkpoints into one folder: every one must see it."""
        if not folder.is_dir():
            return
        mark = folder / ".shared"
        mark.write_text(str(time.time_ns()), encoding="utf-8")
        try:
            seen = self._all("shares", [(str(mark.resolve()), mark.read_text(encoding="utf-8"))] * len(self.ranks))
        finally:
            mark.unlink()
        blind = [f"learner-{rank}" for rank, sees in enumerate(seen) if not sees]
        if blind:
            raise ClusterError(
                "The run's folder is not the same folder on every node, and a checkpoint is written by all learners.",
                got=f"{folder.resolve()}, not seen by {', '.join(blind)}",
                accepted="a folder on a disk that all nodes share",
                todo="set folder to a path on such a disk.",
            )

    def _all(self, method: str, told: Sequence[tuple[Any, ...]]) -> list[Any]:
        calls = [getattr(rank, method) for rank in self.ranks]
        return self._wait([call.remote(*given) for call, given in zip(calls, told, strict=True)])

    def _wait(self, refs: Sequence[Any]) -> list[Any]:
        """The answers of all; the error of whichever failed first, if one did."""
        pending, until = list(refs), time.monotonic() + self.timeout
        while pending:
            others = [] if self.beside is None else self.beside.pending()
            done, _ = self.ray.wait([*pending, *others], timeout=max(until - time.monotonic(), 0.0))
            if not done:
                raise GangLostError(
                    "A learner says nothing any more.",
                    got=f"no answer in {self.timeout:g} s, which is runtime.timeout",
                    todo=see("learner-*", "and raise runtime.timeout where an update takes that long"),
                )
            if self.beside is not None and done[0] in others:
                self.beside.finished(done[0])
                continue
            pending.remove(done[0])
            error = failure(self.ray, done[0])
            if error is not None:
                raise self._told(error, pending)
        return [] if not refs else list(self.ray.get(list(refs)))

    def _told(self, first: BaseException, pending: Sequence[Any]) -> BaseException:
        """What to say of a failure: a rank that died is the reason why the others fail."""
        ended, _ = self.ray.wait(list(pending), num_returns=len(pending), timeout=GRACE) if pending else ([], [])
        errors = [first, *(error for error in (failure(self.ray, ref) for ref in ended) if error is not None)]
        dead = [error for error in errors if not isinstance(error, self.ray.exceptions.RayTaskError)]
        if dead:
            todo = see("learner-*", "and look for what ended it, such as a lack of memory")
            lost = GangLostError("A learner died.", got=str(dead[0]).splitlines()[0], todo=todo)
            return unborn(dead[0]) or lost
        told = [cause(error, "learner-*") for error in errors]
        return next((error for error in told if isinstance(error, ScorelineError)), told[0])


COLUMNS = {"logp_old", "logp_ref", "values", "value_end"}
"""What annotating adds."""


def failure(ray: Any, ref: Any) -> BaseException | None:
    """The error that a finished call ended with."""
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        found: BaseException = error
        return found
    return None


def deal(batch: Batch, ranks: int) -> list[Tensor]:
    """The rows of each rank, whole groups where there are enough: the largest goes to whoever has least."""
    if ranks == 1:
        return [torch.arange(len(batch))]
    labels = batch.group if len(batch.group.unique()) >= ranks else torch.arange(len(batch))
    tokens = (batch.prompt_length + batch.length).double()
    sizes = sorted(((float(tokens[labels == g].sum()), int(g)) for g in labels.unique()), key=lambda s: (-s[0], s[1]))
    loads, hands = [0.0] * ranks, [list[int]() for _ in range(ranks)]
    for size, group in sizes:
        least = loads.index(min(loads))
        loads[least] += size
        hands[least].append(group)
    return [torch.isin(labels, torch.tensor(hand, dtype=labels.dtype)).nonzero().squeeze(1) for hand in hands]


def joined(parts: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """The rows of all ranks in the order of the batch."""
    whole = torch.cat(list(parts))
    return torch.empty_like(whole).index_copy(0, torch.cat(list(rows)), whole)
