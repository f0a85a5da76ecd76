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
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from scoreline.environments.examples import Example
from scoreline.errors import ConfigError, DataError, DivergenceError
from scoreline.models.policy import Policy
from scoreline.models.text import Text
from scoreline.types import Metrics


@dataclass(frozen=True)
class SFT:
    """The recipe's table [sft]. `steps`, when given, stands above `epochs`."""

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 32
    """Examples of one optimiser step, drawn at random."""
    micro_batch_size: int = 8
    """Examples of one backward pass. A batch is cut into these by length: little padding, the same gradient."""
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
    """Tokens of question and answer together. A longer example is an error: a cut answer teaches to stop early."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "max_length", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"sft.{name} is too small.", got=getattr(self, name), accepted="1 or more")
        if (self.steps is not None and self.steps < 1) or self.epochs <= 0:
            raise ConfigError("Fine-tuning needs a step.", got=self, accepted="steps of 1 or more, or epochs above 0")

    def steps_for(self, examples: int) -> int:
        """Optimiser steps of a run over this many examples."""
        return self.steps or math.ceil(self.epochs * examples / self.batch_size)


@dataclass(frozen=True)
class SFTReport:
    """One optimiser step, counted 1 to `steps`.

    Metrics: loss (nats a token), mean_token_accuracy, grad_norm, learning_rate, epoch, num_tokens (answer tokens so
    far), skipped_updates (so far), time/step (seconds).
    """

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


def finetune(policy: Policy, examples: Sequence[Example], config: SFT, *, seed: int = 0) -> Iterator[SFTReport]:
    """Train `policy` in place with AdamW and report each step. The same arguments give the same weights, bit by bit.

    `seed` is that of the order of the examples and of torch's global generator, which dropout uses. Raises `DataError`
    for no examples or one that is too long, and `DivergenceError` after `max_bad_steps` steps in a row that could not
    be applied.
    """
    model = policy.model
    rows = tokenise(policy.text, examples, min(config.max_length, context_length(policy)))
    steps = config.steps_for(len(rows))
    fused = policy.device.type != "mps"
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=fused)
    torch.manual_seed(seed)
    tokens = skipped = bad = 0
    for step, batch in enumerate(islice(batches(rows, config, seed), steps), start=1):
        started = time.perf_counter()
        model.train()
        metrics = accumulate(policy, batch, config.micro_batch_size)
        metrics["grad_norm"] = float(clip_grad_norm_(model.parameters(), config.max_grad_norm))
        metrics["learning_rate"] = optimizer.param_groups[0]["lr"] = learning_rate(step, steps, config)
        finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
        if finite:
            optimizer.step()
        optimizer.zero_grad()
        model.train(False)  # who watches may evaluate between the steps
        bad, skipped, tokens = (0 if finite else bad + 1), skipped + (not finite), tokens + answer_tokens(batch)
        if bad == config.max_bad_steps:
            raise _diverged(step, bad, metrics)
        epoch = step * config.batch_size / len(rows)
        so_far = {"epoch": epoch, "num_tokens": float(tokens), "skipped_updates": float(skipped)}
        yield SFTReport(step, steps, {**metrics, **so_far, "time/step": time.perf_counter() - started})


def tokenise(text: Text, examples: Sequence[Example], limit: int) -> list[Row]:
    """Questions and answers as tokens; refuses an example of more than `limit` tokens."""
    if not examples:
        raise DataError("There is nothing to fine-tune on: the data have no examples.")
    rows = [Row(text.encode(e.prompt), text.encode_answer(e.prompt, e.completion)) for e in examples]
    for example, row in zip(examples, rows, strict=True):
        if len(row) > limit:
            raise DataError(
                f"Example {example.prompt.id} is too long.",
                got=f"{len(row)} tokens",
                accepted=f"at most {limit} (the smaller of sft.max_length and the model's context)",
                todo="shorten or remove the example, or raise sft.max_length",
            )
    return rows


def context_length(policy: Policy) -> int:
    """Tokens that the model's positions reach; unbounded when its configuration names no limit."""
    return int(getattr(policy.model.config.get_text_config(), "max_position_embeddings", None) or 2**31)


def batches(rows: Sequence[Row], config: SFT, seed: int) -> Iterator[list[Row]]:
    """Endless epochs of random batches; the last one of an epoch may be smaller."""
    order = random.Random(seed)
    while True:
        shuffled = order.sample(rows, len(rows))
        for start in range(0, len(rows), config.batch_size):
            yield shuffled[start : start + config.batch_size]


def accumulate(policy: Policy, batch: Sequence[Row], micro_batch_size: int) -> Metrics:
    """Add the gradient of the batch's mean token loss to the parameters, one micro-batch of like lengths at a time."""
    total = answer_tokens(batch)
    by_length = sorted(batch, key=len)
    loss = right = 0.0
    for start in range(0, len(batch), micro_batch_size):
        logits, answers = predict(policy, by_length[start : start + micro_batch_size])
        part = cross_entropy(logits, answers, reduction="sum") / total
        part.backward()
        loss += float(part.detach())
        right += int((logits.argmax(-1) == answers).sum()) / total
    return {"loss": loss, "mean_token_accuracy": right}


def predict(policy: Policy, rows: Sequence[Row]) -> tuple[Float[Tensor, "m v"], Int[Tensor, " m"]]:
    """Logits before each answer token, and those tokens. Padded on the right: causal attention never looks there."""
    width = max(map(len, rows))
    ids = [[*row.prompt, *row.answer, *[policy.text.pad_id] * (width - len(row))] for row in rows]
    own = [[len(row.prompt) <= i < len(row) for i in range(width)] for row in rows]
    tokens, carries = torch.tensor(ids, device=policy.device), torch.tensor(own, device=policy.device)
    with policy.compute():
        states = policy.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        return policy.logits(states[:, :-1][carries[:, 1:]]), tokens[carries]


def answer_tokens(rows: Sequence[Row]) -> int:
    """N: the tokens that carry loss."""
    return sum(len(row.answer) for row in rows)


def learning_rate(step: int, steps: int, config: SFT) -> float:
    """The learning rate of step 1 to `steps`: linear warm-up, then the schedule."""
    if step <= config.warmup:
        return config.learning_rate * step / config.warmup
    done = (step - 1 - config.warmup) / (steps - config.warmup)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[config.schedule]
    return config.learning_rate * share


def _diverged(step: int, bad: int, metrics: Metrics) -> DivergenceError:
    return DivergenceError(
        f"Fine-tuning stopped at step {step}: loss or gradient was not finite {bad} times in a row (never applied).",
        got=f"loss {metrics['loss']}, grad_norm {metrics['grad_norm']}",
        todo="lower sft.learning_rate, lengthen sft.warmup, or use precision = 'fp32'",
    )
