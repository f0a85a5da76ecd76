"""How long processes are waited for, and how often replaced: on a cluster whose clock goes on when somebody waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scoreline.backends.cluster import budget as budgets
from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.gang import GangLearner
from scoreline.backends.cluster.process import BEGINNING, Setting, versions
from scoreline.backends.cluster.scorers import ScorerPool, ScoringProcess
from scoreline.backends.runtime import Ray
from scoreline.backends.transfer import WholeTensors
from scoreline.config import launch
from scoreline.config.run import Run
from scoreline.errors import ClusterError, GangLostError, ModelError
from scoreline.reports.console import LOG
from scoreline.types import Prompt, Reward

SETTING = Setting("process", "cpu", torch.get_num_threads(), 0, "nowhere")
NEVER = float("inf")


class LostError(Exception):
    """What a cluster says of a call that did not come back."""


class SilentError(LostError):
    """Of one that takes too long."""


class RaisedError(LostError):
    """Of one that raised, as `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(eq=False)
class Call:
    """What comes of a call, and when."""

    at: float
    result: Any


class Cluster:
    """`seconds` are those that calls of a method take."""

    exceptions = SimpleNamespace(RayError=LostError, RayTaskError=RaisedError, GetTimeoutError=SilentError)

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds, self.now, self.killed = seconds, 0.0, 0
        group = SimpleNamespace(ready=lambda: Call(0.0, None))
        self.util = SimpleNamespace(
            placement_group=lambda *_, **__: group,
            remove_placement_group=lambda group: None,
            scheduling_strategies=SimpleNamespace(PlacementGroupSchedulingStrategy=lambda **_: None),
        )

    def call(self, method: str, act: Callable[[], Any]) -> Call:
        try:
            return Call(self.now + self.seconds.get(method, 0.0), act())
        except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
            return Call(self.now, RaisedError(error))

    def wait(self, calls: Sequence[Call], *, timeout: float, num_returns: int = 1) -> tuple[list[Call], list[Call]]:
        self.now = max(self.now, min(self.now + timeout, *(call.at for call in calls)))
        return [call for call in calls if call.at <= self.now], [call for call in calls if call.at > self.now]

    def get(self, asked: Call | list[Call]) -> Any:
        if isinstance(asked, list):
            return [self.get(call) for call in asked]
        if isinstance(asked.result, LostError):
            raise asked.result
        return asked.result

    def kill(self, process: Any, **_: Any) -> None:
        self.killed += 1
        assert self.killed < 100, "without end"

    def process(self, actor: Any) -> Any:
        return Process(self, actor)

    def remote(self, **_: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=lambda *told: self.process(Learning()))


@dataclass
class Process:
    cluster: Cluster
    actor: Any

    def __getattr__(self, method: str) -> Any:
        act = getattr(self.actor, method)
        return SimpleNamespace(remote=lambda *told: self.cluster.call(method, lambda: act(*told)))


class Learning:
    """A rank that says what it should."""

    def whereabouts(self) -> tuple[str, int, dict[str, str]]:
        return "node", 1, versions()

    def meeting(self) -> str:
        return "127.0.0.1:1"

    def build(self, meeting: str, timeout: float, learners: int) -> tuple[None, int]:
        assert timeout >= BEGINNING, "it waits for the other ranks as long as it is waited for"
        return None, 1

    def refresh(self, mix: float) -> None: ...


class Ones:
    """Scores."""

    def score(self, prompts: Sequence[Prompt], *_: Any) -> list[Reward]:
        return [Reward(1.0) for _ in prompts]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster({})
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@pytest.mark.parametrize(("most", "timeout"), [(10, 600.0), (30, 1800.0), (100, 8.0), (2, 7200.0)])
@pytest.mark.parametrize("starts", [True, False])
def test_timeouts_alone_spend_the_budget(cluster: Cluster, most: int, timeout: float, starts: bool) -> None:
    """Of a process that never ends its start, and of one that ends it at the last moment and then nothing else."""
    budget, start = Budget(most, timeout), max(timeout, BEGINNING)
    for _ in range(most):
        cluster.now += start if starts else start + timeout
        budget.spend("silent")
    cluster.now += start + timeout
    with pytest.raises(ClusterError, match=r"Too many processes[\s\S]*: silent[\s\S]*raise runtime.timeout"):
        budget.spend("silent")


def test_a_death_now_and_then_does_not_spend_it(cluster: Cluster) -> None:
    budget = Budget(1, 600.0)
    for _ in range(10):
        cluster.now += budgets.HOUR + 1
        budget.spend("died")
    with pytest.raises(ClusterError, match="2 within 1 h; the last one: died"):
        budget.spend("died")


def test_learners_that_are_always_too_slow_end_the_run(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def hosting(*_: Any) -> Iterator[None]:
        yield None

    def attempt(*_: Any, **__: Any) -> None:
        cluster.now += 1860.0
        assert cluster.now < 1e5, "without end"
        raise GangLostError("A learner says nothing any more.")

    monkeypatch.setattr(launch, "hosting", hosting)
    monkeypatch.setattr(launch, "opened", attempt)
    run = Run(folder=str(tmp_path), runtime=Ray(timeout=1800.0))
    with pytest.raises(ClusterError, match=r"11 within 11 h; the last one: A learner says nothing"):
        launch.train(run)
    assert (tmp_path / run.name / LOG).read_text(encoding="utf-8").count("all learners start again") == 10


def test_a_learner_may_load_longer_than_compute(cluster: Cluster) -> None:
    cluster.seconds = {"build": 300.0, "refresh": 40.0}
    made: Any = None
    gang = GangLearner(cluster, Ray(learners=2, timeout=30.0), made, WholeTensors(), SETTING, 0.0)
    with pytest.raises(GangLostError, match=r"for 30 s, which is runtime.timeout"):
        gang.refresh(0.5)


def scorers(cluster: Cluster, make: Callable[[], Any], budget: Budget, timeout: float = 30.0) -> ScorerPool:
    return ScorerPool(cluster, lambda number: cluster.process(ScoringProcess(make, SETTING)), 2, timeout, budget)


def test_what_a_scorer_cannot_load_ends_the_run_at_once(cluster: Cluster) -> None:
    def missing() -> Any:
        raise ModelError("no such judge")

    pool = scorers(cluster, missing, Budget(3))
    with pytest.raises(ModelError, match="no such judge"):
        pool.open()
    assert cluster.killed == 0, "another one in its place could not load it either"


def test_a_scorer_may_load_longer_than_score(cluster: Cluster) -> None:
    cluster.seconds = {"whereabouts": 300.0}
    pool = scorers(cluster, Ones, Budget(0))
    pool.open()
    assert [reward.total for reward in pool.score([Prompt("q", "")] * 2, ["", ""], [(), ()])] == [1.0, 1.0]


def test_a_scorer_that_is_silent_is_replaced_as_often_as_may_be(cluster: Cluster) -> None:
    pool = scorers(cluster, Ones, Budget(3, 3000.0), timeout=3000.0)
    pool.open()
    cluster.seconds = {"score": NEVER}
    told = pytest.warns(UserWarning, match="scorer 0 is replaced: said nothing for 3000 s, which is runtime.timeout")
    with told, pytest.raises(ClusterError, match=r"4 within [\s\S]*scorer 0: said nothing[\s\S]*raise runtime.timeout"):
        pool.score([Prompt("q", "")], [""], [()])
    assert cluster.killed == 3
