"""What a person sees while a run goes on: a progress bar on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from scoreline.reports import jsonl
from scoreline.reports.plaintext import clipped, spoken, visible
from scoreline.secret import masked
from scoreline.types import Metrics, Report, Rollout

if TYPE_CHECKING:
    from scoreline.train.evaluate import Evaluation, Interval

LOG = "log.txt"
"""The file of a run's folder that repeats every line."""

_COLUMNS = {
    "reward": "reward",
    "step_reward": "step reward",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "length",
}

_SPENT = {"time/wait": "waiting", "time/sync": "weights"}
_LOST = {"rollouts/restarts": "replaced", "rollouts/dropped": "answers too old"}
NOTABLE = 0.1
"""A share of a step's time that is worth a person's attention."""

_LEARNED = {"judge/loss": "loss", "judge/calibration_error": "calibration error"}


@dataclass
class Meter:
    """Counts work of a known total and estimates the time that is left."""

    description: str
    total: int
    done: float
    start: float = field(default_factory=time.monotonic)
    note: str = ""
    first: float = field(init=False)
    """What was done before this meter started, as in a resumed run."""

    def __post_init__(self) -> None:
        self.first = self.done

    def advance(self, n: float = 1) -> None:
        self.done += n

    def left(self) -> str:
        """`1:05 left`, at the mean speed so far."""
        elapsed = time.monotonic() - self.start
        worked = self.done - self.first
        seconds = round(elapsed / (worked if worked > 0 else 1) * max(self.total - self.done, 0))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"

    def line(self) -> str:
        width = len(str(self.total))
        parts = (f"{self.description} {round(self.done):>{width}}/{self.total}", self.note, self.left())
        return "  ".join(part for part in parts if part)


Advance = Callable[..., None]
"""`advance(n=1, note="")`: n more pieces of work are done."""


