"""The optimisers of the loop: AdamW (Loshchilov and Hutter, 1711.05101), with its two moments in fp32 or in 8 bits.

m <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2;   theta <- theta - eta (m^ / (sqrt(v^) + eps) + lambda theta)
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal

import torch

from scoreline.errors import ModelError

OptimizerName = Literal["adamw", "adamw_8bit"]
"""`adamw_8bit` keeps m and v in blocks of 256 values of 8 bits each (Dettmers et al., 2110.02861): 2 bytes a weight
instead of 8. Tensors of fewer than 4096 weights keep fp32. On a CPU it saves memory and costs time.
"""


def make_optimizer(
    name: OptimizerName, groups: Sequence[dict[str, Any]], *, weight_decay: float, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW over fp32 weights. Raises `ModelError` where the package for 8 bits is missing or knows no such device."""
    if name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=device.type != "mps")
    if device.type == "mps":
        raise ModelError(
            "8-bit moments are not computed on this device.", got=str(device), accepted="cpu, cuda", todo="use adamw."
        )
    try:
        library: Any = import_module("bitsandbytes.optim")
    except ImportError as error:
        raise ModelError(
            "8-bit moments need the package bitsandbytes.", got=str(error), todo="pip install 'scoreline[bnb]'"
        ) from error
    optimizer: torch.optim.Optimizer = library.AdamW8bit(groups, weight_decay=weight_decay)
    return optimizer
