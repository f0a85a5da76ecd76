"""The verb that measures a checkpoint: probe."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from scoreline.cli.app import AsJson, RunFolder, app, print_json, split

HEAD = ("line", "tr Cov(g)", "|E g|^2", "noise/signal", "95 % interval", "cosine", "tr Cov, times")


@app.command()
def probe(
    run: RunFolder,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE...] [KEY=VALUE...]", help="What to measure, such as batches=64."),
    ] = None,
    objectives: Annotated[
        list[str] | None, typer.Option("--as", metavar="ALGORITHM", help="Also several; own is the run's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run's checkpoint: gradient noise, distance from the first model, rewards against the truth."""
    from scoreline.config.load import load
    from scoreline.config.probe import Probe, named
    from scoreline.config.probe import probe as measure
    from scoreline.reports.console import Console

    told = load(Probe, *split(arguments or []))
    console = Console(stream=sys.stderr if as_json else sys.stdout)
    facts = measure(run, replace(told, line=named(objectives)) if objectives else told, console)
    print_json(facts) if as_json else typer.echo(table(facts))


def table(facts: Mapping[str, Any]) -> str:
    """What a probe says, for a terminal."""
    size = f"{facts['batches']} batches of {facts['prompts']} x {facts['num_generations']} answers"
    rows = [HEAD, *(_row(name, noise) for name, noise in facts["noise"].items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    kl, samples = facts["kl"], facts["samples"]
    said = ", ".join(f"{name} {_number(value)}" for name, value in samples.items())
    far = f"KL to the first model {_number(kl['answer'])} nats an answer, {_number(kl['token'])} a token"
    return "\n".join([f"{facts['checkpoint']}: {size}", "", *lines, "", far, said])


def _row(name: str, noise: Mapping[str, Any]) -> tuple[str, ...]:
    span = f"[{_number(noise['ratio_low'])}, {_number(noise['ratio_high'])}]"
    times = noise.get("times", {}).get("variance")
    against = f"{_number(times['times'])} [{_number(times['low'])}, {_number(times['high'])}]" if times else ""
    numbers = (_number(noise[key]) for key in ("variance", "signal", "ratio"))
    return (name, *numbers, span, _number(noise["cosine"]), against)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
