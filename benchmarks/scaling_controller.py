"""Parts of a step in the process of the loop: the loop itself, with a learner and an engine that answer at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scaling_answers import completion, lengths

from scoreline.config.build import build
from scoreline.config.run import Run
from scoreline.rollout.collect import Collector
from scoreline.rollout.engine import Sampling
from scoreline.train.learner import Update, Updated
from scoreline.train.loop import train
from scoreline.train.schedule import first_progress
from scoreline.types import Batch, Completion, Metrics, Request

Row = dict[str, Any]
SIZES = (
    *((8, 8, 12, 4, 1), (16, 8, 12, 4, 1), (64, 8, 12, 4, 1), (16, 8, 12, 1, 1), (16, 8, 96, 1, 1)),
    *((16, 8, 768, 4, 1), (64, 8, 192, 4, 1), (16, 8, 96, 4, 16), (16, 8, 768, 4, 8)),
)
"""Questions, answers to each, mean tokens of an answer, updates, by how much the last answer is longer."""
LARGE = (64, 16, 2048, 4, 8)
"""A step that the fit does not see."""


class Ready:
    """An engine that has all answers."""

    def __init__(self, answers: int, mean: int, tail: int) -> None:
        self.answers, self.mean, self.tail = answers, mean, tail
        self.known: dict[int, list[Completion]] = {}

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """The same every time."""
        questions = len(requests) // self.answers
        if questions not in self.known:
            drawn = lengths(questions, self.answers, self.mean, self.tail)
            self.known[questions] = [completion(n) for row in drawn for n in row]
        return self.known[questions]

    def load(self, version: int) -> None:
        """Nothing changes."""

    def facts(self) -> Metrics:
        """Nothing to say."""
        return {}


class Still:
    """A learner that knows at once what its models would say, and never changes."""

    device = torch.device("cpu")
    parameters = 0

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch:
        """The sampler's numbers."""
        columns: dict[str, Any] = dict.fromkeys(passes & {"logp_old", "logp_ref"}, batch.logp_sampler)
        return replace(batch, **columns)

    def update(self, batch: Batch, told: Update) -> Updated:
        """As many metrics as a real one has, all of them 0."""
        names = ("loss", "loss/policy", "loss/kl", "kl", "entropy", "grad_norm", "learning_rate", "time/update")
        return Updated(dict.fromkeys((*names, "skipped_updates", "micro_batch_size"), 0.0), batch.logp_sampler)

    def refresh(self, mix: float) -> None:
        """Nothing to do."""

    def save(self, folder: Path) -> None:
        """Nothing to save."""

    def restore(self, folder: Path) -> None:
        """Nothing to restore."""


def controller(run: Run, repeat: int) -> list[Row]:
    """Seconds of a step without scoring, for several sizes of it."""
    torch.set_num_threads(1)
    return [alone(run, *size, repeat) for size in SIZES] + [alone(run, *LARGE, repeat) | {"part": "large"}]


def alone(run: Run, questions: int, answers: int, mean: int, updates: int, tail: int, repeat: int) -> Row:
    """One size."""
    plan = replace(
        run.train, prompts_per_step=questions, num_generations=answers, minibatches=updates, steps=repeat + 1
    )
    built = build(replace(run, train=plan))
    engine = Ready(answers, mean, tail)
    seconds, scored = stepped(replace(built.parts, learner=Still(), engine=engine), engine)
    built.close()
    drawn = [n for row in lengths(questions, answers, mean, tail) for n in row]
    facts = {"answers": len(drawn), "tokens": sum(drawn), "padded": len(drawn) * max(drawn), "updates": updates}
    return {"part": "controller", **facts, "seconds": seconds, "scored": scored}


def stepped(parts: Any, engine: Ready) -> tuple[float, float]:
    """The median step, without its scoring, and that of scoring."""
    collector: Collector = parts.collector
    collector.sampler.engine = engine
    taken, scored, started = [], [], time.perf_counter()
    for report in train(parts, first_progress(parts.objective, parts.warmup)):
        scored.append(report.metrics["time/score"])
        taken.append(time.perf_counter() - started - scored[-1])
        started = time.perf_counter()
    return median(taken[1:]), median(scored[1:])
