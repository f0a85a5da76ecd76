"""Supervised fine-tuning: the policy that reinforcement learning starts from and is held to.

    L = - (1 / N) sum_it m_it log pi(o_it | q_i, o_i,<t)        N = sum_it m_it over the whole optimiser step

Only the answer's tokens o carry loss (m = 1), its eos included; the question q carries none.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from scoreline.environments.examples import Example
from scoreline.errors import ConfigError, DataError, DivergenceError
from scoreline.models.device import Precision, autocast
from scoreline.models.text import Text
from scoreline.types import Metrics

IGNORED = -100
"""The label of a token without loss."""


@dataclass(frozen=True)
class SFT:
    """The recipe's table [sft]. `steps`, when given, stands above `epochs`."""

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 32
    """Examples of one optimiser step."""
    micro_batch_size: int | None = None
    """Examples of one backward pass: less memory, the same gradient. Default: the whole batch."""
    learning_rate: float = 2e-5
    warmup: int = 0
    """Steps in which the learning rate climbs linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the learning rate goes on after the warm-up: it stays, or falls to 0 at the last step."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    max_bad_steps: int = 3
    """Steps in a row with a non-finite loss or gradient (skipped, never applied) before the run stops."""
    max_length: int = 1024
    """Tokens of question and answer together; a longer example is an error, because a cut answer teaches to stop early."""
    window: int = 16
    """Batches that are sorted by length together, so that a batch has little padding. 1: batches as shuffled."""
    precision: Precision = "fp32"
    seed: int = 0
    """Of the order of the examples."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "window", "max_length", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"sft.{name} is too small.", got=getattr(self, name), accepted="1 or more")
        if (self.steps is not None and self.steps < 1) or self.epochs <= 0:
            raise ConfigError("Fine-tuning needs at least one step.", got=(self.steps, self.epochs))


@dataclass(frozen=True)
class SFTReport:
    """One optimiser step, 1 to `steps`. Metrics: loss (nats a token), token_accuracy, grad_norm, learning_rate, epoch,
    num_tokens (answer tokens so far), skipped_updates, padding (share of the batch's positions), time/step (seconds)."""

    step: int
    steps: int
    metrics: Metrics


@dataclass(frozen=True)
class Row:
    """One tokenised example."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def finetune(
    model: PreTrainedModel, text: Text, examples: Sequence[Example], config: SFT
) -> Iterator[SFTReport]:
    """Train `model` in place with AdamW and report each step. The same arguments give the same weights, bit by bit.

    Raises `DataError` for no examples or one that is too long, `DivergenceError` after `max_bad_steps` bad steps.
    """
    rows = tokenise(text, examples, config.max_length)
    steps = config.steps or math.ceil(config.epochs * len(rows) / config.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    model.train()
    tokens = skipped = bad = 0
    for step, batch in enumerate(islice(batches(rows, config), steps), start=1):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, config)
        metrics = gradient(model, batch, text.pad_id, config)
        finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
        if finite:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bad = 0 if finite else bad + 1
        skipped += not finite
        tokens += sum(len(row.answer) for row in batch)
        ...
