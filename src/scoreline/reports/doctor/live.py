"""The doctor while a run goes on: each finding once, as soon as the numbers show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from scoreline.reports import jsonl
from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.diagnosis import CHECKS, Check
from scoreline.reports.doctor.finding import Finding
from scoreline.reports.history import History
from scoreline.reports.jsonl import Row
from scoreline.reports.record import step_of
from scoreline.types import Report

LEAST = 5
"""Steps between two looks at least: fewer say little more."""

LOOKS = 40
"""Looks at a run in all: of a long one, what is looked at grows, and so do the pauses."""


@dataclass
class Doctor:
    """Sees each report of a run of `steps` steps, and looks at all of them now and then.

    `history` is the run as it was opened. Rows of metrics stay in memory. A check that has told its finding is not
    asked again; notes are left to `scoreline doctor`.
    """

    history: History
    steps: int
    rows: list[Row] = field(init=False)
    checks: list[Check] = field(default_factory=lambda: list(CHECKS))

    def __post_init__(self) -> None:
        self.rows = list(self.history.metrics)

    def see(self, report: Report) -> Iterator[Finding]:
        """What became clear with this step."""
        self.rows.append({"step": report.step, **report.metrics})
        if report.step % max(LEAST, self.steps // LOOKS) == 0 or report.step == self.steps:
            yield from self.look()

    def look(self) -> Iterator[Finding]:
        """What the checks that have not spoken yet find in the run so far."""
        chart = Chart(self.so_far())
        for check in tuple(self.checks):
            finding = attempt(check, chart)
            if finding is not None and finding.severity != "note":
                self.checks.remove(check)
                yield finding

    def so_far(self) -> History:
        """The run as it is now."""
        folder = self.history.folder
        return replace(
            self.history,
            metrics=tuple(self.rows),
            evaluations=tuple(jsonl.read(folder / "evaluation.jsonl")),
            completions={step_of(path): path for path in sorted(folder.glob("completions/step-*.jsonl"))},
        )


def attempt(check: Check, chart: Chart) -> Finding | None:
    """The check's finding; one about the check itself where it fails, since what watches a run must not end it."""
    try:
        return check(chart)
    except Exception as error:  # noqa: BLE001 - it is told, and the run goes on
        return Finding(
            name="check-failed",
            severity="warning",
            title=f"The doctor's check {check.__name__} failed",
            evidence=(f"{type(error).__name__}: {error}.",),
            cause="A file of the run cannot be read, or the check is wrong.",
            change="nothing in this run; if its files are whole, report the check.",
        )