class Console:
    """Shows a run on `stream` (standard output by default) and repeats every line in the run's log file.

    On a terminal there is a live progress bar; in a pipe, under CI and with NO_COLOR there are plain lines. Text from
    models and data is shown character by character, never as markup. Sample answers come with the first step and with
    every `samples_every`-th (0: never).
    """

    def __init__(self, *, log: Path | None = None, stream: TextIO | None = None, samples_every: int = 20) -> None:
        self.log = log
        self.samples_every = samples_every
        self._stream = stream or sys.stdout
        self.live = _is_live(self._stream)
        self._terminal = Terminal(file=self._stream, highlight=False)
        self._progress = _progress(self._terminal)
        self._open = 0

    def message(self, text: str) -> None:
        """Says something, such as `evaluating before training ...`; the text may have several lines."""
        self._say(text)

    def warning(self, text: str) -> None:
        """Says what a person should look at; the run goes on."""
        self._say(f"warning: {text}", style="yellow")

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Shows plain Python warnings as lines here; other kinds go where they went. Scoreline's own come each time,
        unless Python was told otherwise: the second lost worker is as much news as the first.
        """
        before = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **rest: Any) -> None:
            if category is UserWarning:
                self.warning(str(message))
            else:
                before(message, category, *place, **rest)

        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module="scoreline", append=True)
            warnings.showwarning = show
            yield

    @contextmanager
    def progress(self, description: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        """Shows how far a long piece of work is. Plain lines come about ten times in all."""
        meter = Meter(description, total, done)
        with self._task(meter) as task:

            def advance(n: int = 1, note: str = "") -> None:
                tenth = meter.done * 10 // max(total, 1)
                self._advance(meter, task, n, note)
                if meter.done * 10 // max(total, 1) > tenth:
                    self._line(meter.line())

            yield advance

    @contextmanager
    def runs(self, total: int, *, done: int = 0) -> Iterator[Callable[..., None]]:
        """Shows how many of several runs are over: `advance(share, ended="")`.

        A terminal's bar moves with shares of runs; of each run that has `ended` a line says how.
        """
        meter = Meter("run", total, done)
        over = Meter("run", total, done)
        with self._task(meter) as task:

            def advance(share: float, ended: str = "") -> None:
                self._advance(meter, task, share, "")
                if ended:
                    over.advance()
                    over.note = ended
                    self._say(over.line())

            yield advance

    @contextmanager
    def training(
        self, steps: int, *, done: int = 0, max_tokens: int | None = None
    ) -> Iterator[Callable[[Report], None]]:
        """Shows each step's report: reward, KL, entropy and length, with the time that is left.

        With `max_tokens` the number of steps is what it will be if they go on sampling as much as so far.
        """
        meter = Meter("step", steps, done)
        with self._task(meter) as task:

            def show(report: Report) -> None:
                if max_tokens is not None:
                    meter.total = min(steps, math.ceil(report.step * max_tokens / report.metrics["num_tokens"]))
                self._advance(meter, task, report.step - meter.done, _columns(report.metrics))
                self._line(meter.line())
                if self.samples_every > 0 and (report.step == 1 or report.step % self.samples_every == 0):
                    self.samples(report.rollouts)

            yield show

    def evaluation(self, evaluation: Evaluation) -> None:
        """One line with the accuracies on held-out prompts and their 95 % intervals, and what the judge says."""
        k = evaluation.k
        names = {"greedy": evaluation.greedy, f"avg@{k}": evaluation.avg_at_k, f"pass@{k}": evaluation.pass_at_k}
        scores = "  ".join(f"{name} {_interval(value)}" for name, value in names.items())
        judged = {"judged": evaluation.judged, "judge accuracy": evaluation.judge_accuracy}
        known = [f"{name} {value:.3f}" for name, value in judged.items() if value is not None]
        length, seconds = f"length {evaluation.mean_length:.1f}", f"{evaluation.seconds:.1f} s"
        self._say("  ".join([f"held-out at step {evaluation.step}", scores, *known, length, seconds]))

    def round(self, number: int, metrics: Metrics) -> None:
        """One line at the end of a round: how well its judge judged, and what it learned from."""
        self._say("  ".join([f"round {number} ended", *_learned(metrics)]))

    def samples(self, rollouts: Sequence[Rollout]) -> None:
        """The best and the worst answer of the step, one line each."""
        scored = [(rollout.reward.score, rollout) for rollout in rollouts if rollout.reward.score is not None]
        scored.sort(key=lambda pair: pair[0], reverse=True)
        for reward, rollout in scored[:1] + scored[1:][-1:]:
            prompt, answer = visible(spoken(rollout.prompt.content)), visible(rollout.text)
            self._say(f"  {reward:+.2f}  {clipped(prompt, 80)} → {clipped(answer, 200)}", style="dim")

    @contextmanager
    def _task(self, meter: Meter) -> Iterator[TaskID | None]:
        if not self.live:
            yield None
            return
        task = self._progress.add_task(meter.description, total=meter.total, completed=int(meter.done), note="")
        self._open += 1
        self._progress.start()
        try:
            yield task
        finally:
            self._open -= 1
            self._progress.remove_task(task)
            if self._open == 0:
                self._progress.stop()

    def _advance(self, meter: Meter, task: TaskID | None, n: float, note: str) -> None:
        meter.advance(n)
        meter.note = note
        if task is not None:
            self._progress.update(task, completed=meter.done, total=meter.total, note=note)

    def _line(self, text: str) -> None:
        """A line of progress: the bar says the same on a terminal, so it goes to the log only."""
        if self.live:
            self._write_log(text)
        else:
            self._say(text)

    def _say(self, text: str, style: str = "") -> None:
        text = visible(text, keep="\n\t")
        encoding = self._stream.encoding or "utf-8"
        printable = text.encode(encoding, "replace").decode(encoding)
        self._terminal.print(Text(printable, style=style if self.live else ""), soft_wrap=True)
        self._stream.flush()
        self._write_log(text)

    def _write_log(self, text: str) -> None:
        if self.log is None:
            return
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with jsonl.writing(self.log), self.log.open("a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(f"{now}  {line}\n" for line in masked(text).split("\n"))


def _is_live(stream: TextIO) -> bool:
    plain = any(os.environ.get(name) for name in ("CI", "NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def _progress(terminal: Terminal) -> Progress:
    text = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}", markup=False)
    columns = (text[0], BarColumn(bar_width=24), MofNCompleteColumn(), text[1], TimeRemainingColumn())
    return Progress(*columns, console=terminal, transient=True)


def _columns(metrics: Metrics) -> str:
    shown = [f"{label} {_number(metrics[name])}" for name, label in _COLUMNS.items() if name in metrics]
    return "  ".join(
        [*shown, *([f"{metrics['time/step']:.2f} s"] if "time/step" in metrics else []), *_elsewhere(metrics)]
    )


def _elsewhere(metrics: Metrics) -> list[str]:
    """Of the processes of a cluster, what is worth a look: `waiting 31%  1 replaced`."""
    step = metrics.get("time/step", 0.0)
    shares = {label: metrics.get(name, 0.0) / step for name, label in _SPENT.items()} if step else {}
    counts = {label: round(metrics.get(name, 0.0)) for name, label in _LOST.items()}
    words = [f"{label} {share:.0%}" for label, share in shares.items() if share >= NOTABLE]
    return words + [f"{count} {label}" for label, count in counts.items() if count]


def _learned(metrics: Metrics) -> list[str]:
    """`judge accuracy 0.8100, then 0.8800`, and the other numbers that were measured."""
    accuracy = [metrics[name] for name in ("judge/accuracy_before", "judge/accuracy") if name in metrics]
    words = [f"judge accuracy {', then '.join(map(_number, accuracy))}"] if accuracy else []
    words += [f"{label} {_number(metrics[name])}" for name, label in _LEARNED.items() if name in metrics]
    if "judge/examples" in metrics:
        replayed = metrics.get("judge/replayed", 0.0)
        words.append(f"{metrics['judge/examples']:.0f} new examples, {replayed:.0f} replayed")
    return words


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.4f}"


def _interval(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
