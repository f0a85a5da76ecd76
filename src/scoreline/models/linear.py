"""Linear layers over fp32 weights that compute in autocast's type without keeping a copy of the weights.

    y = W x + b        dL/dx = W^T dL/dy        dL/dW += dL/dy x^T

W is cast where it is used, in the forward pass and again in the backward pass. That is a small share of the product,
and the second copy of all weights, the one that autocast keeps, is never there. dL/dW is added to the fp32 sum at once.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoreline.models.gradients import add_gradient, compute_dtype


class CastLinear(nn.Linear):
    """An `nn.Linear` that is `CastProduct` in passes under autocast that will be differentiated."""

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... k"]:
        """W x + b."""
        dtype = compute_dtype(x)
        if not torch.is_grad_enabled() or dtype == self.weight.dtype:
            return super().forward(x)
        y: Tensor = CastProduct.apply(x.to(dtype), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return y


class CastProduct(torch.autograd.Function):
    """W x + b in the type of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else None, weight, bias)
        cast_bias = None if bias is None else bias.to(x.dtype)
        return nn.functional.linear(x, weight.to(x.dtype), cast_bias)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight, bias = ctx.saved_tensors
        d_x = slope @ weight.to(slope.dtype) if ctx.needs_input_grad[0] else None
        rows = slope.flatten(0, -2)
        d_bias = None if bias is None else rows.sum(0, dtype=torch.float32)
        if not ctx.needs_input_grad[1]:
            return d_x, None, d_bias
        d_weight = rows.T @ x.flatten(0, -2)
        if not add_gradient(weight):
            return d_x, d_weight.to(weight.dtype), d_bias
        weight.grad += d_weight
        return d_x, None, d_bias


def cast_on_use(model: nn.Module) -> None:
    """Every plain linear layer of a model becomes a `CastLinear`; weights and their names stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = CastLinear
