"""Layers under autocast that keep less for the backward pass and add to the gradient's fp32 sum where they make it.

They stand in for modules of the library that do the same, which a probe confirms for each of them; weights, names and
the pass without gradients stay the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scoreline.models.gradients import add_gradient, compute_dtype
from scoreline.models.linear import CastLinear
from scoreline.models.making import confirmed


def lean(x: Tensor) -> bool:
    """Whether this pass will be differentiated and computes in another type than the weights'."""
    return torch.is_grad_enabled() and compute_dtype(x) != torch.float32


class LeanNorm(nn.Module):
    """w x / sqrt(mean x^2 + eps), of fp32 states, straight in the type of the products that follow."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """The normalised states. Those of heads, in the lower type already, are left to the library."""
        if not lean(x) or x.dtype != torch.float32:
            plain: Tensor = super().forward(x)
            return plain
        y: Tensor = Norm.apply(x, self.weight, self.variance_epsilon, compute_dtype(x))  # type: ignore[no-untyped-call]
        return y


class Norm(torch.autograd.Function):
    """y = w r x with r = 1 / sqrt(mean x^2 + eps): dx = r (w g - r^2 x mean(w g x)), dw = sum r g x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        r = x.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, r, weight)
        return (x * r).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, r, weight = ctx.saved_tensors
        g, unit = g.float(), x * r
        d_weight = (g * unit).flatten(0, -2).sum(0)
        wg = g * weight
        along = (wg * unit).mean(-1, keepdim=True)  # no vecdot: autocast would make it in the lower type
        d_x = wg.sub_(unit.mul_(along)).mul_(r)
        if not ctx.needs_input_grad[1]:
            return d_x, None, None, None
        if not add_gradient(weight):
            return d_x, d_weight, None, None
        weight.grad += d_weight
        return d_x, None, None, None


class LeanGate(nn.Module):
    """W_down (silu(W_gate x) * W_up x), of which only the two products that go in are kept."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: CastLinear

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """The layer's output."""
        if not lean(x) or type(self.down_proj) is not CastLinear:
            plain: Tensor = super().forward(x)
            return plain
        y: Tensor = Gated.apply(self.gate_proj(x), self.up_proj(x), self.down_proj.weight)  # type: ignore[no-untyped-call]
        return y


class Gated(torch.autograd.Function):
    """y = W (silu(a) * b)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, weight)
        return nn.functional.linear(nn.functional.silu(a).mul_(b), weight.to(a.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        a, b, weight = ctx.saved_tensors
        inner = g @ weight.to(g.dtype)
        opened = nn.functional.silu(a)
        d_b = inner * opened
        d_a = torch.ops.aten.silu_backward(inner.mul_(b), a)
        if not ctx.needs_input_grad[2]:
            return d_a, d_b, None
        d_weight = g.flatten(0, -2).T @ opened.mul_(b).flatten(0, -2)
        if not add_gradient(weight):
            return d_a, d_b, d_weight.to(weight.dtype)
        weight.grad += d_weight
        return d_a, d_b, None


class LeanEmbedding(nn.Embedding):
    """An `nn.Embedding` whose gradient is added to the rows that were read, and to no others."""

    def forward(self, tokens: Int[Tensor, ...]) -> Float[Tensor, "... d"]:
        """The rows of the tokens."""
        if not lean(self.weight):
            return super().forward(tokens)
        y: Tensor = Lookup.apply(self.weight, tokens, self.padding_idx)  # type: ignore[no-untyped-call]
        return y


class Lookup(torch.autograd.Function):
    """y = E[tokens]."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(weight, tokens)
        ctx.padding = padding
        return nn.functional.embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None]:
        weight, tokens = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None, None
        tokens, g = tokens.flatten(), g.reshape(-1, g.shape[-1])
        if ctx.padding is not None:
            g = g * (tokens != ctx.padding)[:, None]
        if not add_gradient(weight):
            return torch.zeros_like(weight).index_add_(0, tokens, g), None, None
        weight.grad.index_add_(0, tokens, g)
        return None, None, None


def make_lean(model: nn.Module) -> None:
    """Put the layers of this module where the library's do the same. Linear layers are `CastLinear` already."""
    for module in model.modules():
        if isinstance(module, LeanNorm | LeanGate):  # a copy of a policy: reference, critic
            continue
        if type(module) is nn.Embedding and module.max_norm is None and not module.scale_grad_by_freq:
            module.__class__ = LeanEmbedding
        elif is_norm(module):
            module.__class__ = stand_in(LeanNorm, type(module))
        elif is_gate(module):
            module.__class__ = stand_in(LeanGate, type(module))


def is_norm(module: Any) -> bool:
    """Whether a module is w x / sqrt(mean x^2 + eps)."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, nn.Parameter) or weight.dim() != 1 or not isinstance(epsilon, float):
        return False
    return same(module, weight, lambda x: weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon))


def is_gate(module: Any) -> bool:
    """Whether a module is W_down (silu(W_gate x) * W_up x)."""
    gate, up, down = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    if not all(type(part) is CastLinear for part in (gate, up, down)) or down.bias is not None:  # type: ignore[union-attr]
        return False
    return same(module, gate.weight[0], lambda x: down(nn.functional.silu(gate(x)) * up(x)))  # type: ignore[misc, union-attr]


def same(module: nn.Module, like: Tensor, expected: Callable[[Tensor], Tensor]) -> bool:
    """Whether a module maps rows as wide as `like` to what is expected."""
    return confirmed(type(module).__name__, partial(maps, module, like, expected))


@torch.no_grad()
def maps(module: nn.Module, like: Tensor, expected: Callable[[Tensor], Tensor]) -> bool:
    """The same, by the weights that are here."""
    x = ramp(like)
    found = module(x)
    return bool(isinstance(found, Tensor) and torch.allclose(found, expected(x), rtol=1e-5, atol=1e-6))


def ramp(like: Tensor) -> Float[Tensor, "1 2 d"]:
    """Two different rows, as wide as `like`."""
    line = torch.linspace(-2.0, 1.0, 2 * len(like), device=like.device)
    return line.view(2, -1)[None]


def stand_in(lean_class: type[nn.Module], original: type[nn.Module]) -> type[nn.Module]:
    """The lean class over the library's, whose pass without gradients it keeps."""
    return type(original.__name__, (lean_class, original), {"__module__": original.__module__})
