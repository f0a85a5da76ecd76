"""Learners that are lost, without a cluster: what a run does then is the same wherever they were."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoreline.backends.runtime import Ray
from scoreline.config import cluster, launch
from scoreline.config.build import assemble
from scoreline.config.hosts import Here, Host
from scoreline.config.run import Run, completed
from scoreline.config.session import Interrupted
from scoreline.environments.rewards import RewardSpec
from scoreline.errors import ClusterError, GangLostError, RewardError
from scoreline.reports.console import LOG
from scoreline.train.learner import LocalLearner
from tests import parts
from tests.faults import victim


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Six steps, a checkpoint every two."""
    parts.policy().save(tmp_path / "model")
    return victim.run(str(tmp_path / "model"), tmp_path, "grpo")


def lost_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """SIGTERM comes in this update, and the learner is lost in it."""
    update, calls = LocalLearner.update, [0]

    def dies(self: LocalLearner, *told: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGTERM)
            raise GangLostError("A learner died.")
        return update(self, *told)

    monkeypatch.setattr(LocalLearner, "update", dies)


def test_a_stop_is_remembered_where_its_step_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lost_at(monkeypatch, 7)  # two updates a step: the fourth step
    with pytest.raises(Interrupted, match=r"Stopped by SIGTERM[\s\S]*step-000002[\s\S]*--resume") as stopped:
        launch.train(run)
    assert stopped.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    folder = launch.train(run, resume=True)
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()] == [1, 2, 3, 4, 5, 6]


def test_a_stop_before_the_first_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lost_at(monkeypatch, 1)
    with pytest.raises(Interrupted, match=r"before the first checkpoint[\s\S]*--overwrite"):
        launch.train(run)


def test_a_start_over_an_old_run_is_one_though_a_learner_dies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old run's checkpoints stay until the new one can start; it does not go on from them."""
    folder, starts = launch.train(run), list[list[str]]()

    @contextmanager
    def hosting(run: Run, *_: Any) -> Iterator[Callable[[], Host]]:
        def host() -> Host:
            starts.append(sorted(path.name for path in (folder / "checkpoints").glob("step-*")))
            if len(starts) == 1:
                raise GangLostError("A learner died.")
            return Here(run, completed(run))

        yield host

    monkeypatch.setattr(launch, "hosting", hosting)
    launch.train(replace(run, runtime=Ray(), train=replace(run.train, steps=2)), overwrite=True)
    assert "warning: all learners start again from the beginning" in (folder / LOG).read_text(encoding="utf-8")
    assert "step-000006" in starts[0] == starts[1]
    assert [path.name for path in (folder / "checkpoints").glob("step-*")] == ["step-000002"]
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()] == [1, 2]


class Lost(Here):
    """Its learner dies when it joins."""

    closed = False

    def join(self, questions: Sequence[tuple[int, ...]]) -> Any:
        assert workers()
        raise GangLostError("A learner died.")

    def close(self) -> None:
        self.closed = True


def workers() -> list[str]:
    """The processes of users' functions."""
    found = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    return [words for words in found if "scoreline.environments.worker" in words]


def test_parts_that_cannot_be_joined_leave_no_process(run: Run, tmp_path: Path) -> None:
    paid = replace(run, reward=(rewarding(tmp_path),))
    host = Lost(paid, completed(paid))
    with pytest.raises(GangLostError):
        assemble(paid, host)
    assert host.closed
    assert not workers()


def test_an_evaluation_that_cannot_be_leaves_no_process(run: Run, tmp_path: Path) -> None:
    asks = replace(run, reward=(rewarding(tmp_path),), eval=replace(run.eval, reward=(rewarding(tmp_path, "nothing"),)))
    with pytest.raises(RewardError, match="nothing"):
        launch.train(asks)
    assert not workers()


def rewarding(folder: Path, column: str = "answer") -> RewardSpec:
    """A function in a file, that asks for this column."""
    file = folder / f"asks_for_{column}.py"
    file.write_text(f"def score(completions, {column}):\n    return [1.0 for _ in completions]\n")
    return RewardSpec(f"{file}:score")


def test_a_cluster_that_never_came_does_not_take_the_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a start that failed has said is not a run that a second start could overwrite."""

    @contextmanager
    def absent(settings: Ray) -> Iterator[Any]:
        raise ClusterError("Nothing answers.")
        yield

    monkeypatch.setattr(cluster, "connected", absent)
    asked = replace(run, runtime=Ray())
    for _ in range(2):
        with pytest.raises(ClusterError, match="Nothing answers"):
            launch.train(asked)
    said = (Path(run.folder) / run.name / LOG).read_text(encoding="utf-8")
    assert said.count("starting 1 learner, 1 rollout worker") == 2
