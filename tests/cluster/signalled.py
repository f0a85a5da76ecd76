"""A run that gets a signal: `signalled.py FOLDER ADDRESS MAX_STALENESS STEP SIGNAL` gets it after that step.

The run resumes if it exists; STEP 0 lets it end.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from scoreline.config.launch import train
from scoreline.config.session import Session
from tests.cluster.small_run import on, recorded


def told_after(step: int, number: int) -> None:
    """A signal to this process when all that the step leaves is there, a checkpoint where one was due."""
    original = Session.between

    def between(self: Session, at: int, told: list[int]) -> None:
        original(self, at, told)
        if at == step:
            os.kill(os.getpid(), number)

    Session.between = between  # type: ignore[method-assign]


if __name__ == "__main__":
    asked, address, staleness, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    told_after(last, signal.Signals[sys.argv[5]])
    run = recorded(asked, on(address, max_staleness=staleness, unit=2))
    train(run, resume=(asked / run.name).exists())
