"""One training run in progress: the loop, and everything that watches it between two steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import torch

from scoreline.config.build import Built
from scoreline.config.run import Run
from scoreline.errors import GangLostError, RewardError, ScorelineError
from scoreline.reports.console import Console
from scoreline.reports.doctor import Doctor
from scoreline.reports.page import write_report
from scoreline.reports.record import Record
from scoreline.train.checkpoint import Checkpoints
from scoreline.train.evaluate import Evaluation, Interval
from scoreline.train.iterate import Round, iterate
from scoreline.train.schedule import Progress
from scoreline.types import Report


class Interrupted(ScorelineError):  # noqa: N818 - it is the end of a run, not a fault
    """The run was told to stop, and wrote a checkpoint. `code` is the exit status."""

    code = 130


@dataclass
class Session:
    """A training run in progress: the parts, the watchers and the checkpoints, joined for one `train` call."""

    run: Run
    folder: Path
    built: Built
    console: Console
    record: Record
    checkpoints: Checkpoints
    progress: Progress
    best: float
    wall_s: float
    started: float
    doctor: Doctor
    trained_s: float = 0.0
    """Seconds that the steps took so far, those before a resume included."""

    def go(self) -> None:
        """Evaluate, train, evaluate; save on the way and when told to stop."""
        if self.progress.step == 0 and self.run.eval.before:
            self.evaluate(0, "before training")
        plan, say = self.run.train, self.console.message
        showing = self.console.training(plan.steps, done=self.progress.step, max_tokens=plan.max_tokens)
        with stop_signals(say) as told, showing as show:
            try:
                for event in timed(self.events()):
                    self.progress = Progress(**event.state)
                    if isinstance(event, Round):
                        self.round_over(event)
                        continue
                    self.trained_s += event.metrics["time/step"]
                    self.record.report(event)
                    show(event)
                    self.examine(event)
                    self.between(event.step, told)
                    if self.late():
                        break
            except RewardError:  # before the update of its step: the weights are those of the step before
                self.keep()
                raise
            except GangLostError as error:  # nobody starts the learners again for a run that was told to stop
                if told:
                    raise cut_short(told[0], self.checkpoints.newest()) from error
                raise
        self.finish()

    def events(self) -> Iterator[Report | Round]:
        """The steps and the ends of rounds that are still to come."""
        run, built = self.run, self.built
        if self.late():
            return iter(())
        return iterate(built.parts, self.progress, run.rounds, run.reference, built.apprentice)

    def late(self) -> bool:
        """Whether the seconds are spent. Steps and tokens are the loop's own ends; it has no clock."""
        return self.run.train.spent(0, self.trained_s) >= 1

    def examine(self, report: Report) -> None:
        """Say what the doctor finds in the run so far, each finding once."""
        for finding in self.doctor.see(report):
            self.console.warning(finding.line)

    @contextmanager
    def failure_noted(self) -> Iterator[None]:
        """Leaves the error that ends the run in its folder. Being told to stop is none."""
        try:
            yield
        except ScorelineError as error:
            if not isinstance(error, Interrupted):
                self.record.failed(self.progress.step, error)
            raise

    def round_over(self, end: Round) -> None:
        """Note what the judge learned, and save it."""
        self.built.jury.learned(end.number)
        self.record.round(end.number, end.step, end.metrics)
        self.console.round(end.number, end.metrics)
        self.save(end.step)

    def between(self, step: int, told: list[int]) -> None:
        """Evaluation and checkpoint after a step, where they are due, and the end if a signal asked for it."""
        plan = self.run.train
        last = plan.over(step, self.progress.tokens, self.trained_s)
        round_ends = due(step, plan.steps // self.run.rounds.count)
        if last or round_ends or due(step, self.run.eval.every):
            self.evaluate(step, "after training" if last else f"at step {step}")
        if last or told or due(step, self.run.checkpoint.every):
            self.save(step)
        if told and not last:
            raise interrupted(told[0], self.folder, step)
        if round_ends and self.built.apprentice is not None:
            self.console.message("the judge learns from this round ...")

    def evaluate(self, step: int, when: str) -> None:
        """Measure on held-out prompts; keep the best checkpoint by the named metric."""
        if self.built.evaluator is None:
            return
        self.console.message(f"evaluating {when} ...")
        evaluation = self.built.evaluator.evaluate(step)
        self.record.evaluation(evaluation)
        self.console.evaluation(evaluation)
        if step and self.run.checkpoint.best is not None:
            score = metric(evaluation, self.run.checkpoint.best).mean
            if score > self.best:
                self.best = score
                self.save(step, best=True)

    def save(self, step: int, *, best: bool = False) -> None:
        """Write a checkpoint: weights, optimiser, and the state that makes a resumed run the same run."""
        spent = {"wall_s": self.elapsed(), "trained_s": self.trained_s}
        state = {**vars(self.progress), "best": self.best, **spent}
        self.checkpoints.save(step, self.built, state, best=best)

    def keep(self) -> None:
        """A checkpoint of the last whole step, if it has none."""
        if self.progress.step and not (self.checkpoints.folder / f"step-{self.progress.step:06d}").exists():
            self.save(self.progress.step)

    def finish(self) -> None:
        """The summary and the report."""
        path = self.write_summary()
        self.console.message(f"model:  {self.checkpoints.newest() or self.folder}/hf")
        self.console.message(f"report: {path}")

    def write_summary(self) -> Path:
        """summary.json and report.html from what is on the disk."""
        device = self.built.learner.device
        self.record.summary(
            algorithm=self.run.algorithm,
            model=self.run.model.path,
            steps=self.progress.step,
            wall_s=self.elapsed(),
            tokens=self.progress.tokens,
            parameters=self.built.learner.parameters,
            peak_gpu_mb=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        )
        return write_report(self.folder)

    def elapsed(self) -> float:
        """Seconds of this run, those before a resume included."""
        return self.wall_s + time.monotonic() - self.started


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps happens now; 0 is never."""
    return every > 0 and step % every == 0


def metric(evaluation: Evaluation, name: str) -> Interval:
    """The accuracy that a checkpoint is called best by."""
    return {"greedy": evaluation.greedy, "avg@k": evaluation.avg_at_k, "pass@k": evaluation.pass_at_k}[name]


def timed(events: Iterator[Report | Round]) -> Iterator[Report | Round]:
    """The same events; reports with the seconds of each step, and those that no sampling, scoring or update took."""
    started = time.perf_counter()
    for event in events:
        yield event if isinstance(event, Round) else with_seconds(event, time.perf_counter() - started)
        started = time.perf_counter()


def with_seconds(report: Report, whole: float) -> Report:
    """The report of a step that took so long."""
    spent = sum(report.metrics[f"time/{part}"] for part in ("rollout", "score", "update"))
    return replace(report, metrics={**report.metrics, "time/annotate": whole - spent, "time/step": whole})


@contextmanager
def stop_signals(say: Callable[[str], None]) -> Iterator[list[int]]:
    """Signals that ask the run to stop, as they come in: the step is finished first. A second Ctrl-C stops at once."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if told and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.append(number)
        say("stopping: this step is finished first, then a checkpoint is written (Ctrl-C again stops at once)")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
    except ValueError:  # not the main thread: whoever runs us there keeps the signals
        before = {}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_ends() -> Iterator[None]:
    """Where no step can be finished first, before and after the training, SIGTERM ends the run as Ctrl-C does: at once,
    and its processes with it.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise stopped(number, "outside of a step.", "--resume goes on where there is a checkpoint.")

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted(number: int, folder: Path, step: int) -> Interrupted:
    """The end that a signal asked for."""
    return stopped(number, f"after step {step}; a checkpoint is in {folder}.", "--resume goes on.")


def cut_short(number: int, newest: Path | None) -> Interrupted:
    """The same where the step could not be finished."""
    if newest is None:
        return stopped(number, "before the first checkpoint: a learner died in the step.", "--overwrite starts again.")
    return stopped(number, f"while a learner died in the step; the newest checkpoint is {newest}.", "--resume goes on.")


def stopped(number: int, how: str, todo: str) -> Interrupted:
    """An end with the exit code of the signal."""
    error = Interrupted(f"Stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'} {how}", todo=todo)
    error.code = 128 + number
    return error
