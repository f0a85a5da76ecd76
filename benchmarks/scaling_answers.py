"""Answers to measure with: their lengths are drawn around a mean, their tokens mean nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from scoreline.objectives.objective import Objective
from scoreline.train.collate import collate
from scoreline.types import Batch, Completion, Prompt, Reward, Rollout

PROMPT = tuple(range(3, 13))
"""Ten tokens, about as many as a question of the quickstart."""


NOWHERE = "/dev/null/nowhere"
"""The folder of processes whose output nobody collects."""


def completion(tokens: int) -> Completion:
    """An answer of so many tokens."""
    return Completion(tuple(3 + i % 12 for i in range(tokens)), (-1.0,) * tokens, "stop")


def lengths(questions: int, answers: int, mean: int, tail: int = 1) -> list[list[int]]:
    """From half the mean to one and a half of it; the last is `tail` times as long."""
    drawn = np.random.default_rng(questions).integers(mean // 2, mean + mean // 2 + 1, (questions, answers))
    drawn[-1, -1] *= tail
    return [[int(n) for n in row] for row in drawn]


def rollouts(questions: int, answers: int, mean: int) -> list[Rollout]:
    """Scored answers, every other one right."""
    return [
        Rollout(Prompt(f"measured:{i}", ""), PROMPT, completion(n), "", Reward(float(j % 2)), i)
        for i, row in enumerate(lengths(questions, answers, mean))
        for j, n in enumerate(row)
    ]


def annotated(batch: Batch, objective: Objective) -> Batch:
    """With all that an update asks for, without a model."""
    columns: dict[str, Any] = {name: batch.logp_sampler.clone() for name in objective.needs & {"logp_old", "logp_ref"}}
    batch = objective.estimate(replace(batch, **columns))
    return replace(batch, weights=objective.aggregate(batch.mask))


def batch_of(objective: Objective, questions: int, answers: int, mean: int) -> Batch:
    """A minibatch, ready to be learned from."""
    return annotated(collate(rollouts(questions, answers, mean)), objective)


def tokens_of(batch: Batch) -> int:
    """Tokens that a packed pass computes: answers, and each question once."""
    first = batch.prompt_length.new_tensor([int((batch.group == g).nonzero()[0]) for g in batch.group.unique()])
    return int(batch.length.sum()) + int(batch.prompt_length[first].sum())


def middle(work: Callable[[], float], repeat: int) -> float:
    """The median of what `work` says it took, after one time that does not count."""
    work()
    return median(work() for _ in range(repeat))


def clocked(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
