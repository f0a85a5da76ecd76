"""The judge r_phi goes on learning from the policy's own answers: DeepSeekMath (2402.03300), Algorithm 1, last line."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scoreline.environments.messages import text_of
from scoreline.environments.split import hold_out
from scoreline.train.judging import JudgeLearner
from scoreline.train.replay import Replay, Row
from scoreline.types import Metrics, Prompt

HISTORY = "history.jsonl"


class Lesson(Protocol):
    """What a round teaches a judge."""

    def __call__(self, number: int) -> tuple[list[Row], int]:
        """The rows of round `number`, and how many tokens were sampled for them."""
        ...


class Apprentice:
    """A judge that trains at the end of each round: on the round's rows and on a share of replayed ones.

    A share `held_out` of the round's questions is never trained on in it: what the judge says of them before and after
    is how well it judges today's policy. A round without rows teaches nothing, with a warning.
    """

    def __init__(self, learner: JudgeLearner, lesson: Lesson, replay: Replay, *, held_out: float, seed: int) -> None:
        self.learner, self.lesson, self.replay = learner, lesson, replay
        self.held_out, self.seed = held_out, seed

    def learn(self, number: int) -> Metrics:
        """Train on round `number`. Metrics: judge/accuracy_before and after it, examples, replayed, tokens, loss."""
        started = time.perf_counter()
        rows, tokens = self.lesson(number)
        if rows:
            facts = self._learn(rows, number)
        else:
            warnings.warn(f"Round {number} gave the judge nothing to learn from; it stays as it is.", stacklevel=2)
            facts = {"examples": 0.0, "replayed": 0.0}
        facts |= {"tokens": float(tokens), "seconds": time.perf_counter() - started}
        return {f"judge/{name}": value for name, value in facts.items()}

    def _learn(self, rows: Sequence[Row], number: int) -> Metrics:
        new, held = divided(rows, self.held_out, self.seed + number)
        replayed = self.replay.draw(len(new), number)
        before = self.learner.measure(held) if held else {}
        for _ in self.learner.fit([*new, *replayed], seed=self.seed + number):
            pass
        after = self.learner.measure(held) if held else {}
        self.replay.add(new)
        counts = {"examples": float(len(new)), "replayed": float(len(replayed))}
        return counts | after | {f"{name}_before": value for name, value in before.items()}

    def save(self, folder: Path) -> None:
        """`hf/`, the optimiser and the history."""
        folder.mkdir(exist_ok=True)
        self.learner.save(folder)
        self.replay.save(folder / HISTORY)

    def restore(self, folder: Path) -> None:
        """Exactly what `save` wrote."""
        self.learner.restore(folder)
        self.replay.restore(folder / HISTORY)


def divided(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to measure on; no question is on both sides. Too few questions: all to train on."""
    asked = tuple(Prompt(text_of(row.prompt), text_of(row.prompt)) for row in rows)
    texts = {prompt.content for prompt in asked}
    if round(share * len(texts)) in (0, len(texts)):
        return list(rows), []
    unique = tuple({prompt.content: prompt for prompt in asked}.values())
    held = {prompt.content for prompt in hold_out(unique, float(share), seed).held_out}
    new = [row for row in rows if text_of(row.prompt) not in held]
    return new, [row for row in rows if text_of(row.prompt) in held]
