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
    """

    steps: int = 100
    prompts_per_step: int = 8
    num_generations: int = 8
    num_iterations: int = 1
    minibatches: int = 1
    micro_batch_size: int | Literal["auto"] = "auto"
    learning_rate: float = 1e-6
    schedule: Shape = "constant"
    warmup_updates: int = 0
    beta_schedule: Shape = "constant"
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_bad_updates: int = 3
    mask_truncated_completions: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "prompts_per_step", "num_generations", "num_iterations", "minibatches"):
            at_least(1, name, getattr(self, name))
        at_least(1, "max_bad_updates", self.max_bad_updates)
        if self.micro_batch_size != "auto":
            at_least(1, "micro_batch_size", self.micro_batch_size)
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

    def lr_factor(self, update: int) -> float:
        """What multiplies the learning rates in update number `update`, counted from 0."""
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        total = self.steps * self.updates_per_step - self.warmup_updates
        return decay(self.schedule, (update - self.warmup_updates) / max(total, 1))

    def beta_factor(self, step: int) -> float:
        """What multiplies beta in step number `step`, counted from 0."""
        return decay(self.beta_schedule, step / self.steps)

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
