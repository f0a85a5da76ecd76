"""The learner gang: N processes that hold the models together, and behave like one learner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoreline.backends.cluster.beside import Beside, first
from scoreline.backends.cluster.parcel import A_ROW, Array, packed, table
from scoreline.backends.cluster.process import (
    BEGINNING,
    Setting,
    cause,
    check_versions,
    places,
    see,
    silence,
    spawn,
    unborn,
    versions,
)
from scoreline.backends.cluster.rank import MakeLearner, Rank
from scoreline.backends.runtime import Ray
from scoreline.backends.transfer import Seat, WholeTensors
from scoreline.errors import ClusterError, GangLostError, ScorelineError
from scoreline.models.outline import Outline
from scoreline.train.learner import Update, Updated
from scoreline.train.portions import Portion, cut
from scoreline.types import Batch

GRACE = 15.0
"""Seconds in which the others' ends are seen, once a rank failed."""


class GangLearner:
    """The `Learner` of a cluster. Rows are dealt to the ranks, groups or portions of `portion` rows; the loss is a sum,
    so their gradients add up to one learner's. Raises `GangLostError` when a rank dies or says nothing for
    `runtime.timeout` seconds, in its start `BEGINNING` at least.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        ray: Any,
        settings: Ray,
        make: MakeLearner,
        transfer: WholeTensors,
        setting: Setting,
        gpus: float,
        portion: int | None = None,
    ) -> None:
        self.ray, self.timeout, self.portion = ray, max(settings.timeout, BEGINNING), portion
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
        self.timeout = settings.timeout

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch:
        """The batch with what the models say of it."""
        dealt = self._dealt(batch)
        parts = self._all("annotate", [(packed(batch, rows), passes) for rows in dealt])
        said = {name: [part[name] for part in parts] for name in parts[0]}
        return replace(batch, **{name: joined(name, column, dealt, batch) for name, column in said.items()})

    def update(self, batch: Batch, told: Update) -> Updated:
        """One optimiser update of all ranks together. Metrics are totals; seconds are those of the slowest."""
        dealt = self._dealt(batch)
        parts = self._all("update", [(packed(batch, rows), told) for rows in dealt])
        slowest = max(metrics["time/update"] for metrics, _ in parts)
        logp = joined("logp", [column for _, column in parts], dealt, batch)
        return Updated(parts[0][0] | {"time/update": slowest}, logp)

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

    def meeting(self) -> str:
        """A free port on the first rank's node."""
        (found,) = self._wait([self.ranks[0].meeting.remote()])
        return str(found)

    def prepare(self, backend: str) -> None:
        """The first rank imports what it will stream weights with. Nobody waits for it here."""
        self.ranks[0].prepare.remote(backend)

    def send(self, seat: Seat) -> str:
        """The policy's weights to the workers of this group, who must be receiving; why not, where they were lost."""
        return str(self._all("send", [(seat,)] * len(self.ranks))[0])

    def pids(self) -> list[int]:
        """The processes."""
        return [pid for _, pid, _ in self._all("whereabouts", [()] * len(self.ranks))]

    def close(self) -> None:
        """End all ranks."""
        for rank in self.ranks:
            self.ray.kill(rank, no_restart=True)
        self.ray.util.remove_placement_group(self.group)

    def _dealt(self, batch: Batch) -> list[Tensor]:
        """Each rank's rows. With `portion`, one learner's portions stay together: they compute the same numbers."""
        ranks = len(self.ranks)
        if ranks == 1:
            return [torch.arange(len(batch))]
        if self.portion is None:
            return [rows.sort().values for rows in deal(batch, groups(batch, ranks), ranks)]
        return deal(batch, cut(batch, Portion(self.portion), packed=self.outline.packs), ranks)

    def _begin(self, setting: Setting) -> tuple[Outline, int]:
        found = self._all("whereabouts", [()] * len(self.ranks))
        self.nodes = [node for node, _, _ in found]
        for rank, (_, _, theirs) in enumerate(found):
            check_versions(versions(), theirs, f"learner-{rank}")
        self._check_shared(Path(setting.folder))
        meeting = self.meeting()
        outlines = self._all("build", [(meeting, self.timeout, self.nodes.count(node)) for node in self.nodes])
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
            done = first(self.ray, pending, self.beside, until)
            if done is None:
                raise GangLostError(
                    "A learner says nothing any more.",
                    got=silence(self.timeout),
                    todo=see("learner-*", "and raise runtime.timeout where an update takes that long"),
                )
            pending.remove(done)
            error = failure(self.ray, done)
            if error is not None:
                raise self._told(error, pending)
        return [] if not refs else list(self.ray.get(list(refs)))

    def _told(self, error: BaseException, pending: Sequence[Any]) -> BaseException:
        """What to say of a failure: a rank that died is the reason why the others fail, or one that says what to do."""
        ended, _ = self.ray.wait(list(pending), num_returns=len(pending), timeout=GRACE) if pending else ([], [])
        errors = [error, *(other for other in (failure(self.ray, ref) for ref in ended) if other is not None)]
        dead = [error for error in errors if not isinstance(error, self.ray.exceptions.RayTaskError)]
        if dead:
            todo = see("learner-*", "and look for what ended it, such as a lack of memory")
            lost = GangLostError("A learner died.", got=str(dead[0]).splitlines()[0], todo=todo)
            return unborn(dead[0]) or lost
        own = (inner for error in errors if isinstance(inner := getattr(error, "cause", None), ScorelineError))
        return next(own, cause(error, "learner-*"))


def failure(ray: Any, ref: Any) -> BaseException | None:
    """The error that a finished call ended with."""
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        found: BaseException = error
        return found
    return None


def deal(batch: Batch, portions: Sequence[Tensor], ranks: int) -> list[Tensor]:
    """The rows of each rank, whole portions in their order: the largest goes to whoever has least."""
    tokens = batch.prompt_length + batch.length
    sizes = [int(tokens[rows].sum()) for rows in portions]
    loads, hands = [0] * ranks, [list[int]() for _ in range(ranks)]
    for number in sorted(range(len(portions)), key=lambda number: -sizes[number]):
        least = loads.index(min(loads))
        loads[least] += sizes[number]
        hands[least].append(number)
    nothing = torch.arange(0)
    return [torch.cat([nothing, *(portions[number] for number in sorted(hand))]) for hand in hands]


def groups(batch: Batch, ranks: int) -> list[Tensor]:
    """The rows of each group, or single rows where there are fewer groups than ranks."""
    labels = batch.group if len(batch.group.unique()) >= ranks else torch.arange(len(batch))
    return [(labels == label).nonzero().squeeze(1) for label in labels.unique()]


def joined(name: str, parts: Sequence[Array], rows: Sequence[Tensor], batch: Batch) -> Tensor:
    """A column of the batch, from what all ranks say of their rows."""
    order = torch.cat(list(rows))
    if name in A_ROW:
        return torch.empty(len(batch)).index_copy(0, order, torch.from_numpy(np.concatenate(parts)))
    return table(parts, batch.length, batch.completions.shape[1], order)
