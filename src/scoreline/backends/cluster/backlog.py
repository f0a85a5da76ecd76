"""What is asked of a pool: units that wait, and answers that nobody has taken yet. Knows nothing of processes.

expect, ask  --units-->  next  --a worker-->  answered  -->  take
                          ^        | dies
                          +- again-+
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from scoreline.rollout.engine import Sampling
from scoreline.rollout.units import units
from scoreline.types import Completion, Request

Stream = tuple[int, ...]


@dataclass(eq=False)
class Unit:
    """Requests that are sampled together."""

    requests: list[Request]
    sampling: Sampling


class Backlog:
    """Requests from the moment they are known until their answers are taken. A request is known by its stream, so what
    was expected and is then asked for is sampled once. Units have `questions` questions; None puts all into one.
    """

    def __init__(self, questions: int | None) -> None:
        self.questions = questions
        self.queue: deque[Unit] = deque()
        self.answers: dict[Stream, Completion] = {}
        self.promised: set[Stream] = set()

    def expect(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """What is new of these comes after all that waits."""
        self.queue.extend(self._units(requests, sampling))

    def ask(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """What is new of these comes before all that waits: somebody does."""
        self.queue.extendleft(reversed(self._units(requests, sampling)))

    def next(self) -> Unit | None:
        """The unit for the next idle worker."""
        return self.queue.popleft() if self.queue else None

    def again(self, unit: Unit) -> None:
        """Its worker is gone."""
        self.queue.appendleft(unit)

    def answered(self, unit: Unit, answers: Sequence[Completion]) -> None:
        """One answer a request, in the order of the requests."""
        self.answers.update(zip((request.stream for request in unit.requests), answers, strict=True))

    def ready(self, requests: Sequence[Request]) -> bool:
        """Whether all of these have answers."""
        return all(request.stream in self.answers for request in requests)

    def drop(self, requests: Sequence[Request], before: int) -> int:
        """Forget the answers by weights from before this version; how many there were."""
        old = [request for request in requests if self.answers[request.stream].version < before]
        self._forget(old)
        return len(old)

    def take(self, requests: Sequence[Request]) -> list[Completion]:
        """The answers, which are forgotten here."""
        found = [self.answers[request.stream] for request in requests]
        self._forget(requests)
        return found

    def _units(self, requests: Sequence[Request], sampling: Sampling) -> list[Unit]:
        new = [request for request in requests if request.stream not in self.promised]
        self.promised.update(request.stream for request in new)
        return [Unit(unit, sampling) for unit in units(new, self.questions)]

    def _forget(self, requests: Sequence[Request]) -> None:
        for request in requests:
            del self.answers[request.stream]
            self.promised.remove(request.stream)
