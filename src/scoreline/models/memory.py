"""How much memory this process may still take, and what it looks like when there was too little."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from scoreline.errors import MemoryLimitError

if sys.platform != "win32":
    import resource

GIB = 1 << 30
SYMPTOMS = ("can't allocate memory", "out of memory", "bad_alloc")
"""What a RuntimeError says when an allocation failed: torch's CPU allocator, MPS, C++."""


def available(device: torch.device) -> int | None:
    """Bytes that this process can still take on the device: the least of what the machine has free and what limits
    (cgroups, RLIMIT_AS) leave. None where nobody says.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    rooms = [left for left in (_free(), *(limit - used for limit, used in _groups()), _address_space()) if left]
    return max(min(rooms), 0) if rooms else None


def capacity(device: torch.device) -> int | None:
    """Bytes that the device has in all, or that a limit leaves of them, whoever uses them now. None: nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    with suppress(OSError):
        facts = _table(Path("/proc/meminfo"))
        whole = (facts["MemTotal"] + facts["SwapTotal"]) * 1024
        return min([whole, *(limit for limit, _ in _groups())])
    return None


def held(device: torch.device) -> int:
    """Bytes that this process holds there now; 0 where nobody says."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    with suppress(OSError, KeyError):
        return _table(Path("/proc/self/status"))["VmRSS"] * 1024
    return 0


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in SYMPTOMS)


def release(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def memory_told() -> Iterator[None]:
    """Memory that runs out where nothing can be cut smaller becomes a `MemoryLimitError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise MemoryLimitError(
            "Memory ran out.",
            got=str(error).splitlines()[0],
            accepted="a run that `scoreline train RECIPE --dry-run` says will fit",
            todo="let the dry run say which settings save most; if it ended while sampling, lower engine.rows or "
            "sampling.max_completion_length. --resume goes on from the last checkpoint.",
        ) from error


def _free() -> int | None:
    with suppress(OSError, KeyError):
        return _table(Path("/proc/meminfo"))["MemAvailable"] * 1024
    return None


def _address_space() -> int | None:
    if sys.platform == "win32":
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    with suppress(OSError, KeyError):
        return None if limit == resource.RLIM_INFINITY else limit - _table(Path("/proc/self/status"))["VmSize"] * 1024
    return None


def _groups(root: Path = Path("/sys/fs/cgroup"), told: Path = Path("/proc/self/cgroup")) -> Iterator[tuple[int, int]]:
    """(limit, use) in bytes of each control group that this process is in, outer ones too; version 2 and version 1.

    Pages of files that the kernel can drop do not count as used.
    """
    with suppress(OSError):
        for line in told.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            first = "memory" in kinds.split(",")
            if first or not kinds:
                yield from _limits(root / "memory" if first else root, path, "memory.limit_in_bytes" if first else "")


def _limits(top: Path, path: str, old: str) -> Iterator[tuple[int, int]]:
    folder = top / path.lstrip("/")
    for group in [*(f for f in (folder, *folder.parents) if f.is_relative_to(top))]:
        with suppress(OSError, ValueError, KeyError):  # "max", or a file that this system does not have
            limit = int((group / (old or "memory.max")).read_text())
            used = int((group / ("memory.usage_in_bytes" if old else "memory.current")).read_text())
            droppable = _table(group / "memory.stat")["total_inactive_file" if old else "inactive_file"]
            yield limit, used - droppable


def _table(file: Path) -> dict[str, int]:
    """`name: number unit` or `name number` a line."""
    rows = (line.replace(":", " ").split() for line in file.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
