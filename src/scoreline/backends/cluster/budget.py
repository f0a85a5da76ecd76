"""How many processes of a run may be replaced: workers, scorers and learners together."""

from __future__ import annotations

import time
from collections import deque

from scoreline.backends.cluster.process import BEGINNING, see
from scoreline.errors import ClusterError

HOUR = 3600.0


class Budget:
    """At most `most` replacements within `window` seconds. One budget lasts for a whole run, over restarts of its
    learners.

    The window is an hour, or, where that is longer, twice the time in which most + 1 processes are found silent one
    after the other: where each is, in its start or after it, the budget is spent all the same.
    """

    def __init__(self, most: int, timeout: float = 0.0) -> None:
        self.most = most
        self.window = max(HOUR, 2 * (most + 1) * max(timeout, BEGINNING))
        self.times: deque[float] = deque()

    def spend(self, why: str) -> None:
        """Note one; a `ClusterError` where it is one too many."""
        now = time.monotonic()
        self.times.append(now)
        while now - self.times[0] > self.window:
            self.times.popleft()
        if len(self.times) > self.most:
            raise ClusterError(
                "Too many processes of the run had to be replaced.",
                got=f"{len(self.times)} within {self.window / HOUR:.3g} h; the last one: {why}",
                accepted=f"at most runtime.max_restarts = {self.most}",
                todo=see(
                    "*",
                    "raise runtime.timeout where they were silent because they had much to do, and lower engine.rows"
                    " or the number of processes where they ran out of memory",
                )
                + " --resume goes on from the last checkpoint.",
            )
