"""A page that follows a run: written again when the run's files have changed, until the run has ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from scoreline.reports import jsonl
from scoreline.reports.history import read_history
from scoreline.reports.page import PAGE, render, write_report
from scoreline.reports.standing import standing

SHARE = 0.1
"""Of the time, at most, that drawing may take: the run beside it has the machine."""

Stamps = tuple[tuple[str, int, int], ...]


def follow(folder: Path, every: float = 5.0, *, wait: Callable[[float], None] = time.sleep) -> Path:
    """Keeps `report.html` up to date, looking every so many seconds; its path, once the run has ended or Ctrl-C came.

    While the run goes on the page has a browser read it again. The last one, written in any case, has not. Raises
    `CheckpointError` if the folder is no run.
    """
    seen: Stamps | None = None
    try:
        while True:
            started, now = time.monotonic(), _stamps(folder)
            if now != seen:
                history = read_history(folder)
                if standing(history).ended:
                    break
                jsonl.replace(folder / PAGE, render(history, refresh=math.ceil(every)))
            seen = now
            wait(max(every, (time.monotonic() - started) * (1 / SHARE - 1)))
    except KeyboardInterrupt:
        pass
    return write_report(folder)


def _stamps(folder: Path) -> Stamps:
    """What changes when the run writes: times and sizes of its files."""
    files = [folder / "config.resolved.toml", *folder.glob("*.json*"), *folder.glob("completions/step-*.jsonl")]
    found = [(path, path.stat()) for path in sorted(files) if path.is_file()]
    return tuple((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in found)
