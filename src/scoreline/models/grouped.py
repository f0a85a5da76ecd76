"""Softmax attention as matrix products, with keys that many queries share, for a CPU.

    P = softmax(scale Q K^T + bias)        O = P V

Heads that share keys (grouped queries) and answers that share a prompt are rows of one product: nothing is repeated.
Scores are fp32; with bf16 inputs the other products are bf16. P is made again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def grouped_attention(
    query: Float[Tensor, "q c g r t e"],
    keys: Sequence[Float[Tensor, "b l e"]],
    values: Sequence[Float[Tensor, "b l e"]],
    bias: Float[Tensor, "q 1 1 1 t l"],
    scale: float,
) -> Float[Tensor, "q c g r t e"]:
    """O of each query over several blocks of keys side by side; the bias is over all of their columns.

    Block j has keys for b_j equal runs of the queries in memory order: q c of them for keys of a prompt, q c g for
    those of an answer.
    """
    out: Tensor = GroupedAttention.apply(query.contiguous(), bias, scale, *keys, *values)  # type: ignore[no-untyped-call]
    return out


class GroupedAttention(torch.autograd.Function):
    """dS = P (dO V^T - sum P dO V^T), dQ = scale dS K, dK = scale dS^T Q, dV = P^T dO."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, bias: Tensor, scale: float, *shared: Tensor) -> Tensor:
        keys, values = shared[: len(shared) // 2], shared[len(shared) // 2 :]
        ctx.save_for_backward(query, bias, *shared)
        ctx.scale = scale
        weights = split(probabilities(query, keys, bias, scale), keys, query.dtype)
        out = sum_products(weights, values, query)
        return out.view(query.shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        query, bias, *shared = ctx.saved_tensors
        keys, values = shared[: len(shared) // 2], shared[len(shared) // 2 :]
        slope = slope.contiguous()
        p = probabilities(query, keys, bias, ctx.scale)
        weights = split(p, keys, query.dtype)
        d_values = [torch.bmm(w.mT, runs(slope, v)) for w, v in zip(weights, values, strict=True)]
        d_p = products(slope, values)
        d_p.sub_((p * d_p).sum(-1, keepdim=True)).mul_(p).mul_(ctx.scale)
        d_scores = split(d_p, keys, query.dtype)
        d_keys = [torch.bmm(d.mT, runs(query, k)) for d, k in zip(d_scores, keys, strict=True)]
        return sum_products(d_scores, keys, query).view(query.shape), None, None, *d_keys, *d_values


def probabilities(query: Tensor, keys: Sequence[Tensor], bias: Tensor, scale: float) -> Float[Tensor, "x l"]:
    """P in fp32, one row a query."""
    scores = products(query.float(), [k.float() for k in keys]).mul_(scale)
    scores.view(*query.shape[:-1], -1).add_(bias)
    return scores.softmax(-1)


def products(rows: Tensor, blocks: Sequence[Tensor]) -> Float[Tensor, "x l"]:
    """rows K_j^T of all blocks side by side, in fp32."""
    each = [torch.bmm(runs(rows, block), block.mT).view(-1, block.shape[1]) for block in blocks]
    return each[0].float() if len(each) == 1 else torch.cat([part.float() for part in each], 1)


def sum_products(weights: Sequence[Tensor], blocks: Sequence[Tensor], like: Tensor) -> Float[Tensor, "x e"]:
    """sum_j W_j B_j."""
    each = [torch.bmm(w, block).view(-1, like.shape[-1]) for w, block in zip(weights, blocks, strict=True)]
    return each[0] if len(each) == 1 else each[0].add_(each[1])


def split(whole: Tensor, blocks: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The columns of each block, as the rows that its keys stand for."""
    parts = whole.split([block.shape[1] for block in blocks], 1)
    return [p.to(dtype).contiguous().view(b.shape[0], -1, b.shape[1]) for p, b in zip(parts, blocks, strict=True)]


def runs(rows: Tensor, block: Tensor) -> Tensor:
    """Rows in memory order as many equal runs as the block has."""
    return rows.view(block.shape[0], -1, rows.shape[-1])
