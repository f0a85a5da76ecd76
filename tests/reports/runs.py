"""A small run folder, written through the public API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from scoreline.objectives.explain import FORMULA, explain
from scoreline.objectives.zoo import grpo
from scoreline.reports.record import Record
from scoreline.train.collate import collate
from scoreline.train.evaluate import Evaluation, Interval
from scoreline.types import Batch, Completion, Finish, Prompt, Report, Reward, Rollout, Step

NO_BATCH = cast(Batch, None)  # without pieces of text a record never looks at tensors

CONFIG = 'algorithm = "grpo"\nname = "small"\n\n[eval]\nright_at = 1.0\n'


def rollout(text: str = "11", reward: float | None = 1.0, *, prompt: str = "3+8=", group: int = 0) -> Rollout:
    finish: Finish = "stop"
    done = Completion(tuple(range(len(text))), (-0.1,) * len(text), finish)
    return Rollout(Prompt("train:0", prompt), (1, 2), done, text, Reward(reward, {"exact": reward}), group)


def letters(ids: Sequence[int]) -> list[str]:
    """One character a token, as `stepped` makes them."""
    return [chr(token) for token in ids]


def stepped(*steps: tuple[str, float | None], total: float | None = 1.0, group: int = 0) -> Rollout:
    """An answer of (step, reward) pairs whose tokens are its characters."""
    text = "".join(step for step, _ in steps)
    ends = [len("".join(step for step, _ in steps[: n + 1])) - 1 for n in range(len(steps))]
    rewards = tuple(reward for _, reward in steps)
    reward = Reward(total, {"exact": total}, rewards, {"sums": rewards, "judge": rewards})
    cut = tuple(Step(step, end) for (step, _), end in zip(steps, ends, strict=True))
    done = Completion(tuple(map(ord, text)), (-0.1,) * len(text), "stop")
    return replace(rollout(text, total, group=group), completion=done, reward=reward, steps=cut)


def annotated(step: int, rollouts: Sequence[Rollout], advantages: Sequence[Sequence[float]]) -> Report:
    """A report with a batch; `advantages` [n, t] may be longer than an answer."""
    batch = replace(collate(rollouts), advantages=torch.tensor(advantages))
    return replace(report(step, answers=rollouts), batch=batch)


def report(step: int, *, answers: Iterable[Rollout] | None = None, **metrics: float) -> Report:
    numbers = {"reward": step / 10, "kl": 0.01 * step, "completions/mean_length": 4.0, "time/step": 0.5}
    rollouts = tuple(answers) if answers is not None else (rollout(), rollout("12", 0.0))
    return Report(step, numbers | metrics, rollouts, NO_BATCH, {})


def interval(mean: float, half: float = 0.05) -> Interval:
    return Interval(mean, mean - half, mean + half)


def evaluation(
    step: int,
    mean: float,
    *,
    samples: tuple[Rollout, ...] = (),
    half: float = 0.05,
    judged: float | None = None,
    judge_accuracy: float | None = None,
) -> Evaluation:
    share, shown = interval(mean, half), samples or (rollout(reward=float(step > 0)),)
    return Evaluation(step, share, share, share, 4, 5.0, shown, 0.2, judged, judge_accuracy)


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


LEARNED = {
    "judge/accuracy_before": 0.75,
    "judge/accuracy": 0.875,
    "judge/calibration_error": 0.0625,
    "judge/loss": 0.25,
    "judge/examples": 1200.0,
    "judge/replayed": 120.0,
}


def write_rounds(folder: Path, accuracies: Sequence[float], judged: Sequence[float]) -> Record:
    """A run of rounds of two steps: evaluations (true, judged) at step 0 and at the end of each round."""
    record = Record(folder, every=2)
    (folder / "config.resolved.toml").write_text(CONFIG, encoding="utf-8")
    for number, (true, score) in enumerate(zip(accuracies, judged, strict=True)):
        if number:
            for step in (2 * number - 1, 2 * number):
                record.report(report(step, answers=[], step_reward=0.5))
        record.evaluation(evaluation(2 * number, true, judged=score, judge_accuracy=0.8))
        if number:
            record.round(number, 2 * number, LEARNED)
    return record
