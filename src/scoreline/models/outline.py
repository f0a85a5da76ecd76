"""What a process knows of a policy whose weights are elsewhere: how it reads and writes, and how much it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from scoreline.models.policy import Policy
from scoreline.models.text import Text


class Speaker(Protocol):
    """Whatever reads and writes tokens: a policy, or the outline of one."""

    @property
    def text(self) -> Text: ...

    @property
    def context(self) -> int: ...

    @property
    def unaccelerated(self) -> str | None: ...


@dataclass(frozen=True)
class Outline:
    """A policy without its model."""

    text: Text
    context: int
    unaccelerated: str | None = None
    packs: bool = True


def outline(policy: Policy) -> Outline:
    """What can be told of a policy to another process."""
    return Outline(policy.text, policy.context, policy.unaccelerated, policy.packs)
