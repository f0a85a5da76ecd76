"""Decoding of many answers token by token, through transformers' cache classes: one prefill a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from scoreline.models.attention import plain_attention
from scoreline.models.policy import Policy


class ReservedLayer(DynamicLayer):
    """Keys and values in memory reserved for the whole answer, so that a step copies one token and not the past."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self.room_keys: Tensor
        self.room_values: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write behind what is there and return views of all of it."""
        past = self.get_seq_length()
        end = past + key_states.shape[-2]
        if past == 0:
            self.lazy_initialization(key_states, value_states)
            self.room_keys = reserve(key_states, self.capacity)
            self.room_values = reserve(value_states, self.capacity)
        self.room_keys[:, :, past:end] = key_states
        self.room_values[:, :, past:end] = value_states
        self.keys, self.values = self.room_keys[:, :, :end], self.room_values[:, :, :end]
        return self.keys, self.values

    def pick(self, rows: Tensor) -> None:
        """Keep these rows, which may repeat."""
        assert self.keys is not None
        assert self.values is not None
        end = self.get_seq_length()
        self.room_keys = reserve(self.keys, self.capacity, rows)
        self.room_values = reserve(self.values, self.capacity, rows)
        self.keys, self.values = self.room_keys[:, :, :end], self.room_values[:, :, :end]


def reserve(states: Tensor, capacity: int, rows: Tensor | None = None) -> Tensor:
    """[n, h, l, d] -> [n, h, capacity, d], with the rows picked and the first l places filled."""
    picked = states if rows is None else states[rows]
    room = picked.new_empty(picked.shape[0], picked.shape[1], capacity, picked.shape[3])
    room[:, :, : picked.shape[2]] = picked
    return room


class Decoder:
    """Answers in flight. `logits` [n, v] are those of the next token of each row."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], *, budget: int) -> None:
        self.policy = policy
        self.lengths = torch.tensor([len(p) for p in prompts], device=policy.device)
        width = int(self.lengths.max())
        self.cache = make_cache(policy.model, capacity=width + budget)
        self.seen = torch.zeros(len(prompts), width + budget, dtype=torch.long, device=policy.device)
        self.seen[:, :width] = torch.arange(width, device=policy.device)[None] >= width - self.lengths[:, None]
        self.seen[:, width:] = 1
        self.padded = bool((self.lengths != width).any())
        self.filled = 0
        pad = policy.text.pad_id
        tokens = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=policy.device)
        self.logits = self._forward(tokens, (self.seen[:, :width].cumsum(1) - 1).clamp(min=0))

    def pick(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat: fan a prompt out into its group, or drop answers that ended."""
        for layer in self.cache.layers:
            if isinstance(layer, ReservedLayer):
                layer.pick(rows)
            else:
                layer.batch_select_indices(rows)  # type: ignore[union-attr]
        self.lengths, self.seen, self.logits = self.lengths[rows], self.seen[rows], self.logits[rows]

    def step(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n v"]:
        """Append one token to every row and compute the next logits."""
        self.logits = self._forward(tokens[:, None], self.lengths[:, None])
        self.lengths = self.lengths + 1
        return self.logits

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        self.filled += tokens.shape[1]
        out = self.policy.model.base_model(
            input_ids=tokens,
            attention_mask=self._mask(tokens.shape[1]),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        return self.policy.logits(out.last_hidden_state[:, -1])

    def _mask(self, queries: int) -> Tensor | None:
        if not self.padded:
            return None
        seen = self.seen[:, : self.filled]
        if queries == 1 and isinstance(self.cache.layers[0], ReservedLayer):
            return seen[:, None, None].bool()  # one mask for all layers; the library's own costs as much as a layer
        return seen


def make_cache(model: Any, capacity: int) -> Cache:
    """A cache with reserved memory where every layer is plain attention under sdpa; the library's own elsewhere.

    Sliding windows, linear attention and other kinds of state keep the classes that the library chose for them.
    """
    if plain_attention(model):
        return Cache(layers=[ReservedLayer(capacity) for _ in DynamicCache(config=model.config).layers])
    return DynamicCache(config=model.config)
