"""Processes of a Ray cluster by what they do just now, and an end that comes to them without a warning."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

WORKER, RANK = "ray::Worker", "ray::Rank"
GENERATING, UPDATING = "ray::Worker.generate", "ray::Rank.update"


def processes(doing: str) -> list[int]:
    """The processes below this one whose title says that they do this."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(doing):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@dataclass
class Killer:
    """Sends a signal to what `choose` names, so many times, at least `pause` seconds apart; `killed` says to whom."""

    choose: Callable[[], str]
    times: int
    pause: Callable[[], float]
    how: signal.Signals = signal.SIGKILL
    killed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until all are killed, or the run is over."""
        while len(self.killed) < self.times and not self.over.wait(self.pause()):
            what = self.choose()
            while not self.over.is_set() and not (pids := processes(what)):
                time.sleep(0.002)
            if not self.over.is_set():
                os.kill(random.Random(len(self.killed)).choice(pids), self.how)
                self.killed.append(what)


@contextmanager
def killing(killer: Killer) -> Iterator[Killer]:
    """While the body runs."""
    thread = threading.Thread(target=killer.run, daemon=True)
    thread.start()
    try:
        yield killer
    finally:
        killer.over.set()
        thread.join()
