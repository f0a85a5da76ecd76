"""The rollout pool: workers that sample units, of which any may die.

    queue of units  --idle worker-->  answers          a worker that dies: its unit goes back to the front of the queue
    new weights     --every worker->  loaded           a new worker: weights, probe, admitted

A unit's numbers do not depend on who samples it, so neither a death nor the number of workers changes a token.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from scoreline.backends.cluster.process import cause, check_versions, see, unborn, versions
from scoreline.backends.parity import Probe
from scoreline.backends.runtime import Ray
from scoreline.errors import ClusterError
from scoreline.rollout.collect import TRAIN
from scoreline.rollout.engine import Sampling
from scoreline.rollout.units import units
from scoreline.types import Completion, Metrics, Request

Stream = tuple[int, ...]

HOUR = 3600.0
PULSE = 1.0
"""Seconds after which hung workers are looked for."""
Kind = Literal["start", "load", "probe", "unit"]


@dataclass(eq=False)
class Unit:
    """Requests that are sampled together."""

    requests: list[Request]
    sampling: Sampling


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


@dataclass(frozen=True)
class Weights:
    """The newest weights: their version, and where the cluster keeps them."""

    version: int
    sent: Any


class RolloutPool:
    """The `Engine` of a cluster. `expect` begins requests that a later `generate` will ask for.

    Raises `ClusterError` when more than `runtime.max_restarts` workers had to be replaced within an hour.
    """

    def __init__(
        self,
        ray: Any,
        settings: Ray,
        hire: Callable[[int], Any],
        publish: Callable[[], Any],
        probe: Probe,
        questions: int | None,
    ) -> None:
        self.ray, self.settings, self.hire, self.publish, self.probe = ray, settings, hire, publish, probe
        self.questions = questions
        self.weights = Weights(0, publish())
        self.queue: deque[Unit] = deque()
        self.jobs: dict[Any, Job] = {}
        self.answers: dict[Stream, Completion] = {}
        self.promised: set[Stream] = set()
        self.deaths: deque[float] = deque()
        self.counts: dict[str, float] = defaultdict(float)
        self.ages: list[int] = []
        self.since = time.monotonic()
        self.members = [Member(number, hire(number)) for number in range(settings.rollouts)]
        self._until(lambda: all(member.admitted for member in self.members))

    def expect(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Begin to sample what will be asked for, as far as it is not begun."""
        self.queue.extend(self._units(requests, sampling))
        self._occupy()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests. Answers that are too old are sampled again."""
        started, fresh = time.perf_counter(), False
        while not fresh:
            self.queue.extendleft(reversed(self._units(requests, sampling)))  # before what is only expected
            self._until(lambda: all(request.stream in self.answers for request in requests))
            old = [r for r in requests if self._age(self.answers[r.stream]) > self.settings.max_staleness]
            self.counts["rollouts/dropped"] += len(old)
            self._forget(old)
            fresh = not old
        found = [self.answers[request.stream] for request in requests]
        self.ages += [self._age(answer) for answer, r in zip(found, requests, strict=True) if r.stream[1] == TRAIN]
        self._forget(requests)
        self.counts["time/wait"] += time.perf_counter() - started
        return found

    def load(self, version: int) -> None:
        """Send the learner's weights to every worker. Where nothing may be stale, wait until they are there."""
        started = time.perf_counter()
        self.weights = Weights(version, self.publish())
        self._occupy()
        if self.settings.max_staleness == 0:
            self._until(lambda: not self.jobs)
        self.counts["time/sync"] += time.perf_counter() - started

    def facts(self) -> Metrics:
        """Of the step that just ended: seconds of waiting and of sending weights, the share of time in which workers
        sampled, processes that were replaced, answers that were too old, and how old those were that were trained on.
        """
        names = ("time/wait", "time/sync", "rollouts/restarts", "rollouts/requeued", "rollouts/dropped")
        now = time.monotonic()
        shared = self.counts["busy"] / ((now - self.since) * len(self.members))
        known = {name: float(self.counts[name]) for name in names} | {"rollouts/utilisation": shared}
        if self.ages:
            known |= {"staleness/max": float(max(self.ages)), "staleness/mean": fmean(self.ages)}
        self.counts, self.ages, self.since = defaultdict(float), [], now
        return known

    def describe(self) -> dict[str, str]:
        """What a report says of it."""
        return {"rollout workers": str(len(self.members)), "sampler and learner differ by": str(self.probe.found)}

    def close(self) -> None:
        """End all workers."""
        for member in self.members:
            self.ray.kill(member.process, no_restart=True)

    def _units(self, requests: Sequence[Request], sampling: Sampling) -> list[Unit]:
        new = [request for request in requests if request.stream not in self.promised]
        self.promised.update(request.stream for request in new)
        return [Unit(unit, sampling) for unit in units(new, self.questions)]

    def _age(self, answer: Completion) -> int:
        return self.weights.version - answer.version

    def _forget(self, requests: Sequence[Request]) -> None:
        for request in requests:
            del self.answers[request.stream]
            self.promised.remove(request.stream)

    def _until(self, over: Callable[[], bool]) -> None:
        """Keep all workers busy, and take what they finish, until it is over."""
        self._occupy()
        while not over():
            done, _ = self.ray.wait(list(self.jobs), timeout=min(PULSE, self.settings.timeout))
            for ref in done:
                self._finish(ref, self.jobs.pop(ref))
            for ref, job in list(self.jobs.items()):
                if time.monotonic() - job.since > self.settings.timeout:
                    self._replace(self.jobs.pop(ref), f"said nothing for {self.settings.timeout:g} s")
            self._occupy()

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
            self.jobs[process.generate.remote(*asked)] = Job("probe", member, now)
        elif self.queue:
            unit = self.queue.popleft()
            self.jobs[process.generate.remote(unit.requests, unit.sampling)] = Job("unit", member, now, unit)

    def _finish(self, ref: Any, job: Job) -> None:
        try:
            result = self.ray.get(ref)
        except self.ray.exceptions.RayActorError as error:
            never = unborn(error)
            if never is not None:
                raise never from None
            self._replace(job, str(error).splitlines()[0])
            return
        except self.ray.exceptions.RayTaskError as error:
            raise cause(error, f"rollout-{job.member.number}") from None
        if job.kind == "start":
            check_versions(versions(), result[1], f"rollout-{job.member.number}")
            job.member.started = True
        elif job.kind == "probe":
            self.probe.check(result[0])
            job.member.admitted = True
        elif job.unit is not None:
            self.counts["busy"] += result[1]
            self.answers.update(zip((r.stream for r in job.unit.requests), result[0], strict=True))

    def _replace(self, job: Job, why: str) -> None:
        """Another process in the place of one that is gone; its unit is the next that anybody gets."""
        now, number = time.monotonic(), job.member.number
        self.deaths.append(now)
        while now - self.deaths[0] > HOUR:
            self.deaths.popleft()
        if len(self.deaths) > self.settings.max_restarts:
            raise spent(len(self.deaths), why)
        warnings.warn(f"rollout worker {number} is replaced: {why}", stacklevel=2)
        if job.unit is not None:
            self.queue.appendleft(job.unit)
        self.counts["rollouts/restarts"] += 1
        self.counts["rollouts/requeued"] += 0 if job.unit is None else len(job.unit.requests)
        self.ray.kill(job.member.process, no_restart=True)
        self.members[number] = Member(number, self.hire(number))


def spent(deaths: int, why: str) -> ClusterError:
    """Workers die faster than a run can use."""
    return ClusterError(
        "Too many rollout workers had to be replaced.",
        got=f"{deaths} within an hour; the last one: {why}",
        accepted="at most runtime.max_restarts",
        todo=see("rollout-*", "and lower engine.rows or runtime.rollouts where they ran out of memory")
        + " --resume goes on from the last checkpoint.",
    )
