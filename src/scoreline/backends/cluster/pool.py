"""The rollout pool: workers that sample units, of which any may die.

    queue of units  --idle worker-->  answers          a worker that dies: its unit goes back to the front of the queue
    new weights     --every worker->  loaded           a new worker: weights, probe, admitted

A unit's numbers do not depend on who samples it, so neither a death nor the number of workers changes a token. Only
where a worker has several units at once (`runtime.at_once`) they depend on what else it is at.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from scoreline.backends.cluster.backlog import Backlog
from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.channel import Channel
from scoreline.backends.cluster.member import Job, Member, Weights
from scoreline.backends.cluster.process import BEGINNING, NEWS, UNITS, cause, check_versions, silence, unborn, versions
from scoreline.backends.parity import Probe
from scoreline.backends.runtime import Ray
from scoreline.rollout.collect import TRAIN
from scoreline.rollout.engine import Sampling
from scoreline.types import Completion, Metrics, Request

PULSE = 1.0
"""Seconds after which hung workers are looked for."""


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
        channel: Channel | None = None,
    ) -> None:
        self.ray, self.settings, self.hire, self.publish, self.probe = ray, settings, hire, publish, probe
        self.backlog, self.budget, self.channel = Backlog(questions), budget, channel
        self.paused = False
        self.weights = Weights(0, publish())
        self.jobs: dict[Any, Job] = {}
        self.counts: dict[str, float] = defaultdict(float)
        self.trained: list[Completion] = []
        self.since = time.monotonic()
        self.members = [Member(number, hire(number)) for number in range(settings.rollouts)]

    def open(self) -> None:
        """Wait until all workers are admitted."""
        self._until(self._admitted)

    def expect(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Begin to sample what will be asked for, as far as it is not begun."""
        self.backlog.expect(requests, sampling)
        self._occupy()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests. Answers that are too old are sampled again. Workers
        that have started are admitted here, if need be: afterwards the learners are busy.
        """
        started = time.perf_counter()
        while True:
            self.backlog.ask(requests, sampling)
            self._until(lambda: self.backlog.ready(requests) and self._settled())
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
        or, with `runtime.in_flight`, before the next token of this one. A stream waits for them to end what they do.
        """
        started = time.perf_counter()
        if not self._streamed(version):
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
        """Of the step that just ended: seconds of waiting and of sending weights, the share of the workers' places for
        units in which one was sampled, processes that were replaced, answers that were begun again and that were too
        old, and how many of the learner's steps lie between the oldest token of an answer and the update that used it;
        with `runtime.in_flight` also the share of answers with tokens of several versions.
        """
        names = ("time/wait", "time/sync", "rollouts/restarts", "rollouts/requeued", "rollouts/dropped")
        now, version = time.monotonic(), self.weights.version - 1  # of the step that ended: the weights are the next's
        running = sum(now - max(job.since, self.since) for job in self.jobs.values() if job.unit is not None)
        shared = (self.counts["busy"] + running) / ((now - self.since) * len(self.members) * self.settings.at_once)
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
        each = self.settings.at_once
        return {
            "rollout workers": f"{len(self.members)}" + (f", {each} units at a time" if each > 1 else ""),
            "weights travel by": self.channel.describe() if self.channel else "the object store",
            "sampler and learner differ by": str(self.probe.found),
        }

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

    def _streamed(self, version: int) -> bool:
        """Whether the learner's weights went to all workers at once; they must all be admitted, and at nothing. Who is
        still at a stream that was lost is not waited for.
        """
        if self.channel is None or not self.channel.works or not self._admitted() or self._receiving():
            return False
        self.paused = True
        try:
            self._until(lambda: not self.jobs)
            if not self._admitted():
                return False
            self.weights, now = Weights(version), time.monotonic()
            for member, seat in zip(self.members, self.channel.seats(self.members), strict=True):
                received = member.process.receive.remote(version, seat)
                self.jobs[received] = Job("receive", member, now, version=version)
            return self.channel.send()
        finally:
            self.paused = False

    def _admitted(self) -> bool:
        return all(member.admitted for member in self.members)

    def _settled(self) -> bool:
        """Whether the learners may go on: nobody needs them for weights that a stream did not bring, or for a probe,
        which is worth nothing once they have others. Who is stuck in a lost stream finds its weights in the store.
        """
        receiving = self.weights.sent is None and self._receiving()
        return not receiving and all(member.admitted for member in self.members if member.started)

    def _receiving(self) -> bool:
        return any(job.kind == "receive" for job in self.jobs.values())

    def _restock(self) -> None:
        """The newest weights into the store, where a stream took them past somebody. The learners must be free."""
        busy = {job.member for job in self.jobs.values()}
        behind = (m for m in self.members if m.started and m.version != self.weights.version and m not in busy)
        if self.weights.sent is None and not self.paused and any(behind):
            self.weights = replace(self.weights, sent=self.publish())

    def _until(self, over: Callable[[], bool]) -> None:
        """Keep all workers busy, and take what they finish, until it is over; once at least, or nobody would find out
        that a worker hangs whom nobody waits for.
        """
        self._restock()
        self._occupy()
        self._look(0.0)
        while not over():
            self._look(min(PULSE, self.settings.timeout))

    def _look(self, pulse: float) -> None:
        """Take what has ended, once something has or a pulse is over: who has ended is not hung."""
        jobs = list(self.jobs)
        self.ray.wait(jobs, timeout=pulse)
        for ref in self.ray.wait(jobs, num_returns=len(jobs), timeout=0)[0]:
            if ref in self.jobs:  # while a probe asks the learners, others may be finished
                self._finish(ref, self.jobs.pop(ref))
        for ref, job in list(self.jobs.items()):
            patience = max(self.settings.timeout, BEGINNING if job.kind == "start" else 0.0)
            late = time.monotonic() - job.since > patience
            if late and not self.ray.wait([ref], timeout=PULSE)[0]:  # answers may have ended, and be on their way here
                self._replace(self.jobs.pop(ref), silence(patience))
        self._restock()
        self._occupy()

    def _occupy(self) -> None:
        """Give every idle worker what it needs next, and units to those that have a place for one."""
        if self.paused:
            return
        held = Counter(job.member for job in self.jobs.values())
        for member in self.members:
            if not held[member]:
                self._prepare(member)
        other = {job.member for job in self.jobs.values() if job.unit is None}
        ready = [member for member in self.members if member not in other and self._may_sample(member)]
        for turn in range(self.settings.at_once):
            for member in ready:
                if held[member] <= turn and self._sample(member):
                    held[member] += 1

    def _prepare(self, member: Member) -> None:
        """A start, the newest weights, or a probe, where it needs one."""
        process, now = member.process, time.monotonic()
        if not member.started:
            self.jobs[process.whereabouts.remote()] = Job("start", member, now)
        elif member.version != self.weights.version:
            if self.weights.sent is None:  # until the learners are free
                return
            member.version = self.weights.version
            self.jobs[process.load.remote(self.weights.version, self.weights.sent)] = Job("load", member, now)
        elif not member.admitted:
            asked = self.probe.requests, self.probe.sampling
            self.jobs[process.generate.remote(*asked)] = Job("probe", member, now, version=self.weights.version)

    def _may_sample(self, member: Member) -> bool:
        """It has the newest weights, or gets them while it samples."""
        current = member.version == self.weights.version or (self.settings.in_flight and member.version is not None)
        return member.admitted and current

    def _sample(self, member: Member) -> bool:
        """Give it the next unit, if there is one."""
        unit = self.backlog.next()
        if unit is None:
            return False
        generate = member.process.generate
        if self.settings.at_once > 1:
            generate = generate.options(concurrency_group=UNITS)
        self.jobs[generate.remote(unit.requests, unit.sampling)] = Job("unit", member, time.monotonic(), unit)
        return True

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
        elif job.kind == "receive":
            self._received(job, result)
        elif job.kind == "probe" and job.version == self.weights.version:  # else the learners have gone on: once more
            job.member.admitted = True  # or the run ends here: while the learners score, it is not asked once more
            self.probe.check(result[0])
        elif job.unit is not None:
            self.counts["busy"] += max(result[1] - max(self.since - job.since, 0.0), 0.0)
            self.backlog.answered(job.unit, result[0])

    def _received(self, job: Job, whole: bool) -> None:
        """Who has streamed weights goes on, probed where that is due; who lacks them gets them from the store."""
        job.member.version = job.version if whole else None
        every = self.probe.every
        job.member.admitted = not (every and job.version % every == 0)
        if not whole and self.channel is not None:
            self.channel.broke(f"rollout worker {job.member.number} did not get all of it")

    def _replace(self, job: Job, why: str) -> None:
        """Another process in the place of one that is gone; its unit is the next that anybody gets. Of several units,
        the first that is missed says so.
        """
        if job.unit is not None:
            self.backlog.again(job.unit)
            self.counts["rollouts/requeued"] += len(job.unit.requests)
        number = job.member.number
        if self.members[number] is not job.member:
            return
        self.budget.spend(f"rollout worker {number}: {why}")
        warnings.warn(f"rollout worker {number} is replaced: {why}", stacklevel=2)
        self.counts["rollouts/restarts"] += 1
        self.ray.kill(job.member.process, no_restart=True)
        self.members[number] = Member(number, self.hire(number))
