"""Decoding of models that the shared decoder does not know: through the library's caches, or without any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from scoreline.models.policy import Policy

NO_CACHE = (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What a model raises for a cache that it does not know, or a cache for rows that it cannot pick."""


class CachedDecoder:
    """Decoding through the cache class that transformers chose for a model: sliding windows, linear attention and the
    like keep their own kinds of state. Answers enter together; a prompt is computed once for all of its answers.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.logits = torch.empty(0, policy.vocabulary, device=policy.device)
        self.cache: Any = None

    @property
    def open(self) -> bool:
        """Only when nothing is in flight: the cache counts one length for all rows."""
        return not len(self.logits)

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """A new cache, filled with the distinct prompts and fanned out to their answers."""
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        device, width = self.policy.device, max(map(len, distinct))
        self.cache = DynamicCache(config=self.policy.model.config)
        self.lengths = torch.tensor([len(prompt) for prompt in distinct], device=device)
        self.seen = (torch.arange(width, device=device)[None] >= width - self.lengths[:, None]).long()
        tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in distinct], device=device)
        self._forward(tokens, (self.seen.cumsum(1) - 1).clamp(min=0))
        self.pick(torch.tensor([distinct[prompt] for prompt in prompts], device=device))

    def pick(self, rows: Int[Tensor, " m"]) -> None:
        """The library's caches copy the rows that stay."""
        if len(rows):
            for layer in self.cache.layers:
                layer.batch_select_indices(rows)
        self.lengths, self.seen, self.logits = self.lengths[rows], self.seen[rows], self.logits[rows]

    def step(self, tokens: Int[Tensor, " n"]) -> None:
        """One forward pass of one token an answer."""
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1])], 1)
        self._forward(tokens[:, None], self.lengths[:, None])
        self.lengths = self.lengths + 1

    def renew(self) -> None:
        """Nobody enters while answers are in flight."""

    def close(self) -> None:
        """Drop the cache."""
        self.cache = None

    def _forward(self, tokens: Tensor, positions: Tensor) -> None:
        out = self.policy.model.base_model(
            input_ids=tokens,
            attention_mask=None if bool(self.seen.all()) else self.seen,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = self.policy.logits(out.last_hidden_state[:, -1])


class WholeDecoder:
    """Each token from the whole text, for models that keep no keys and values: slow, and right."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.logits = torch.empty(0, policy.vocabulary, device=policy.device)

    @property
    def open(self) -> bool:
        """Only when nothing is in flight: the rows have one width."""
        return not len(self.logits)

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """The prompts, padded on the left."""
        device, width = self.policy.device, max(map(len, prompts))
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.seen = (torch.arange(width, device=device)[None] >= width - lengths[:, None]).long()
        self.tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        self._forward()

    def pick(self, rows: Int[Tensor, " m"]) -> None:
        """Rows of text."""
        self.tokens, self.seen, self.logits = self.tokens[rows], self.seen[rows], self.logits[rows]

    def step(self, tokens: Int[Tensor, " n"]) -> None:
        """One forward pass of everything."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], 1)
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1])], 1)
        self._forward()

    def renew(self) -> None:
        """Nothing is kept: the next token reads the whole text with the new weights."""

    def close(self) -> None:
        """There is nothing to free."""

    def _forward(self) -> None:
        out = self.policy.model.base_model(
            input_ids=self.tokens,
            attention_mask=None if bool(self.seen.all()) else self.seen,
            position_ids=(self.seen.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        )
        self.logits = self.policy.logits(out.last_hidden_state[:, -1])


@torch.no_grad()
def caches(policy: Policy) -> bool:
    """Whether the library's cache gives this model the logits that the whole text gives it, also for picked rows."""
    if policy.caches is None:
        policy.caches = _caches(policy)
    return policy.caches


def _caches(policy: Policy) -> bool:
    cached, whole = CachedDecoder(policy), WholeDecoder(policy)
    rows, token = torch.tensor([1, 0], device=policy.device), torch.tensor([2, 1], device=policy.device)
    try:
        for decoder in (cached, whole):
            decoder.admit([(0, 1, 2), (0, 3)])
            decoder.pick(rows)
            decoder.step(token)
    except NO_CACHE:
        return False
    finally:
        cached.close()
    return torch.allclose(cached.logits, whole.logits, atol=1e-2, rtol=1e-2)
