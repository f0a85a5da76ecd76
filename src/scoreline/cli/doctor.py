"""The verb doctor: what is wrong with runs, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scoreline.cli.app import AsJson, app, print_json

if TYPE_CHECKING:
    from scoreline.reports.doctor import Finding
    from scoreline.reports.history import History


@app.command()
def doctor(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; several of one recipe.")],
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a run, why, and what to change. Exit code 1 where there is an alarm."""
    from scoreline.reports.doctor import compare_seeds, diagnose, require_training
    from scoreline.reports.history import read_history

    histories = [read_history(run) for run in runs]
    for history in histories:
        require_training(history)
    each, together = [diagnose(history) for history in histories], compare_seeds(histories)
    if as_json:
        found = [{"run": str(run), "findings": list(map(asdict, one))} for run, one in zip(runs, each, strict=True)]
        print_json({"runs": found, "together": list(map(asdict, together))})
    else:
        _print(histories, each, together)
    raise typer.Exit(int(any(finding.severity == "alarm" for one in (*each, together) for finding in one)))


def _print(histories: Sequence[History], each: Sequence[Sequence[Finding]], together: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    from scoreline.reports.doctor.words import heading, told

    terminal = Console(highlight=False)
    for history, findings in zip(histories, each, strict=True):
        terminal.print(Text(heading(history), style="bold underline"), soft_wrap=True)
        for text, style in told(findings):
            terminal.print(Text(text, style=style), soft_wrap=True)
    if together:
        terminal.print(Text("together", style="bold underline"))
        for text, style in told(together):
            terminal.print(Text(text, style=style), soft_wrap=True)
