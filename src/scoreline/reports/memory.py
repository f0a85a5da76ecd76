"""The peak resident memory of this process, on every system that Python runs on."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_rss_mb() -> float:
    """The most memory that this process ever held, in megabytes of 2^20 bytes.

    Linux says it of the address space, where `getrusage` would count what a parent held before the program began;
    macOS has bytes in `getrusage`, Windows its process counters.
    """
    return round(_peak_bytes() / 2**20, 1)


if sys.platform == "win32":

    class _Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = [("cb", ctypes.c_ulong), ("PageFaultCount", ctypes.c_ulong)] + [
            (name, ctypes.c_size_t)
            for name in (
                "PeakWorkingSetSize",
                "WorkingSetSize",
                "QuotaPeakPagedPoolUsage",
                "QuotaPagedPoolUsage",
                "QuotaPeakNonPagedPoolUsage",
                "QuotaNonPagedPoolUsage",
                "PagefileUsage",
                "PeakPagefileUsage",
            )
        ]

    def _peak_bytes() -> int:
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        counters = _Counters(cb=ctypes.sizeof(_Counters))
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
        return int(counters.PeakWorkingSetSize)

else:
    import resource

    def _peak_bytes() -> int:
        told = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii")) if STATUS.exists() else None
        if told is not None:
            return int(told[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
