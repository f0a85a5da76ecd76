"""What samples answers: o ~ pi(. | q)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scoreline.types import Completion, Metrics, Request


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. Temperature 0 takes the most likely token.

    top-k and top-p cut the distribution that is drawn from; the log-probabilities reported stay those of the whole
    distribution at the temperature, which is the policy that the learner trains. An answer ends with the model's end
    token, with one of the `stop` strings (which stays part of it), or after `max_completion_length` tokens.
    """

    max_completion_length: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()


class Engine(Protocol):
    """Anything that answers requests with the current policy."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests."""
        ...

    def load(self, version: int) -> None:
        """Go on with the learner's weights of this version."""
        ...

    def facts(self) -> Metrics:
        """What the engine has to say of the step that just ended, by the names of metrics."""
        ...


class Arrivals(Protocol):
    """Weights that come in while answers are in flight."""

    def waiting(self) -> bool:
        """Whether any have come in."""
        ...

    def take(self) -> int:
        """The policy has them from here on; their version."""
        ...


class Foreseeing(Engine, Protocol):
    """An engine that samples what will be asked for while its caller does something else."""

    def expect(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """A later `generate` will ask for these. A request is known by its stream."""
        ...
