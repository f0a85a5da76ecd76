"""Attention while sampling: a prompt's keys and values once for all of its answers, each answer's own beside them.

o = softmax( q [K_prompt ; K_own]^T c + mask ) [V_prompt ; V_own],  c the model's scale
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

FAR = float("-inf")


@dataclass
class Held:
    """The keys and values of one attention layer. Axis q: prompts; p: their tokens; n: answers; t: room for theirs."""

    prompt_keys: Float[Tensor, "q k p e"]
    prompt_values: Float[Tensor, "q k p f"]
    keys: Float[Tensor, "n k t e"]
    values: Float[Tensor, "n k t f"]


class Prefill(NamedTuple):
    """Prompts on their way through the model: each attention module leaves its keys and values here."""

    kept: dict[nn.Module, tuple[Tensor, Tensor]]


class Step(NamedTuple):
    """One token of every answer on its way through the model.

    `written` [n] is where it goes in the answer's own room, `bias` [n, 1, 1, p + t] 0 at what it may see. `members`
    [q, g] are the answers to each prompt (0 where there are fewer than g), or None where no prompt is shared; `home`
    [n] is each answer's place in it, flattened, or None where all groups are whole and in order.
    """

    rows: Int[Tensor, " n"]
    written: Int[Tensor, " n"]
    bias: Float[Tensor, "n 1 1 l"]
    members: Int[Tensor, "q g"] | None = None
    home: Int[Tensor, " n"] | None = None


def attend_prompts(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, prefill: Prefill, scaling: float | None
) -> tuple[Tensor, None]:
    """Causal attention of prompts that are padded on the right, whose padding nothing sees."""
    prefill.kept[module] = key, value
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, 1) if repeats > 1 else x for x in (key, value))
    out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return out.transpose(1, 2), None


def attend_step(
    module: Any, query: Tensor, key: Tensor, value: Tensor, step: Step, scaling: float | None
) -> tuple[Tensor, None]:
    """One query an answer. The answers to one prompt meet its keys in one matrix product; no head is repeated."""
    held: Held = module.held
    n, heads, _, e = query.shape
    held.keys[step.rows, :, step.written] = key[:, :, 0]
    held.values[step.rows, :, step.written] = value[:, :, 0]
    q = query.view(n, key.shape[1], heads // key.shape[1], e)
    scores = torch.matmul(q, held.keys.transpose(-1, -2))
    if step.members is not None:
        asked = torch.matmul(together(q, step.members, step.home), held.prompt_keys.transpose(-1, -2))
        scores = torch.cat([apart(asked, step.members, step.home), scores], -1)
    scale = e**-0.5 if scaling is None else scaling
    weights = (scores.float() * scale + step.bias).softmax(-1).to(value.dtype)
    out = torch.matmul(weights[..., -held.keys.shape[2] :], held.values)
    if step.members is not None:
        asked = together(weights[..., : held.prompt_keys.shape[2]], step.members, step.home)
        out = out + apart(torch.matmul(asked, held.prompt_values), step.members, step.home)
    return out.reshape(n, 1, heads, -1), None


def together(x: Float[Tensor, "n k r e"], members: Tensor, home: Tensor | None) -> Float[Tensor, "q k gr e"]:
    """Rows of answers as rows of prompts: [q, k, g r, e]."""
    (q, g), (_, k, r, e) = members.shape, x.shape
    placed = x if home is None else x[members.flatten()]
    return placed.view(q, g, k, r, e).transpose(1, 2).reshape(q, k, g * r, e)


def apart(x: Float[Tensor, "q k gr e"], members: Tensor, home: Tensor | None) -> Float[Tensor, "n k r e"]:
    """The inverse of `together`."""
    (q, g), (_, k, gr, e) = members.shape, x.shape
    placed = x.view(q, k, g, gr // g, e).transpose(1, 2).reshape(q * g, k, gr // g, e)
    return placed if home is None else placed[home]


def seated(seat: Int[Tensor, " n"], seats: int, most: int) -> tuple[Int[Tensor, "q g"], Int[Tensor, " n"] | None]:
    """`members` and `home` of answers that belong to these prompts, at most `most` to each."""
    order = seat.argsort(stable=True)
    counts = seat.bincount(minlength=seats)
    rank = torch.arange(len(seat), device=seat.device) - (counts.cumsum(0) - counts)[seat[order]]
    home = torch.empty_like(seat).index_copy_(0, order, seat[order] * most + rank)
    members = torch.zeros(seats * most, dtype=torch.long, device=seat.device).index_copy_(0, home[order], order)
    in_order = len(seat) == seats * most and bool((home == torch.arange(len(seat), device=seat.device)).all())
    return members.view(seats, most), None if in_order else home


def visible(count: Int[Tensor, " n"], width: int) -> Float[Tensor, "n 1 1 w"]:
    """0 in the first `count` places of each row, minus infinity behind them."""
    place = torch.arange(width, device=count.device)
    return torch.where(place[None] < count[:, None], 0.0, FAR)[:, None, None]


def widened(x: Float[Tensor, "n k l e"], width: int) -> Float[Tensor, "n k w e"]:
    """Room for `width` places on axis l, zeros behind what is there."""
    return x if x.shape[2] >= width else pad(x, (0, 0, 0, width - x.shape[2]))
