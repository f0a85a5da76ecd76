"""A pool of workers over a cluster that is a list: every call is made when somebody waits for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.channel import Channel
from scoreline.backends.cluster.pool import RolloutPool
from scoreline.backends.cluster.process import Setting
from scoreline.backends.cluster.worker import Worker
from scoreline.backends.parity import Probe
from scoreline.backends.runtime import Ray
from scoreline.backends.transfer import GLOO, Seat, WholeTensors
from scoreline.models.policy import Policy
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.learner import LocalLearner
from scoreline.types import Batch, Request
from tests import parts

SAMPLED = Sampling(max_completion_length=4)
PROBED = [Request((5, 6), (-2, 0, j)) for j in range(2)]
TRANSFER = WholeTensors()
STUCK = object()
"""What a call returns that does not."""


class DiedError(Exception):
    """What a cluster says of a call to a process that is gone."""


@dataclass(eq=False)
class Call:
    """A call of a process: made once, and what came of it."""

    act: Callable[[], Any]
    made: bool = False
    result: Any = None

    def over(self) -> bool:
        if not self.made:
            self.made, self.result = True, self.act()
        return self.result is not STUCK


class Cluster:
    """`wait` lets everything end that is waited for and is not stuck."""

    exceptions = SimpleNamespace(RayError=DiedError, RayTaskError=ZeroDivisionError)

    def wait(self, calls: Sequence[Call], **_: Any) -> tuple[list[Call], list[Call]]:
        return [call for call in calls if call.over()], [call for call in calls if not call.over()]

    def get(self, call: Call) -> Any:
        if isinstance(call.result, DiedError):
            raise call.result
        return call.result

    def kill(self, process: Process, **_: Any) -> None:
        process.alive = False


class Process:
    """A worker, as the pool sees it: `process.generate.remote(...)`. `log` has what it was called for."""

    def __init__(self, worker: Taking, log: list[str]) -> None:
        self.worker, self.log, self.alive = worker, log, True

    def __getattr__(self, method: str) -> Any:
        def remote(*told: Any) -> Call:
            self.log.append("probe" if told and told[0] is PROBED else method)
            return Call(lambda: getattr(self.worker, method)(*told) if self.alive else DiedError("it is gone"))

        return SimpleNamespace(remote=remote, options=lambda **_: SimpleNamespace(remote=remote))


class Taking(Worker):
    """A worker whose stream is the learner's memory; its first streams end as `ends` says."""

    def __init__(self, learner: LocalLearner, ends: Sequence[Any]) -> None:
        super().__init__(make, TRANSFER, Setting("worker", "cpu", torch.get_num_threads(), 0, "nowhere"))
        self.learner, self.ends = learner, list(ends)

    def receive(self, version: int, seat: Seat) -> Any:
        if self.ends:
            return self.ends.pop(0)
        TRANSFER.received(TRANSFER.sent(self.learner.whole_weights()), self.policy)
        self.engine.load(version)
        return True


def make() -> tuple[Policy, LocalEngine]:
    policy = parts.policy(seed=1)
    return policy, LocalEngine(policy)


@dataclass
class Stage:
    """A learner and two workers. While the learner computes, what the workers are at ends."""

    cluster: Cluster = field(default_factory=Cluster)
    learner: LocalLearner = field(default_factory=lambda: LocalLearner(parts.policy(), grpo))
    log: list[str] = field(default_factory=list)
    ends: Sequence[Any] = ()
    """Of the first streams to worker 0."""
    why: str = ""
    """What the learner says of them."""
    every: int = 0
    timeout: float = 60.0
    at_once: int = 1

    def open(self) -> RolloutPool:
        probe = Probe(PROBED, SAMPLED, self, 1e-3, 1e-2, self.every)  # type: ignore[arg-type]
        channel = Channel(self, GLOO, "fp32", 600.0)  # type: ignore[arg-type]
        told = Ray(rollouts=2, max_staleness=1, timeout=self.timeout, at_once=self.at_once)
        self.pool = RolloutPool(self.cluster, told, self.hire, self.publish, probe, 1, Budget(9), channel)
        self.pool.open()
        return self.pool

    def hire(self, number: int) -> Process:
        return Process(Taking(self.learner, () if number else self.ends), self.log)

    def busy(self) -> None:
        """The learner computes: once for what there is, and once for what comes after it."""
        for _ in range(2):
            for call in self.cluster.wait(self.pool.pending())[0]:
                self.pool.finished(call)

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch:
        if hasattr(self, "pool"):
            self.busy()
        return self.learner.annotate(batch, passes)

    def publish(self) -> Any:
        if hasattr(self, "pool"):
            self.busy()
        return TRANSFER.sent(self.learner.whole_weights())

    def meeting(self) -> str:
        return "127.0.0.1:1"

    def send(self, seat: Seat) -> str:
        return self.why

    def run(self, first: int, last: int) -> None:
        """Steps of an asynchronous run: answers, an update, weights; meanwhile the next step is sampled."""
        for number in range(first, last):
            for one in (number, number + 1):
                self.pool.expect(asked(one), SAMPLED)
            answers = self.pool.generate(asked(number), SAMPLED)
            assert {answer.version for answer in answers} <= {number - 1, number}
            self.busy()
            torch.manual_seed(number)
            with torch.no_grad():
                for weight in self.learner.policy.weights().values():
                    weight.add_(0.2 * torch.randn_like(weight))
            self.pool.load(number + 1)


