"""Supervised fine-tuning: the policy that reinforcement learning starts from and is held to.

    L = - (1 / N) sum_it m_it log pi(o_it | q_i, o_i,<t)        N = sum_it m_it over the whole optimiser step

Only the answer's tokens o carry loss (m = 1), its eos included; the question q carries none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from scoreline.environments.examples import Example
from scoreline.errors import DataError
from scoreline.models.policy import Policy
from scoreline.models.text import Text
from scoreline.train.supervised import Fit, FitReport, Task, adamw, batches, learn, learning_rate
from scoreline.types import Metrics

__all__ = ["SFT", "FitReport", "Row", "accumulate", "batches", "finetune", "learning_rate", "tokenise"]


@dataclass(frozen=True)
class SFT(Fit):
    """The recipe's table [sft]. A row is an example; `steps`, when given, stands above `epochs`."""

    table: ClassVar[str] = "sft"
    work: ClassVar[str] = "Fine-tuning"


@dataclass(frozen=True)
class Row:
    """One tokenised example."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def finetune(policy: Policy, examples: Sequence[Example], config: SFT, *, seed: int = 0) -> Iterator[FitReport]:
    """Train `policy` in place with AdamW and report each step: also mean_token_accuracy. The loss is in nats a token.

    The same arguments give the same weights, bit by bit. `seed` is that of the order of the examples and of torch's
    global generator, which dropout uses. Raises `DataError` for no examples or one that is too long, and
    `DivergenceError` after `max_bad_steps` steps in a row that could not be applied.
    """
    rows = tokenise(policy.text, examples, min(config.max_length, policy.context))
    parameters = list(policy.weights().values())
    torch.manual_seed(seed)

    def gradient(batch: Sequence[Row]) -> Metrics:
        policy.model.train()
        metrics = accumulate(policy, batch, config.micro_batch_size)
        policy.model.train(False)  # who watches may evaluate between the steps
        return metrics

    yield from learn(Task(rows, gradient, answer_tokens), parameters, adamw(parameters, config), config, seed)


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
