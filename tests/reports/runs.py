"""A small run folder, written through the public API."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from scoreline.objectives.explain import FORMULA, explain
from scoreline.objectives.zoo import grpo
from scoreline.reports.record import Record
from scoreline.train.evaluate import Evaluation, Interval
from scoreline.types import Batch, Completion, Finish, Prompt, Report, Reward, Rollout

NO_BATCH = cast(Batch, None)  # reports never look at tensors

CONFIG = 'algorithm = "grpo"\nname = "small"\n\n[eval]\nright_at = 1.0\n'


def rollout(text: str = "11", reward: float | None = 1.0, *, prompt: str = "3+8=", group: int = 0) -> Rollout:
    finish: Finish = "stop"
    done = Completion(tuple(range(len(text))), (-0.1,) * len(text), finish)
    return Rollout(Prompt("train:0", prompt), (1, 2), done, text, Reward(reward, {"exact": reward}), group)


def report(step: int, *, answers: Iterable[Rollout] | None = None, **metrics: float) -> Report:
    numbers = {"reward": step / 10, "kl": 0.01 * step, "completions/mean_length": 4.0, "time/step": 0.5}
    rollouts = tuple(answers) if answers is not None else (rollout(), rollout("12", 0.0))
    return Report(step, numbers | metrics, rollouts, NO_BATCH, {})


def interval(mean: float, half: float = 0.05) -> Interval:
    return Interval(mean, mean - half, mean + half)


def evaluation(step: int, mean: float, *, samples: tuple[Rollout, ...] = (), half: float = 0.05) -> Evaluation:
    greedy, average, best = interval(mean, half), interval(mean, half), interval(mean, half)
    return Evaluation(step, greedy, average, best, 4, 5.0, samples or (rollout(reward=float(step > 0)),), 0.2)


def write_run(folder: Path, *, steps: int = 6, before: float = 0.4, after: float = 0.9) -> Record:
    """A finished run of a few steps with everything that a report can show."""
    record = Record(folder, every=2)
    (folder / "config.resolved.toml").write_text(CONFIG, encoding="utf-8")
    record.objective(FORMULA, explain(grpo))
    record.environment({"python": "3.12", "device": "cpu"})
    record.evaluation(evaluation(0, before))
    for step in range(1, steps + 1):
        record.report(report(step))
    record.evaluation(evaluation(steps, after))
    record.summary(algorithm="grpo", model="tiny", steps=steps, wall_s=35.2, tokens=1234)
    return record
