"""The rollout pool: workers that sample units, of which any may die.

    queue of units  --idle worker-->  answers          a worker that dies: its unit goes back to the front of the queue
    new weights     --every worker->  loaded           a new worker: weights, probe, admitted

A unit's numbers do not depend on who samples it, so neither a death nor the number of workers changes a token.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from scoreline.backends.cluster.backlog import Backlog, Unit
from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.process import NEWS, cause, check_versions, unborn, versions
from scoreline.backends.parity import Probe
from scoreline.backends.runtime import Ray
from scoreline.rollout.collect import TRAIN
from scoreline.rollout.engine import Sampling
from scoreline.types import Completion, Metrics, Request

BEGINNING = 600.0
"""Seconds that a process may take to load its model."""
PULSE = 1.0
"""Seconds after which hung workers are looked for."""
Kind = Literal["start", "load", "probe", "unit"]


@dataclass(eq=False)
class Member:
    """A worker of the pool: its process, and how far it has come."""

    number: int
    process: Any
    started: bool = False
    version: int | None = None
    """Of the weights that it was last sent."""
    admitted: bool = False


@dataclass(frozen=True)
class Job:
    """Something that a member does now."""

    kind: Kind
    member: Member
    since: float
    unit: Unit | None = None
    version: int = 0
    """Of the newest weights, when it began."""


@dataclass(frozen=True)
class Weights:
    """The newest weights: their version, and where the cluster keeps them."""

    version: int
    sent: Any


class RolloutPool:
    """The `Engine` of a cluster. `expect` begins requests that a later `generate` will ask for; while the learners
    learn, whoever waits for them hands every finished job to `finished`, so that no worker waits.

    Raises `ClusterError` when the budget of replaced processes is spent.
    """

    def __init__(
        self,
        ray: Any,
        settings: Ray,
        hire: Callable[[int], Any],
        publish: Callable[[], Any],
        probe: Probe,
        questions: int | None,
        budget: Budget,
    ) -> None:
        self.ray, self.settings, self.hire, self.publish, self.probe = ray, settings, hire, publish, probe
        self.backlog, self.budget = Backlog(questions), budget
        self.weights = Weights(0, publish())
        self.jobs: dict[Any, Job] = {}
        self.counts: dict[str, float] = defaultdict(float)
        self.trained: list[Completion] = []
        self.since = time.monotonic()
        self.members = [Member(number, hire(number)) for number in range(settings.rollouts)]

    def open(self) -> None:
        """Wait until all workers are admitted."""
        self._until(lambda: all(member.admitted for member in self.members))

    def expect(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Begin to sample what will be asked for, as far as it is not begun."""
        self.backlog.expect(requests, sampling)
        self._occupy()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests. Answers that are too old are sampled again."""
        started = time.perf_counter()
        while True:
            self.backlog.ask(requests, sampling)
            self._until(lambda: self.backlog.ready(requests))
            old = self.backlog.drop(requests, self.weights.version - self.settings.max_staleness)
            self.counts["rollouts/dropped"] += old
            if not old:
                break
        found = self.backlog.take(requests)
        if any(request.stream[1] == TRAIN for request in requests):
            self.trained += found
            self.counts["time/wait"] += time.perf_counter() - started
        return found

    def load(self, version: int) -> None:
        """Send the learner's weights to every worker: whoever is idle gets them now, the others before their next unit,
        or, with `runtime.in_flight`, before the next token of this one.
        """
        started = time.perf_counter()
        self.weights = Weights(version, self.publish())
        self._occupy()
        if self.settings.in_flight:
            self._offer()
        self.counts["time/sync"] += time.perf_counter() - started

    def pending(self) -> list[Any]:
        """What workers are at that may end while the learners learn. A probe asks the learners: it waits for them."""
        return [ref for ref, job in self.jobs.items() if job.kind != "probe"]

    def finished(self, ref: Any) -> None:
        """One of these has ended."""
        self._finish(ref, self.jobs.pop(ref))
        self._occupy()

    def facts(self) -> Metrics:
        """Of the step that just ended: seconds of waiting and of sending weights, the share of time in which workers
        sampled, processes that were replaced, answers that were too old, and how many of the learner's steps lie
        between the oldest token of an answer and the update that used it; with `runtime.in_flight` also the share of
        answers with tokens of several versions.
        """
        names = ("time/wait", "time/sync", "rollouts/restarts", "rollouts/requeued", "rollouts/dropped")
        now, version = time.monotonic(), self.weights.version - 1  # of the step that ended: the weights are the next's
        running = sum(now - max(job.since, self.since) for job in self.jobs.values() if job.unit is not None)
        shared = (self.counts["busy"] + running) / ((now - self.since) * len(self.members))
        known = {name: float(self.counts[name]) for name in names} | {"rollouts/utilisation": shared}
        if self.trained:
            ages = [version - answer.version for answer in self.trained]
            known |= {"staleness/max": float(max(ages)), "staleness/mean": fmean(ages)}
        if self.trained and self.settings.in_flight:
            known["staleness/mixed"] = fmean(bool(answer.versions) for answer in self.trained)
        self.counts, self.trained, self.since = defaultdict(float), [], now
        return known

    def describe(self) -> dict[str, str]:
        """What a report says of it."""
        return {"rollout workers": str(len(self.members)), "sampler and learner differ by": str(self.probe.found)}

    def close(self) -> None:
        """End all workers."""
        for member in self.members:
            self.ray.kill(member.process, no_restart=True)

    def _offer(self) -> None:
        """The newest weights to those that are in the middle of a unit."""
        for job in self.jobs.values():
            if job.unit is not None:
                told = job.member.process.offer.options(concurrency_group=NEWS)
                told.remote(self.weights.version, self.weights.sent)

    def _until(self, over: Callable[[], bool]) -> None:
        """Keep all workers busy, and take what they finish, until it is over."""
        self._occupy()
        while not over():
            for ref in self._ended():
                if ref in self.jobs:  # while a probe asks the learners, others may be finished
                    self._finish(ref, self.jobs.pop(ref))
            for ref, job in list(self.jobs.items()):
                patience = max(self.settings.timeout, BEGINNING if job.kind == "start" else 0.0)
                if time.monotonic() - job.since > patience:
                    self._replace(self.jobs.pop(ref), f"said nothing for {patience:g} s")
            self._occupy()

    def _ended(self) -> list[Any]:
        """All that has ended, once something has or a pulse is over: who has is not hung."""
        jobs = list(self.jobs)
        self.ray.wait(jobs, timeout=min(PULSE, self.settings.timeout))
        done: list[Any] = self.ray.wait(jobs, num_returns=len(jobs), timeout=0)[0]
        return done

    def _occupy(self) -> None:
        """Give every idle worker what it needs next: a start, the newest weights, a probe, or a unit of the queue."""
        busy = {job.member.number for job in self.jobs.values()}
        for member in self.members:
            if member.number not in busy:
                self._begin(member)

    def _begin(self, member: Member) -> None:
        process, now = member.process, time.monotonic()
        if not member.started:
            self.jobs[process.whereabouts.remote()] = Job("start", member, now)
        elif member.version != self.weights.version:
            member.version = self.weights.version
            self.jobs[process.load.remote(self.weights.version, self.weights.sent)] = Job("load", member, now)
        elif not member.admitted:
            asked = self.probe.requests, self.probe.sampling
            self.jobs[process.generate.remote(*asked)] = Job("probe", member, now, version=self.weights.version)
        elif (unit := self.backlog.next()) is not None:
            self.jobs[process.generate.remote(unit.requests, unit.sampling)] = Job("unit", member, now, unit)

    def _finish(self, ref: Any, job: Job) -> None:
        try:
            result = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise cause(error, f"rollout-{job.member.number}") from None
        except self.ray.exceptions.RayError as error:  # the process died, or was killed because memory ran low
            never = unborn(error)
            if never is not None:
                raise never from None
            self._replace(job, str(error).splitlines()[0])
            return
        if job.kind == "start":
            check_versions(versions(), result[1], f"rollout-{job.member.number}")
            job.member.started = True
        elif job.kind == "probe" and job.version == self.weights.version:  # else the learners have gone on: once more
            self.probe.check(result[0])
            job.member.admitted = True
        elif job.unit is not None:
            self.counts["busy"] += max(result[1] - max(self.since - job.since, 0.0), 0.0)
            self.backlog.answered(job.unit, result[0])

    def _replace(self, job: Job, why: str) -> None:
        """Another process in the place of one that is gone; its unit is the next that anybody gets."""
        number = job.member.number
        self.budget.spend(f"rollout worker {number}: {why}")
        warnings.warn(f"rollout worker {number} is replaced: {why}", stacklevel=2)
        if job.unit is not None:
            self.backlog.again(job.unit)
        self.counts["rollouts/restarts"] += 1
        self.counts["rollouts/requeued"] += 0 if job.unit is None else len(job.unit.requests)
        self.ray.kill(job.member.process, no_restart=True)
        self.members[number] = Member(number, self.hire(number))
