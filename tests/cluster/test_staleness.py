"""Asynchronous runs on a cluster: synchronous where nothing may be stale, bounded and learning where something may."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from scoreline.backends.cluster.pool import RolloutPool
from scoreline.backends.runtime import Local as InProcess
from scoreline.config.build import build
from scoreline.config.launch import train
from scoreline.config.run import Eval
from scoreline.objectives.objective import Resample
from scoreline.rollout.collect import Collector
from scoreline.rollout.local import Local
from tests.cluster.small_run import completions, metrics, on, recorded, weights

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PLAN = recorded(ROOT, InProcess()).train
TOLD = ("sampling/importance_ratio", "sampling/importance_sampling_ratio/mean", "rollout_train_kl", "staleness/mean")


@pytest.mark.parametrize("resampling", [False, True])
def test_nothing_stale_is_the_local_run_bit_for_bit(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resampling: bool
) -> None:
    asked: list[int] = []
    begin = Collector._begin

    def counted(self: Collector, cursor: int, steps: int) -> None:
        asked.append(0 if self.foreseeing is None else steps)
        begin(self, cursor, steps)

    monkeypatch.setattr(Collector, "_begin", counted)
    local = recorded(tmp_path / "local", InProcess(unit=3))
    ray = recorded(tmp_path / "ray", on(cluster, unit=3, rollouts=2))
    if resampling:
        more = replace(local.objective, resample=Resample(2))
        local, ray = replace(local, objective=more), replace(ray, objective=more)
    one, other = train(local), train(ray)
    assert asked == [0] * 6 + [1] * 6, "each step of the cluster's run was expected, and nothing beyond it"
    assert [weights(one, step) for step in (4, 6)] == [weights(other, step) for step in (4, 6)]
    assert {row["staleness/max"] for row in metrics(other)} == {0.0}
    assert completions(one) == completions(other)


@pytest.mark.parametrize("bound", [1, 4])
def test_stale_answers_teach_and_are_never_older_than_they_may_be(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    handed: list[object] = []
    finished = RolloutPool.finished
    monkeypatch.setattr(RolloutPool, "finished", lambda pool, ref: (handed.append(ref), finished(pool, ref)))
    plan, between = replace(PLAN, steps=24, prompts_per_step=16), Eval(prompts=20, before=False, every=10)
    folder = train(recorded(tmp_path, on(cluster, max_staleness=bound, rollouts=2, unit=4), train=plan, eval=between))
    rows = metrics(folder)
    assert len(handed) > plan.steps, "workers go on while the learner learns"
    assert max(row["staleness/max"] for row in rows) == bound, "workers are ahead of the learner by all that they may"
    assert sum(row["rollouts/dropped"] for row in rows) == 0
    assert all(name in row for row in rows for name in TOLD)
    assert any(row["sampling/importance_ratio"] != 1 for row in rows)
    assert fmean(row["reward"] for row in rows[-4:]) > fmean(row["reward"] for row in rows[:2]) + 0.15
    for step, answers in enumerate(completions(folder)):
        assert {answer["version"] for answer in answers} <= set(range(step - bound, step + 1))


def test_resampling_keeps_the_bound(cluster: str, tmp_path: Path) -> None:
    run = recorded(tmp_path, on(cluster, max_staleness=2, rollouts=2, unit=3))
    folder = train(replace(run, objective=replace(run.objective, resample=Resample(3))))
    rows = metrics(folder)
    assert any(row["resampled_groups"] for row in rows)
    assert max(row["staleness/max"] for row in rows) in (1, 2)
    assert sum(row["rollouts/dropped"] for row in rows) == 0


def told_after(folder: Path, cluster: str, step: int, name: str) -> tuple[int, str]:
    """How a run in a process of its own ended that got a signal after this step, and what it said."""
    told = [sys.executable, "-m", "tests.cluster.signalled", str(folder), cluster, "1", str(step), name]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=280)
    return done.returncode, done.stderr


@pytest.mark.timeout(900)
def test_stopped_and_killed_and_resumed_loses_no_question_and_uses_none_twice(cluster: str, tmp_path: Path) -> None:
    code, said = told_after(tmp_path, cluster, 1, "SIGTERM")  # with the next step's units in the middle
    assert "Stopped by SIGTERM after step 2" in said
    code, said = told_after(tmp_path, cluster, 5, "SIGKILL")
    assert code == -signal.SIGKILL, said
    code, said = told_after(tmp_path, cluster, 0, "SIGKILL")
    assert code == 0, said
    folder = tmp_path / "recorded"
    seen = [answer["id"] for answers in completions(folder) for answer in answers]
    collector = build(recorded(tmp_path, InProcess())).parts.collector
    places = range(PLAN.steps * PLAN.prompts_per_step)
    expected = [collector.prompts[collector._index(place)].prompt.id for place in places]
    assert seen == [name for name in expected for _ in range(PLAN.num_generations)]
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3, 4, 5, 6]
    assert max(row["staleness/max"] for row in metrics(folder)) == 1


def test_long_answers_span_versions(cluster: str, tmp_path: Path) -> None:
    slow = Local(rows=4)  # a few answers at once: workers are slower than the learner, and new weights find them at it
    runtime = on(cluster, max_staleness=2, unit=8, in_flight=True)
    folder = train(recorded(tmp_path, runtime, train=replace(PLAN, minibatches=1), engine=slow))
    rows, steps = metrics(folder), completions(folder)
    mixed = [(step, answer) for step, answers in enumerate(steps) for answer in answers if "versions" in answer]
    assert mixed
    assert sum(row["staleness/mixed"] * 64 for row in rows) == pytest.approx(len(mixed))
    for step, answer in mixed:
        versions = answer["versions"]
        assert len(versions) == answer["length"]
        assert all(a <= b for a, b in pairwise(versions))
        assert answer["version"] == versions[0] < versions[-1] <= step
        assert versions[0] >= step - 2
    assert max(row["staleness/max"] for row in rows) <= 2
