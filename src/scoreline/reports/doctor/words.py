"""Findings as lines for a terminal, with the style of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scoreline.reports.doctor.finding import Finding
from scoreline.reports.history import History

Line = tuple[str, str]
"""Text, and its style."""

STYLES = {"alarm": "bold red", "warning": "bold yellow", "note": "bold"}

INDENT = " " * 10


def heading(history: History) -> str:
    """`quickstart: 60 steps`, or how far a run is that has not ended."""
    name, done = history.folder.resolve().name, history.metrics[-1]["step"] if history.metrics else 0
    if history.summary and history.summary.get("steps") == done:
        return f"{name}: {done} steps"
    return f"{name}: {done} of {history.config.get('train', {}).get('steps', '?')} steps, unfinished"


def told(findings: Sequence[Finding]) -> Iterator[Line]:
    """The ranked list; one line where there is nothing."""
    if not findings:
        yield "nothing found", "green"
    for finding in findings:
        yield f"{finding.severity:<10}{finding.title}", STYLES[finding.severity]
        yield from ((f"{INDENT}{said}", "") for said in finding.evidence)
        yield f"{INDENT}cause:  {finding.cause}", ""
        yield f"{INDENT}change: {finding.change}", "cyan"
        if finding.samples:
            yield f"{INDENT}see:    {', '.join(finding.samples[:4])}", "dim"
