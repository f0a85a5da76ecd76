"""Scorers as processes of the cluster."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scoreline.backends.cluster.beside import first
from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.connect import connected
from scoreline.backends.cluster.process import Setting, places, spawn
from scoreline.backends.cluster.scorers import ScorerPool, ScoringProcess, shares
from scoreline.backends.runtime import Ray
from scoreline.config.launch import train
from scoreline.errors import ConfigError, ModelError, RewardError
from scoreline.types import Prompt
from tests.cluster.killing import Killer, killing
from tests.cluster.small_run import left, metrics, small

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

SLOW = """
import time
def slow(completions, **columns):
    time.sleep(0.4)
    return [float(len(text) % 3) for text in completions]
def wrong(completions, **columns):
    raise ValueError("no idea")
"""


def asked(*answers: int) -> list[Prompt]:
    return [Prompt(f"q:{i}", "") for i, count in enumerate(answers) for _ in range(count)]


def test_questions_stay_whole() -> None:
    assert shares(asked(2, 3, 1, 2), 2) == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert shares(asked(4), 3) == [[0, 1, 2, 3]]
    assert [row for part in shares(asked(1, 1, 1, 1, 1), 3) for row in part] == [0, 1, 2, 3, 4]


def rewarded(tmp_path: Path, function: str) -> str:
    (tmp_path / "mine.py").write_text(SLOW)
    return f'reward=[{{function = "{tmp_path}/mine.py:{function}"}}]'


@pytest.mark.ray
def test_scorers_change_no_reward_and_may_die(tmp_path: Path) -> None:
    reward, none = rewarded(tmp_path, "slow"), "data.held_out=0"
    whole = left(train(small(tmp_path, "here", reward, none, "train.steps=4")))
    killer = Killer(lambda: "ray::ScoringProcess.score", 1, lambda: 1.0)
    with killing(killer):
        run = train(small(tmp_path, "there", reward, none, "train.steps=4", "runtime.scorers=2"))
    assert killer.killed
    assert left(run) == whole


class Chain:
    """Short calls one after the other, each begun when the last one is handed over."""

    def __init__(self, ray: Any) -> None:
        self.work = ray.remote(num_cpus=1)(lambda seconds: time.sleep(seconds))
        self.ref, self.ended = self.work.remote(0.05), 0

    def pending(self) -> list[Any]:
        return [self.ref]

    def finished(self, ref: Any) -> None:
        assert ref == self.ref
        self.ref, self.ended = self.work.remote(0.05), self.ended + 1


@pytest.mark.ray
def test_others_are_served_while_one_is_waited_for(cluster: str) -> None:
    with connected(Ray(address=cluster)) as ray:
        chain = Chain(ray)
        waited = chain.work.remote(2.0)
        assert first(ray, [waited], chain, time.monotonic() + 60.0) == waited
        assert chain.ended >= 2
        assert first(ray, [chain.work.remote(5.0)], None, time.monotonic() + 0.1) is None


@pytest.mark.ray
def test_a_reward_that_raises_there_is_told_here(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="no idea"):
        train(small(tmp_path, "run", rewarded(tmp_path, "wrong"), "data.held_out=0", "runtime.scorers=1"))


@pytest.mark.ray
@pytest.mark.parametrize("function", ["mine.py:slow", "mine:slow"])
def test_a_scorer_that_was_started_elsewhere_finds_the_rewards(
    tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """A file of this folder, or a module, in a process of a cluster that was there before."""
    rewarded(tmp_path, "slow")
    monkeypatch.chdir(tmp_path)
    more = (f'reward=[{{function = "{function}"}}]', "data.held_out=0", "train.steps=1", "runtime.scorers=1")
    run = train(small(tmp_path, "run", *more, f"runtime.address={cluster}"))
    assert len(metrics(run)) == 1


@pytest.mark.ray
def test_what_a_scorer_cannot_load_is_told_here(cluster: str) -> None:
    def missing() -> Any:
        raise ModelError("no such judge")

    setting = Setting("scorer-0", "cpu", 1, 0, "nowhere")
    with connected(Ray(address=cluster)) as ray:
        desk = places(ray, 1, "SPREAD", 0.0, 60.0)
        hire = partial(spawn, ray, ScoringProcess, (desk, 0), gpus=0.0, threads=1, arguments=(missing, setting))
        pool = ScorerPool(ray, lambda number: hire(), 1, 60.0, Budget(3))
        with pytest.raises(ModelError, match="no such judge"):
            pool.open()


@pytest.mark.ray
def test_a_judge_that_learns_is_in_one_process(tmp_path: Path) -> None:
    judged = ('judge.path="tiny"', 'reward=[{function = "judge"}]', 'eval.reward=[{function = "last_number"}]')
    with pytest.raises(ConfigError, match="lives in one process"):
        train(small(tmp_path, "run", *judged, "runtime.scorers=1"))
