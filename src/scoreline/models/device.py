"""Where the model lives and in which precision it computes."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import nn

from scoreline.errors import ModelError

Precision = Literal["fp32", "bf16"]
"""Arithmetic of forward passes. The master weights, the gradients and the optimiser are fp32 in both."""


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU; any other name is taken as told, or refused when it is absent."""
    present = available_devices()
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in present))
    if name not in present:
        raise ModelError(
            "The device is not there.", got=name, accepted="auto, " + ", ".join(present), todo="use device = 'auto'"
        )
    return torch.device(name)


def available_devices() -> list[str]:
    """What this machine and this build of torch have: `cpu`, `mps`, `cuda` and each `cuda:i`."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *mps, *(["cuda"] if cuda else []), *cuda]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bf16 autocast over fp32 weights, or nothing at all for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def lowered(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Linear layers hold bf16 copies of their weights, cast once; the fp32 weights come back at the end.

    The numbers are autocast's, which casts a weight again whenever its cache is empty, and in compiled code each time.
    """
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)] if precision == "bf16" else []
    whole = [linear.weight for linear in linears]
    copies = {id(weight): weight.detach().to(torch.bfloat16) for weight in whole}
    for linear, weight in zip(linears, whole, strict=True):
        linear._parameters["weight"] = nn.Parameter(copies[id(weight)], requires_grad=False)
    try:
        yield
    finally:
        for linear, weight in zip(linears, whole, strict=True):
            linear._parameters["weight"] = weight  # type: ignore[assignment]


@cache
def keep_memory() -> bool:
    """Let glibc keep freed memory for the next tensor, and say whether this is glibc.

    By default it gives every large tensor back to the system, which then clears each page again for the next one; a
    step's tensors are those of the step before. Peak memory is the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    return bool(mallopt(trim_threshold, 2**31 - 1)) and bool(mallopt(mmap_max, 0))
