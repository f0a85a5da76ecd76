"""What the doctor says: one finding, with its evidence, its likely cause and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["alarm", "warning", "note"]
"""An alarm: stop and change something. A warning: look at it. A note: it is as it should be, and easily misread."""

RANKS: tuple[Severity, ...] = ("alarm", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Something about a run that a person should know.

    `evidence` are sentences with numbers and steps, `cause` is the likely one, and `change` names settings by their
    recipe addresses. `steps` show it, at most `MOST` of them; `samples` are saved answers or prompts that do.
    """

    name: str
    severity: Severity
    title: str
    evidence: tuple[str, ...]
    cause: str
    change: str
    steps: tuple[int, ...] = ()
    samples: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The finding in one line, for a log."""
        return f"{self.title}: {self.evidence[0]} To change: {self.change}"


MOST = 12
"""Steps or samples that a finding names: enough to look at, few enough to read."""
