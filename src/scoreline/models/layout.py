"""Where the tokens of a batch stand when they are packed side by side, each prompt once for its whole group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoreline.types import Batch


@dataclass(frozen=True)
class Layout:
    """Where each token of a packed batch belongs.

    Axis m: packed tokens; q: distinct prompts; a = q g: seats for g answers to each prompt, some of them empty where
    groups differ in size; p, t: padded rows. `prompt` [q, p] and `answer` [a, t] are places in the packed tokens (0
    where there is none); `home` [m] are places in the two of them laid end to end; `bias` [q, 1, 1, 1, t, p + t] is
    what is added to the scores of an answer's token: 0 or -inf; `states` [n, t + 1] are the places of s_0 .. s_t.
    """

    tokens: Int[Tensor, " m"]
    positions: Int[Tensor, " m"]
    prompt: Int[Tensor, "q p"]
    answer: Int[Tensor, "a t"]
    home: Int[Tensor, " m"]
    bias: Float[Tensor, "q 1 1 1 t l"]
    causal: Float[Tensor, "1 1 1 1 p p"]
    states: Int[Tensor, "n s"]

    @property
    def asked(self) -> Int[Tensor, " a"]:
        """The prompt of each seat."""
        questions, seats = len(self.prompt), len(self.answer)
        return torch.arange(questions, device=self.prompt.device).repeat_interleave(seats // questions)


def lay_out(batch: Batch) -> Layout:
    """The packed form of a batch. Rows of one group answer the same prompt, which is laid out once."""
    device = batch.length.device
    width, budget = batch.prompts.shape[1], batch.completions.shape[1]
    rows, seat = seats(batch.group)
    first = rows[:, 0]  # the first row of each group; every group has one
    taken = rows.flatten().clamp(min=0)
    lengths, place = batch.prompt_length[first], torch.arange(width, device=device)
    there = place[None] < lengths[:, None]  # prompts padded on the right: causal attention then needs no mask
    shifted = (place[None] + width - lengths[:, None]).clamp(max=width - 1)
    answered = batch.length[taken] * (rows.flatten() >= 0)
    written = torch.arange(budget, device=device)[None] < answered[:, None]
    present = torch.cat([there.flatten(), written.flatten()])
    home = present.nonzero().squeeze(1)
    packed = (present.cumsum(0) - 1).clamp(min=0) * present
    prompt, answer = packed[: there.numel()].view_as(there), packed[there.numel() :].view_as(written)
    tokens = torch.cat([batch.prompts[first].gather(1, shifted).flatten(), batch.completions[taken].flatten()])
    counted = batch.prompt_length[taken, None] + torch.arange(budget, device=device)[None]
    positions = torch.cat([place.expand_as(there).flatten(), counted.flatten()])
    last = prompt.gather(1, lengths[:, None] - 1)[seat // rows.shape[1]]
    states = torch.cat([last, answer[seat]], 1)
    return Layout(
        tokens[home], positions[home], prompt, answer, home, bias(there, budget), future(width, device), states
    )


def seats(group: Int[Tensor, " n"]) -> tuple[Int[Tensor, "q g"], Int[Tensor, " n"]]:
    """The rows of each group side by side, -1 where a group has fewer than others; and the seat q g of each row."""
    _, asked, counts = group.unique(return_inverse=True, return_counts=True)
    order = asked.argsort(stable=True)
    start = counts.cumsum(0) - counts
    number = torch.arange(len(group), device=group.device) - start[asked[order]]
    size = int(counts.max())
    seat = torch.empty_like(order).index_copy_(0, order, asked[order] * size + number)
    rows = torch.full((len(counts) * size,), -1, device=group.device).index_copy_(0, seat[order], order)
    return rows.view(len(counts), size), seat


def bias(there: Tensor, budget: int) -> Float[Tensor, "q 1 1 1 t l"]:
    """An answer's token sees its whole prompt, and its answer up to itself."""
    behind = torch.zeros(there.shape, device=there.device).masked_fill_(~there, -torch.inf)
    own = future(budget, there.device).view(1, budget, budget)
    whole = torch.cat([behind[:, None].expand(-1, budget, -1), own.expand(len(there), -1, -1)], 2)
    return whole[:, None, None, None]


def future(length: int, device: torch.device) -> Float[Tensor, "1 1 1 1 l l"]:
    """-inf above the diagonal."""
    return torch.full((1, 1, 1, 1, length, length), -torch.inf, device=device).triu_(1)
