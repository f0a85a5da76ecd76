"""How many processes of a run may be replaced: workers, scorers and learners together."""

from __future__ import annotations

import time
from collections import deque

from scoreline.backends.cluster.process import see
from scoreline.errors import ClusterError

HOUR = 3600.0


class Budget:
    """At most `most` replacements within an hour. One budget lasts for a whole run, over restarts of its learners."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.times: deque[float] = deque()

    def spend(self, why: str) -> None:
        """Note one; a `ClusterError` where it is one too many."""
        now = time.monotonic()
        self.times.append(now)
        while now - self.times[0] > HOUR:
            self.times.popleft()
        if len(self.times) > self.most:
            raise ClusterError(
                "Too many processes of the run had to be replaced.",
                got=f"{len(self.times)} within an hour; the last one: {why}",
                accepted=f"at most runtime.max_restarts = {self.most}",
                todo=see("*", "and lower engine.rows or the number of processes where they ran out of memory")
                + " --resume goes on from the last checkpoint.",
            )