def asked(step: int) -> list[Request]:
    return [Request((5, 6), (0, 0, 2 * step + i, j)) for i in range(2) for j in range(2)]


def test_a_worker_whose_answers_are_scored_is_not_probed_once_more() -> None:
    """The second probe would be found in the next stream, and held against weights that it was not made with."""
    stage = Stage()
    pool = stage.open()
    assert stage.log.count("probe") == 2
    stage.cluster.kill(pool.members[0].process)
    with pytest.warns(UserWarning, match="rollout worker 0 is replaced"):
        stage.run(0, 4)
    assert pool.members[0].admitted
    assert stage.log.count("probe") == 3


def test_a_probe_is_over_before_the_learners_go_on() -> None:
    stage = Stage(every=1)
    stage.open()
    stage.run(0, 4)
    assert stage.log.count("receive") == 2 * 4
    assert stage.log.count("probe") == 2 + 2 * 3, "none is made twice"
    assert stage.log.count("load") == 2, "all were admitted in time for the next stream"


def test_who_lacks_a_stream_gets_its_weights_before_the_learners_go_on() -> None:
    stage = Stage(ends=[False])
    pool = stage.open()
    with pytest.warns(UserWarning, match="a stream was lost: rollout worker 0 did not get all of it"):
        stage.run(0, 2)
    assert stage.log.count("load") == 3, "one of each worker at the start, and one in place of the stream"
    assert pool.channel is not None
    assert (pool.channel.groups, pool.weights.sent) == (2, None), "the next stream is a stream again"


def test_a_new_worker_is_admitted_though_the_other_is_never_late() -> None:
    stage = Stage()
    pool = stage.open()
    stage.run(0, 1)
    stage.cluster.kill(pool.members[0].process)
    with pytest.warns(UserWarning, match="rollout worker 0 is replaced"):
        stage.run(1, 5)
    assert all(member.admitted for member in pool.members)
    assert pool.weights.sent is None


def test_nobody_waits_for_who_is_stuck_in_a_lost_stream() -> None:
    stage = Stage(ends=[STUCK], why="nobody took part")
    stage.open()
    started = time.monotonic()
    with pytest.warns(UserWarning, match="a stream was lost: nobody took part"):
        stage.run(0, 4)
    assert time.monotonic() - started < stage.timeout / 2
    assert stage.log.count("receive") == 2, "one stream; then the store"


def test_who_is_stuck_is_replaced_though_nobody_waits_for_it() -> None:
    stage = Stage(ends=[STUCK], timeout=0.5)
    pool = stage.open()
    stage.run(0, 1)
    time.sleep(stage.timeout)
    stage.ends = ()
    with pytest.warns(UserWarning, match=r"rollout worker 0 is replaced: said nothing for 0.5 s"):
        stage.run(1, 5)
    assert all(member.admitted for member in pool.members)
    assert pool.weights.sent is None


def test_a_worker_is_at_several_units_and_dies_once() -> None:
    stage = Stage(at_once=2)
    pool = stage.open()
    for step in range(3):
        pool.expect(asked(step), SAMPLED)
    held = Counter(job.member.number for job in pool.jobs.values())
    assert held == {0: 2, 1: 2}, "in turn; two of the six units wait"
    stage.cluster.kill(pool.members[0].process)
    with pytest.warns(UserWarning, match="rollout worker 0 is replaced") as told:
        answers = [answer for step in range(3) for answer in pool.generate(asked(step), SAMPLED)]
    assert len(told) == 1
    assert len(answers) == 3 * 4
    facts = pool.facts()
    assert (facts["rollouts/restarts"], facts["rollouts/requeued"]) == (1, 2 * 2)
    assert not pool.jobs
