"""How a run spends its samples: groups a step, passes, minibatches, learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from scoreline.errors import ConfigError
from scoreline.objectives.aggregates import Aggregate
from scoreline.rollout.collect import order
from scoreline.train.optimizers import OptimizerName
from scoreline.train.ranks import SumPrecision
from scoreline.types import Batch

Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Plan:
    """The numbers of the loop.

    A step samples `prompts_per_step` x `num_generations` answers and makes `num_iterations` passes (mu) over them in
    `minibatches` optimiser updates each. `micro_batch_size` rows go through the model at once: it changes memory and
    speed, not the mathematics. "auto" takes as many tokens at once as are fast and fit. Either number is halved, and
    what failed is done again, when memory runs out. `optimizer` "adamw_8bit" keeps its moments in 8 bits, those of the
    critic too.

    `gradient_sums` "fp64" adds the gradients of portions and of learners up in fp64 and rounds once, so that a run with
    N learners is bit by bit the run with one: portions must then have a fixed `micro_batch_size`, and every learner
    holds 8 more bytes for each weight that learns.

    A run ends after `steps`, or before that after the step in which it has sampled `max_tokens` tokens or trained for
    `max_seconds` (evaluations and loading not counted). Schedules follow the steps, or the share of `max_tokens` where
    more of that is spent; never the seconds, which are others each time.
    """

    steps: int = 100
    prompts_per_step: int = 8
    num_generations: int = 8
    num_iterations: int = 1
    minibatches: int = 1
    micro_batch_size: int | Literal["auto"] = "auto"
    gradient_sums: SumPrecision = "fp32"
    learning_rate: float = 1e-6
    schedule: Shape = "constant"
    warmup_updates: int = 0
    beta_schedule: Shape = "constant"
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_bad_updates: int = 3
    mask_truncated_completions: bool = False
    max_tokens: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "prompts_per_step", "num_generations", "num_iterations", "minibatches"):
            at_least(1, name, getattr(self, name))
        at_least(1, "max_bad_updates", self.max_bad_updates)
        if self.micro_batch_size != "auto":
            at_least(1, "micro_batch_size", self.micro_batch_size)
        elif self.gradient_sums == "fp64":
            raise ConfigError(
                "What is summed exactly must be cut alike each time, and free memory never is alike.",
                got='train.gradient_sums="fp64", train.micro_batch_size="auto"',
                accepted="a number of rows",
                todo="set train.micro_batch_size, for example to 8.",
            )
        if self.max_tokens is not None:
            at_least(1, "max_tokens", self.max_tokens)
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise ConfigError("train.max_seconds is a time.", got=self.max_seconds, accepted='above 0, or "none"')
        if self.minibatches > self.prompts_per_step:
            raise ConfigError(
                "There are fewer groups in a step than minibatches.",
                got=f"train.minibatches={self.minibatches}, train.prompts_per_step={self.prompts_per_step}",
                accepted="minibatches <= prompts_per_step",
                todo="lower train.minibatches or raise train.prompts_per_step.",
            )

    @property
    def updates_per_step(self) -> int:
        """Optimiser updates that one batch of rollouts is used for."""
        return self.num_iterations * self.minibatches

    def spent(self, tokens: int, seconds: float = 0.0) -> float:
        """The share of the budget that is spent, the larger of tokens and seconds; 0 where there is none."""
        shares = ((tokens, self.max_tokens), (seconds, self.max_seconds))
        return max((used / limit for used, limit in shares if limit is not None), default=0.0)

    def over(self, step: int, tokens: int, seconds: float = 0.0) -> bool:
        """Whether the run ends after step number `step`, counted from 1."""
        return step >= self.steps or self.spent(tokens, seconds) >= 1

    def lr_factor(self, update: int, tokens: int = 0) -> float:
        """What multiplies the learning rates in update number `update`, counted from 0, of a step that begins when
        `tokens` are sampled.
        """
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        total = self.steps * self.updates_per_step - self.warmup_updates
        return decay(self.schedule, max((update - self.warmup_updates) / max(total, 1), min(self.spent(tokens), 1.0)))

    def beta_factor(self, step: int, tokens: int = 0) -> float:
        """What multiplies beta in step number `step`, counted from 0, that begins when `tokens` are sampled."""
        return decay(self.beta_schedule, max(step / self.steps, min(self.spent(tokens), 1.0)))

    def updates(
        self, batch: Batch, aggregate: Aggregate, *, seed: int, step: int, groups: int | None = None
    ) -> Iterator[tuple[Tensor, Batch]]:
        """The rows of each minibatch of a step, and the minibatch with its weights: whole groups, in another seeded
        order in each pass. `groups` counts those of the step, where the batch holds only the first of them.
        """
        count = int(batch.group.max()) + 1 if groups is None else groups
        for number in range(self.num_iterations):
            shuffled = torch.from_numpy(order(seed, step * self.num_iterations + number, count))
            for part in shuffled.tensor_split(self.minibatches):
                rows = torch.isin(batch.group, part.to(batch.group.device)).nonzero().squeeze(1)
                if len(rows):
                    mini = batch.rows(rows)
                    yield rows, replace(mini, weights=aggregate(mini.mask))


def decay(shape: Shape, share: float) -> float:
    """1 at the start, 0 at the end of a linear or cosine decay; always 1 for constant."""
    if shape == "constant":
        return 1.0
    return 1.0 - share if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))


def at_least(least: int, name: str, value: int) -> None:
    """Refuse a count that is too small."""
    if value < least:
        raise ConfigError(f"train.{name} is too small.", got=value, accepted=f"at least {least}", todo=f"raise {name}.")
