"""What the rollout pool knows of a worker, and of what it does now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from scoreline.backends.cluster.backlog import Unit

Kind = Literal["start", "load", "receive", "probe", "unit"]


@dataclass(eq=False)
class Member:
    """A worker of the pool: its process, and how far it has come."""

    number: int
    process: Any
    started: bool = False
    version: int | None = None
    """Of the weights that it was last sent; none while it has to be sent some."""
    admitted: bool = False


@dataclass(frozen=True)
class Job:
    """Something that a member does now."""

    kind: Kind
    member: Member
    since: float
    unit: Unit | None = None
    version: int = 0
    """Of the newest weights, when it began; of those that it receives."""


@dataclass(frozen=True)
class Weights:
    """The newest weights: their version, and where the cluster keeps them; nowhere, as long as a stream was enough."""

    version: int
    sent: Any = None
