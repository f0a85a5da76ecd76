"""Waiting for one thing while another goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol


class Beside(Protocol):
    """Others, whose work ends while somebody is waited for."""

    def pending(self) -> list[Any]:
        """What they are at."""
        ...

    def finished(self, ref: Any) -> None:
        """One of these has ended; no learner may be asked for anything now."""
        ...


def first(ray: Any, refs: Sequence[Any], beside: Beside | None, until: float) -> Any | None:
    """The first of some calls to end, or None when the clock is at `until`; the others' work is handed to them."""
    while True:
        others = [] if beside is None else beside.pending()
        done, _ = ray.wait([*refs, *others], timeout=max(until - time.monotonic(), 0.0))
        if not done or done[0] not in others:
            return done[0] if done else None
        assert beside is not None
        beside.finished(done[0])
