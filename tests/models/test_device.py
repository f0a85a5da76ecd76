from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from scoreline.errors import ModelError
from scoreline.models.device import autocast, available_devices, choose_device, keep_memory


def test_auto_prefers_an_accelerator() -> None:
    kind = choose_device("auto").type
    assert kind == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def test_a_named_device_is_taken() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:97", "gpu", ""])
def test_an_absent_device_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"not there[\s\S]*accepted:.*cpu[\s\S]*device = 'auto'"):
        choose_device(name)


@pytest.mark.parametrize("name", available_devices())
def test_bf16_computes_in_bf16_and_keeps_the_weights(name: str) -> None:
    device = torch.device(name)
    layer = torch.nn.Linear(4, 4).to(device)
    with autocast(device, "bf16"):
        assert layer(torch.ones(1, 4, device=device)).dtype is torch.bfloat16
    with autocast(device, "fp32"):
        assert layer(torch.ones(1, 4, device=device)).dtype is torch.float32
    assert layer.weight.dtype is torch.float32


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back by default and can be told")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert keep_memory()
    tensor = torch.ones(1 << 24)
    held = resident()
    del tensor
    assert resident() > held - (1 << 20)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
