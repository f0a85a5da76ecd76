"""Learning from rows that say what is right: the loop that fine-tuning and the training of judges share.

theta <- theta - eta grad L(rows of one step), with AdamW, a warm-up and a schedule of eta
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from scoreline.errors import ConfigError, DivergenceError
from scoreline.types import Metrics

R = TypeVar("R")


@dataclass(frozen=True)
class Fit:
    """How long and how fast to learn. `steps`, when given, stands above `epochs`."""

    table: ClassVar[str] = "fit"
    """The name of its table in a recipe, for messages."""
    work: ClassVar[str] = "Training"

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 32
    """Rows of one optimiser step, drawn at random."""
    micro_batch_size: int = 8
    """Rows of one backward pass. A batch is cut into these by length: little padding, the same gradient."""
    learning_rate: float = 2e-5
    warmup: int = 0
    """Steps in which the learning rate climbs linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the learning rate goes on after the warm-up: it stays, or falls towards 0 at the last step."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_bad_steps: int = 3
    """Steps in a row with a non-finite loss or gradient (skipped, never applied) that stop the run."""
    max_length: int = 1024
    """Tokens of a whole row, question and answer together. A longer row is an error: what is cut teaches to stop."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "max_length", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{self.table}.{name} is too small.", got=getattr(self, name), accepted="1 or more")
        if (self.steps is not None and self.steps < 1) or self.epochs <= 0:
            raise ConfigError(f"{self.work} needs a step.", got=self, accepted="steps of 1 or more, or epochs above 0")

    def steps_for(self, rows: int) -> int:
        """Optimiser steps of a run over this many rows."""
        return self.steps or math.ceil(self.epochs * rows / self.batch_size)


@dataclass(frozen=True)
class FitReport:
    """One optimiser step, counted 1 to `steps`.

    Metrics: what the task says of its loss, grad_norm, learning_rate, epoch, num_tokens (so far), skipped_updates
    (so far), time/step (seconds).
    """

    step: int
    steps: int
    metrics: Metrics


@dataclass(frozen=True)
class Task(Generic[R]):
    """What is learned: rows, and how a batch of them becomes a gradient."""

    rows: Sequence[R]
    accumulate: Callable[[Sequence[R]], Metrics]
    """Adds the gradient of the batch's loss to the parameters; returns the "loss" and what else there is to say."""
    tokens: Callable[[Sequence[R]], int]
    """The tokens of a batch that count as learned from."""


def learn(
    task: Task[R], parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer, fit: Fit, seed: int
) -> Iterator[FitReport]:
    """Update `parameters` step by step, in an order of rows that `seed` says.

    Raises `DivergenceError` after `max_bad_steps` steps in a row that could not be applied.
    """
    steps = fit.steps_for(len(task.rows))
    tokens = skipped = bad = 0
    for step, batch in enumerate(islice(batches(task.rows, fit, seed), steps), start=1):
        started = time.perf_counter()
        metrics = dict(task.accumulate(batch))
        metrics["grad_norm"] = float(clip_grad_norm_(parameters, fit.max_grad_norm))
        metrics["learning_rate"] = optimizer.param_groups[0]["lr"] = learning_rate(step, steps, fit)
        finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
        if finite:
            optimizer.step()
        optimizer.zero_grad()
        bad, skipped, tokens = (0 if finite else bad + 1), skipped + (not finite), tokens + task.tokens(batch)
        if bad == fit.max_bad_steps:
            raise _diverged(step, bad, metrics, fit)
        epoch = step * fit.batch_size / len(task.rows)
        so_far = {"epoch": epoch, "num_tokens": float(tokens), "skipped_updates": float(skipped)}
        yield FitReport(step, steps, {**metrics, **so_far, "time/step": time.perf_counter() - started})


def adamw(parameters: Sequence[torch.nn.Parameter], fit: Fit) -> torch.optim.AdamW:
    """AdamW over fp32 weights; `learn` sets its learning rate."""
    fused = parameters[0].device.type != "mps"
    return torch.optim.AdamW(parameters, weight_decay=fit.weight_decay, fused=fused)


def batches(rows: Sequence[R], fit: Fit, seed: int) -> Iterator[list[R]]:
    """Endless epochs of random batches; the last one of an epoch may be smaller."""
    order = random.Random(seed)
    while True:
        shuffled = order.sample(rows, len(rows))
        for start in range(0, len(rows), fit.batch_size):
            yield shuffled[start : start + fit.batch_size]


def learning_rate(step: int, steps: int, fit: Fit) -> float:
    """The learning rate of step 1 to `steps`: linear warm-up, then the schedule."""
    if step <= fit.warmup:
        return fit.learning_rate * step / fit.warmup
    done = (step - 1 - fit.warmup) / (steps - fit.warmup)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[fit.schedule]
    return fit.learning_rate * share


def _diverged(step: int, bad: int, metrics: Metrics, fit: Fit) -> DivergenceError:
    table = fit.table
    return DivergenceError(
        f"{fit.work} stopped at step {step}: loss or gradient was not finite {bad} times in a row (never applied).",
        got=f"loss {metrics['loss']}, grad_norm {metrics['grad_norm']}",
        todo=f"lower {table}.learning_rate, lengthen {table}.warmup, or use precision = 'fp32'",
    )


def save_state(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """The optimiser's tensors by parameter number and name: `0.exp_avg`."""
    save_file(state_tensors(optimizer), file)


def restore_state(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Exactly what `save_state` wrote."""
    put_state(optimizer, load_file(file))


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers, by parameter number and name: `0.exp_avg`."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, one in states.items() for key, value in _tensors(one)}


def put_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Let an optimiser remember what `state_tensors` gave."""
    states: dict[int, dict[str, Tensor | int]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = int(tensor) if tensor.dtype is torch.int64 else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """What an optimiser remembers of one parameter, as tensors that share no memory: 8-bit moments come in a table of
    their own, with a count that is a number, and a code book that all parameters share.
    """
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _tensors(value)
        elif key.startswith("qmap"):
            yield key, value.clone()
        else:
            yield key, value.contiguous() if isinstance(value, Tensor) else torch.tensor(value)
