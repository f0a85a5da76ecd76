"""log pi(o_t) and H(pi) from last hidden states: head, softmax and their gradient in one function, in tiles.

A tile is some rows by some columns of the logits. Each is made, used and dropped, once in the forward pass and again in
the backward pass, so that neither n x t x v numbers nor a copy of the head's weights exist at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoreline.models.gradients import add_gradient, compute_dtype

ROWS = 1024
"""Rows of a tile."""
TILE = {"cpu": 1 << 21, "cuda": 1 << 25}
"""Numbers in a tile: on a CPU 8 MiB of fp32, which stay in its cache."""


@dataclass(frozen=True)
class Readout:
    """z = cap tanh(scale x / cap) / T of x = W h + b, or scale x / T without a cap."""

    scale: float = 1.0
    cap: float | None = None
    temperature: float = 1.0

    def apply_(self, x: Tensor) -> Tensor:
        """x becomes z, in place."""
        if self.cap is None:
            factor = self.scale / self.temperature
            return x if factor == 1.0 else x.mul_(factor)
        return x.mul_(self.scale / self.cap).tanh_().mul_(self.cap / self.temperature)

    def chain_(self, gradient: Tensor, z: Tensor) -> Tensor:
        """dL/dz becomes dL/dx, in place: dz/dx = scale / T (1 - (T z / cap)^2). `z` is overwritten."""
        factor = self.scale / self.temperature
        if self.cap is not None:
            gradient.mul_(z.mul_(self.temperature / self.cap).square_().neg_().add_(1.0))
        return gradient if factor == 1.0 else gradient.mul_(factor)


def token_scores(
    states: Float[Tensor, "m d"],
    tokens: Int[Tensor, " m"],
    weight: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"] | None,
    readout: Readout,
    entropy_gradient: bool = False,
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """log p_k = z_k - log sum exp z at each row's token k, and H = log sum exp z - sum p z, in nats, fp32.

    The gradient of the entropy is computed only where it is asked for. Products are made in autocast's type.
    """
    logp, entropy = TokenScores.apply(states, weight, bias, tokens, readout, entropy_gradient)  # type: ignore[no-untyped-call]
    return logp, entropy


class TokenScores(torch.autograd.Function):
    """d log p_k / dz = onehot_k - p and dH / dz = - p (log p + H), with p made again from log sum exp z."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        readout: Readout,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        given, dtype = states.dtype, compute_dtype(states)
        states = states.to(dtype)
        parts = []
        for part in columns(weight, bias, len(states), dtype):
            sums = [log_sum_and_entropy(part.logits(rows, readout)) for rows in states.split(ROWS)]
            parts.append(torch.cat(sums, 1))
        norms, entropies = torch.stack(parts, 1)
        normaliser = norms.logsumexp(0)
        log_share = norms - normaliser  # of each part of the vocabulary: H = sum share (H_part - log share)
        entropy = (log_share.exp() * (entropies - log_share)).sum(0)
        # No vecdot, which autocast would make in the lower type; then rounded as the sum's own logit of the token is.
        chosen = (states.float() * weight[tokens].to(dtype).float()).sum(-1).to(dtype).float()
        chosen = readout.apply_(chosen if bias is None else chosen + bias[tokens])
        ctx.save_for_backward(states, weight, bias, tokens, normaliser, entropy)
        ctx.readout, ctx.given = readout, given
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        ctx.entropy_gradient = entropy_gradient
        return chosen - normaliser, entropy

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor | None) -> tuple[Tensor | None, ...]:
        states, weight, bias, tokens, normaliser, entropy = ctx.saved_tensors
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_states = torch.zeros(states.shape, device=states.device)
        d_weight = torch.zeros_like(weight) if wants_weight and not add_gradient(weight) else None
        d_bias = torch.zeros_like(bias) if wants_bias and bias is not None else None
        for part in columns(weight, bias, len(states), states.dtype):
            for start in range(0, len(states), ROWS):
                at = slice(start, start + ROWS)
                logits = part.logits(states[at], ctx.readout)
                slope = logit_gradient(logits, normaliser[at], g[at], tokens[at] - part.start)
                if ctx.entropy_gradient and h is not None:
                    log_p = logits - normaliser[at, None]
                    slope -= h[at, None] * log_p.exp() * (log_p + entropy[at, None])
                slope = ctx.readout.chain_(slope, logits)
                if d_bias is not None:
                    d_bias[part.start : part.end] += slope.sum(0)
                slope = slope.to(states.dtype)
                d_states[at] += slope @ part.weight
                if wants_weight:
                    into = weight.grad if d_weight is None else d_weight
                    into[part.start : part.end] += slope.T @ states[at]
        return d_states.to(ctx.given) if wants_states else None, d_weight, d_bias, None, None, None


@dataclass(frozen=True)
class Columns:
    """Some tokens of the vocabulary: their rows of W and b."""

    start: int
    end: int
    weight: Float[Tensor, "w d"]
    bias: Float[Tensor, " w"] | None

    def logits(self, states: Float[Tensor, "m d"], readout: Readout) -> Float[Tensor, "m w"]:
        """z of these tokens, in fp32."""
        x = torch.mm(states, self.weight.T)
        x = x.float() if self.bias is None else x.float().add_(self.bias)
        return readout.apply_(x)


def columns(weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype) -> Iterator[Columns]:
    """The vocabulary in parts whose tiles are of the right size."""
    width = max(256, TILE.get(weight.device.type, TILE["cpu"]) // max(1, min(rows, ROWS)))
    for start in range(0, len(weight), width):
        end = min(start + width, len(weight))
        yield Columns(start, end, weight[start:end].to(dtype), None if bias is None else bias[start:end])


def log_sum_and_entropy(logits: Float[Tensor, "m w"]) -> Float[Tensor, "2 m"]:
    """log sum exp z, and the entropy of softmax z. `logits` is overwritten."""
    top = logits.amax(-1)
    raised = logits.sub_(top[:, None]).exp()
    total = raised.sum(-1)
    mean = raised.mul_(logits).sum(-1) / total
    log_total = total.log()
    return torch.stack([log_total + top, log_total - mean])


def logit_gradient(
    logits: Float[Tensor, "m w"], normaliser: Float[Tensor, " m"], g: Float[Tensor, " m"], tokens: Int[Tensor, " m"]
) -> Float[Tensor, "m w"]:
    """g (onehot - p) where a row's token is among these columns, else - g p."""
    slope = (logits - normaliser[:, None]).exp_().mul_(-g[:, None])
    here = (tokens >= 0) & (tokens < logits.shape[1])
    return slope.scatter_add_(1, tokens.clamp(0, logits.shape[1] - 1)[:, None], (g * here)[:, None])
