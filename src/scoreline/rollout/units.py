"""Units: the requests that are always computed together, whoever computes them.

What a model computes for a row depends, in the last bits, on the rows beside it. Requests of one unit travel together,
so that a unit has the same numbers on any worker, the first time and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from scoreline.rollout.engine import Engine, Sampling
from scoreline.types import Completion, Metrics, Request


def units(requests: Sequence[Request], questions: int | None) -> list[list[Request]]:
    """The requests in units of so many questions; None is one unit. Those to one question lie together."""
    if questions is None:
        return [list(requests)] if requests else []
    groups = [list(group) for _, group in groupby(requests, key=lambda request: request.stream[:-1])]
    parts = (groups[i : i + questions] for i in range(0, len(groups), questions))
    return [[request for group in part for request in group] for part in parts]


class InUnits:
    """An engine that answers unit after unit."""

    def __init__(self, engine: Engine, questions: int | None) -> None:
        self.engine, self.questions = engine, questions

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests."""
        return [done for unit in units(requests, self.questions) for done in self.engine.generate(unit, sampling)]

    def load(self, version: int) -> None:
        """Go on with the learner's weights of this version."""
        self.engine.load(version)

    def facts(self) -> Metrics:
        """What the engine has to say of the last step."""
        return self.engine.facts()
