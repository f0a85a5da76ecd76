"""Whether this machine's cores are free. Threads that wait for one another crawl when something else has the cores."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import torch

WELL_ABOVE = 0.5
"""Cores that may be missing before it is worth a word."""


def machine_is_busy() -> str | None:
    """What to say when torch's threads have fewer cores than threads; None when all is well.

    Others' load is the machine's load of the last minute less what this process made of it.
    """
    threads, cores, quota = torch.get_num_threads(), os.cpu_count() or 1, core_quota()
    if quota is not None and threads > quota + WELL_ABOVE:
        return f"{threads} threads share the {quota:g} cores that this container may use; {advice(int(quota))}"
    busy = others()
    if threads > 1 and threads + busy > cores + WELL_ABOVE:
        free = max(1, int(cores - busy + WELL_ABOVE))
        return f"other programs keep {busy:.1f} of {cores} cores busy, and torch uses {threads} threads; {advice(free)}"
    return None


def others() -> float:
    """Cores that other programs have kept busy over the last minute; 0 where the system does not say."""
    with suppress(AttributeError, OSError):
        own = min(time.process_time() / 60, float(torch.get_num_threads()))
        return max(0.0, os.getloadavg()[0] - own)
    return 0.0


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that a container's control group allows, None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return float(quota) / float(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        old = (float((root / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        quota_us, period_us = old
        return quota_us / period_us if quota_us > 0 else None
    return None


def advice(threads: int) -> str:
    """How to use fewer threads."""
    return f"that can be many times slower than fewer threads: OMP_NUM_THREADS={max(1, threads)} sets them"
