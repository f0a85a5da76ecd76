"""Any process of a run may die at any time: what is trained is, bit by bit, what it would have been."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoreline.config.launch import train
from scoreline.config.session import Session
from scoreline.errors import CheckpointError, ClusterError
from tests.cluster.killing import GENERATING, RANK, UPDATING, WORKER, Killer, killing, processes
from tests.cluster.small_run import RECIPE, left, small, told

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run leaves that nothing happens to."""
    return left(train(small(tmp_path_factory.mktemp("whole"), "whole")))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    until = time.monotonic() + 20
    while (rest := [p for p in psutil.Process().children(recursive=True) if is_ours(p)]) and time.monotonic() < until:
        time.sleep(0.2)
    assert not rest


def is_ours(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline())
        ours = any(name in words for name in ("ray::", "raylet", "scoreline.environments.worker"))
        return ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def facts(run: Path, name: str) -> float:
    return sum(json.loads(line)[name] for line in (run / "metrics.jsonl").read_text().splitlines())


def test_workers_killed_in_mid_generation(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    killer = Killer(lambda: GENERATING, 2, lambda: 0.5)
    with killing(killer):
        run = train(small(tmp_path, "run"))
    assert killer.killed == [GENERATING] * 2
    assert left(run) == undisturbed
    assert facts(run, "rollouts/restarts") >= 1  # a death in an evaluation is not of a step


def test_a_worker_that_hangs_is_replaced(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    killer = Killer(lambda: GENERATING, 1, lambda: 0.5, signal.SIGSTOP)
    with killing(killer):
        run = train(small(tmp_path, "run", "runtime.timeout=8"))
    assert killer.killed == [GENERATING]
    assert left(run) == undisturbed


def test_a_learner_killed_in_mid_update(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    killer = Killer(lambda: UPDATING, 1, lambda: 0.5)
    with killing(killer):
        run = train(small(tmp_path, "run"))
    assert killer.killed == [UPDATING]
    assert left(run) == undisturbed


def test_one_of_two_learners_killed_in_mid_update(tmp_path: Path) -> None:
    two = ("runtime.learners=2", "runtime.rollouts=1", "train.steps=6")
    whole = left(train(small(tmp_path, "whole", *two)))
    killer = Killer(lambda: UPDATING, 1, lambda: 0.5)
    with killing(killer):
        run = train(small(tmp_path, "run", *two))
    assert killer.killed == [UPDATING]
    assert left(run) == whole


def test_twenty_random_kills(tmp_path: Path) -> None:
    long = ("train.steps=60", "eval.before=false")
    whole = left(train(small(tmp_path, "whole", *long)))
    dice = random.Random(0)
    kinds = [GENERATING] * 6 + [WORKER] * 6 + [UPDATING, RANK]
    killer = Killer(lambda: dice.choice(kinds), 20, lambda: dice.uniform(0.05, 2.0))
    with killing(killer):
        run = train(small(tmp_path, "run", *long))
    assert len(killer.killed) == 20
    assert left(run) == whole
    assert [step for step, *_ in whole["course"]] == list(range(1, 61)), "nothing lost, nothing twice"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of another process as Linux does")
def test_a_learner_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first checkpoint one of two learners can write no file above 100 kB."""
    between = Session.between

    def full(self: Session, step: int, told: list[int]) -> None:
        between(self, step, told)
        if step == 3:
            resource.prlimit(processes(RANK)[0], resource.RLIMIT_FSIZE, (100_000, 100_000))

    monkeypatch.setattr(Session, "between", full)
    run = small(tmp_path, "run", "runtime.learners=2", "runtime.rollouts=1")
    with pytest.raises(CheckpointError, match=r"could not be written[\s\S]*File too large[\s\S]*--resume"):
        train(run)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000003"]
    monkeypatch.undo()
    assert left(train(run, resume=True))["step"] == "step-000009"


def test_too_many_deaths_stop_the_run(tmp_path: Path) -> None:
    killer = Killer(lambda: GENERATING, 3, lambda: 0.2)
    with killing(killer), pytest.raises(ClusterError, match="Too many processes") as stopped:
        train(small(tmp_path, "run", "runtime.max_restarts=1", "train.steps=100"))
    assert "2 within 1 h" in str(stopped.value)
    assert "workers/" in str(stopped.value)


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """A run from the command line, in a process group of its own; its errors go into the file `said`."""
    words = [sys.executable, "-m", "scoreline", "train", str(RECIPE), *told(folder, "run"), *more]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(words, stderr=said, start_new_session=True)


def wait_for(what: str, process: subprocess.Popen[bytes], after: Path) -> None:
    while not (after.exists() and processes(what)):
        assert process.poll() is None, "the run ended before it could be disturbed"
        time.sleep(0.005)


@pytest.mark.parametrize("doing", [GENERATING, UPDATING])
def test_the_controller_killed_and_resumed(tmp_path: Path, undisturbed: dict[str, Any], doing: str) -> None:
    process = start(tmp_path)
    wait_for(doing, process, tmp_path / "run/checkpoints/step-000003")
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=120)  # Ray itself takes half a minute to see it
    assert not [child for child in children if child.is_running() and is_ours(child)], "workers outlived the controller"
    assert start(tmp_path, "--resume").wait() == 0
    assert left(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("whom", ["controller", "group", "all"])
def test_sigterm_writes_a_checkpoint(tmp_path: Path, whom: str) -> None:
    """To the controller alone; to its process group, as `timeout` sends it; to all processes, as systemd does."""
    process = start(tmp_path, "train.steps=500", "checkpoint.every=0")
    wait_for(UPDATING, process, tmp_path / "run/metrics.jsonl")
    if whom == "all":
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
    process.terminate() if whom != "group" else os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=45) == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM after step" in (tmp_path / "said").read_text()
    assert list((tmp_path / "run/checkpoints").glob("step-*"))
