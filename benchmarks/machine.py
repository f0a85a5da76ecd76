"""Where it is measured, with what, and when."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scoreline.models.device import choose_device

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets")


def machine(device: str) -> dict[str, Any]:
    """Machine, versions, date, and how busy the machine is. Without the path or the name of anybody."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": platform.system(),
        "processor": processor(),
        "instructions": instructions(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed here."""
    known = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {name: known[name] for name in PACKAGES if name in known}


def device(name: str) -> str:
    """The device that `auto`, or a name, stands for."""
    return str(choose_device(name))


def processor() -> str:
    """The processor's name, where the system tells it."""
    return told("model name") or platform.processor() or platform.machine()


def instructions() -> list[str]:
    """Which of the instructions that decide on the speed of products it has, where the system tells it."""
    return [name for name in INSTRUCTIONS if name in told("flags").split()]


def told(name: str) -> str:
    """A line of Linux's description of the first processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((text.partition(":")[2].strip() for text in lines if text.startswith(name)), "")
