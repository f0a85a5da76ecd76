"""Time, on devices too that compute while Python goes on."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def now(device: str) -> float:
    """Seconds, read when the device has done all that it was told."""
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


class Stopwatch:
    """Seconds by name, since the last `clear`.

    `seconds` holds the whole time of what was called, `own` that without the watched calls inside of it: the entries
    of `own` add up, those of `seconds` overlap.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.own: defaultdict[str, float] = defaultdict(float)
        self.running: list[str] = []
        self._inside: list[float] = []

    def clear(self) -> None:
        """Begin again at zero."""
        self.seconds.clear()
        self.own.clear()

    def around(self, owner: Any, method: str, name: Callable[[], str]) -> None:
        """From now on, count the seconds of this object's method under the name that it has when it is called.

        `running` holds the names of what is being called, outermost first.
        """
        inner = getattr(owner, method)

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            counted, started = name(), now(self.device)
            self.running.append(counted)
            self._inside.append(0.0)
            try:
                return inner(*args, **kwargs)
            finally:
                self._note(counted, now(self.device) - started)

        setattr(owner, method, timed)

    def _note(self, name: str, spent: float) -> None:
        self.running.pop()
        self.seconds[name] += spent
        self.own[name] += spent - self._inside.pop()
        if self._inside:
            self._inside[-1] += spent
