"""Runs as processes of their own, several at a time: what stops one does not stop the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoreline.config.compare.files import Files, Stage
from scoreline.config.compare.trials import Trial
from scoreline.config.dump import dump
from scoreline.reports import jsonl
from scoreline.reports.compare.arms import PROBE
from scoreline.reports.plaintext import visible

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
"""How a process ends that was told to stop: with a checkpoint, or before it could take notice."""

LAST_LINES, LONGEST = 4, 500
SOON = 0.2
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Ended:
    """A run is over; `failed` says why it did not get to the end."""

    trial: Trial
    seconds: float
    failed: str | None = None


@dataclass
class Child:
    """A run that goes on: the process of its present stage, and the stages behind it."""

    trial: Trial
    process: subprocess.Popen[bytes]
    stages: list[Stage]
    started: float


@dataclass(frozen=True)
class Workshop:
    """Where runs are made: `jobs` at a time, each on `threads` threads. They hold the `lock` as long as they live."""

    files: Files
    jobs: int
    threads: int
    lock: int | None = None

    def work(
        self, waiting: Sequence[Trial], told: Sequence[int], look: Callable[[Sequence[Trial]], None]
    ) -> Iterator[Ended]:
        """Make the runs, and yield each as it ends. `look` sees those that go on, again and again.

        As soon as `told` holds a signal no run is started, and those that go on are told to stop, which leaves a
        checkpoint. Whatever else ends this, an exception or a second Ctrl-C, kills them; they can be resumed too.
        """
        queue, going, passed = deque(waiting), list[Child](), False
        try:
            while going or (queue and not told):
                while queue and len(going) < self.jobs and not told:
                    trial = queue.popleft()
                    going.append(self._start(trial, self.files.stages(trial), time.monotonic()))
                if told and not passed:
                    passed = True
                    stop(going)
                for child in [child for child in going if child.process.poll() is not None]:
                    going.remove(child)
                    if child.process.returncode == 0 and child.stages and not told:
                        going.append(self._start(child.trial, child.stages, child.started))
                    else:
                        yield self._ended(child, stopped=bool(told))
                look([child.trial for child in going])
                time.sleep(SOON)
        finally:
            for child in going:
                child.process.kill()
                child.process.wait()

    def _start(self, trial: Trial, stages: Sequence[Stage], started: float) -> Child:
        """The next stage of a run. A run goes on where it was left; one that is new starts."""
        self.files.failure(trial).unlink(missing_ok=True)
        command = self._train(trial) if stages[0] == "train" else self._probe(trial)
        log = self.files.log(trial)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "scoreline", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(self.threads), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # a Ctrl-C of the terminal comes here alone, and is passed on once
                pass_fds=() if self.lock is None else (self.lock,),
            )
        return Child(trial, process, list(stages[1:]), started)

    def _train(self, trial: Trial) -> list[str]:
        recipe = self.files.recipe(trial)
        recipe.parent.mkdir(parents=True, exist_ok=True)
        jsonl.replace(recipe, dump(trial.run))
        resume = ["--resume"] if trial.folder.is_dir() and any(trial.folder.iterdir()) else []
        return ["train", str(recipe), *resume]

    def _probe(self, trial: Trial) -> list[str]:
        recipe = self.files.recipe(trial, "probe")
        (trial.folder / PROBE).unlink(missing_ok=True)
        recipe.parent.mkdir(parents=True, exist_ok=True)
        jsonl.replace(recipe, self.files.probe or "")
        return ["probe", str(trial.folder), str(recipe)]

    def _ended(self, child: Child, *, stopped: bool) -> Ended:
        code, seconds = child.process.returncode, time.monotonic() - child.started
        if stopped and (code in STOPPED or child.stages):
            return Ended(child.trial, seconds, "stopped; it can go on")
        if code == 0:
            return Ended(child.trial, seconds)
        reason = f"{_how(code)}: {last_lines(self.files.log(child.trial))}"
        jsonl.replace(self.files.failure(child.trial), reason + "\n")
        return Ended(child.trial, seconds, reason)


def stop(going: Sequence[Child]) -> None:
    """Ask runs to finish their step and leave a checkpoint."""
    for child in going:
        child.process.terminate()


def _how(code: int) -> str:
    return f"exit {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"


def last_lines(log: Path) -> str:
    """The end of a log, for people: its last lines that say something."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = visible(" / ".join(lines[-LAST_LINES:]))
    return f"... {said[-LONGEST:]}" if len(said) > LONGEST else said or "it said nothing"
