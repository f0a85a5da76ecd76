"""Verbs that explain: report, explain, env."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scoreline.cli.app import AsJson, Changes, app, print_json
from scoreline.errors import ConfigError

if TYPE_CHECKING:
    from scoreline.backends.cluster.survey import Node
    from scoreline.config.run import Run
    from scoreline.objectives.explain import Explained


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN|COMPARISON", help="The folder of a run, or of a comparison.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep the page of a run up to date until the run ends.")
    ] = False,
    every: Annotated[float, typer.Option(min=1.0, metavar="S", help="Seconds between two looks, with --watch.")] = 5.0,
) -> None:
    """Write the report.html of a run again, or the comparison.html of a comparison, and print its path."""
    from scoreline.reports.compare.page import is_comparison, write_comparison
    from scoreline.reports.page import PAGE, write_report
    from scoreline.reports.watch import follow

    if is_comparison(run):
        if watch:
            todo = f"watch one of its runs: scoreline report {run}/runs/NAME --watch"
            raise ConfigError("The page of a comparison is written when all its runs have ended.", todo=todo)
        typer.echo(write_comparison(run))
    elif watch:
        typer.echo(f"{run / PAGE} follows the run; Ctrl-C ends this, not the run")
        typer.echo(follow(run, every))
    else:
        typer.echo(write_report(run))


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="ALGORITHM|RECIPE", help="grpo, or a recipe's file.")],
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Print an algorithm: its formula, its parts, every value."""
    from scoreline.config.load import load
    from scoreline.config.run import Run, completed
    from scoreline.objectives.explain import FORMULA
    from scoreline.objectives.explain import explain as parts_of

    named = not what.endswith(".toml") and not Path(what).is_file()
    files, overrides = ([], [f"algorithm={what}"]) if named else ([Path(what)], [])
    run = load(Run, files, [*overrides, *(changes or [])])
    parts = parts_of(completed(run))
    if as_json:
        print_json({"algorithm": run.algorithm, "formula": FORMULA, "parts": [asdict(part) for part in parts]})
    else:
        _print_parts(run, FORMULA, parts)


@app.command()
def env(
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT|auto", help="Print what this Ray cluster is made of as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print versions, device and threads: what to say in a bug report."""
    from scoreline.backends.cluster.survey import ray_version, survey
    from scoreline.config.launch import describe_environment

    facts = describe_environment() | {"ray": ray_version() or "not installed: pip install 'scoreline[ray]'"}
    nodes = [] if address is None else survey(address)
    if as_json:
        print_json(facts | ({"cluster": [asdict(node) for node in nodes]} if nodes else {}))
        return
    typer.echo("\n".join(f"{name:<14}{value}" for name, value in facts.items()))
    if nodes:
        _print_nodes(nodes)


def _print_nodes(nodes: Sequence[Node]) -> None:
    """A line a node, and below it the versions in which it differs from the first."""
    from scoreline.reports.preflight import size

    kinds = {"nodes": len(nodes), "CPUs": sum(n.cpus for n in nodes), "GPUs": sum(n.gpus for n in nodes)}
    typer.echo("\ncluster       " + ", ".join(f"{count:g} {kind}" for kind, count in kinds.items()))
    for node in nodes:
        typer.echo(f"  {node.address:<20}{node.cpus:g} CPUs, {node.gpus:g} GPUs, {size(node.memory)} for processes")
        for name, version in node.versions.items():
            if version != nodes[0].versions[name]:
                typer.echo(f"{'':22}{name} {version}, but {nodes[0].versions[name]} on {nodes[0].address}")


def _print_parts(run: Run, formula: str, parts: Sequence[Explained]) -> None:
    from rich.console import Console
    from rich.text import Text

    terminal = Console(highlight=False)

    def line(text: str, style: str = "") -> None:
        terminal.print(Text(text, style=style), soft_wrap=True)

    line(run.algorithm, "bold")
    line(formula)
    for part in parts:
        line(f"\n{part.slot:<12}{part.part:<20}{part.role}", "bold")
        line(f"{'':12}{part.formula}", "cyan")
        line(f"{'':12}{part.source}", "dim")
        for address, value in part.values.items():
            line(f"{'':12}{address} = {'none' if value is None else json.dumps(value)}")
