"""Gradients that are added to a parameter's fp32 sum where they are made: no second copy, no cast of the whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def add_gradient(parameter: Tensor) -> bool:
    """Whether gradients may be added to `parameter.grad` directly; it is there then, zero at first.

    Only a plain leaf of autograd bears that: a sharded or a computed weight gets its gradient through autograd.
    """
    if type(parameter) is not nn.Parameter or not parameter.is_leaf:
        return False
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return True


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which products with x are made: autocast's, or x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
