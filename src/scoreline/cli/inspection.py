"""The verb that looks at single tokens: inspect."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from scoreline.cli.app import AsJson, Changes, RunFolder, app, print_json
from scoreline.errors import ConfigError


@app.command()
def inspect(
    run: RunFolder,
    changes: Changes = None,
    step: Annotated[int | None, typer.Option(metavar="N", help="A saved step; left out, the last one.")] = None,
    sample: Annotated[int | None, typer.Option(metavar="I", help="One of its saved answers, from 0.")] = None,
    token: Annotated[int | None, typer.Option(metavar="T", help="One of the answer's tokens, from 0.")] = None,
    under: Annotated[
        str | None, typer.Option("--as", metavar="OBJECTIVE", help="What another algorithm would tell the same tokens.")
    ] = None,
    compute: Annotated[
        bool, typer.Option("--compute", help="Make columns that --as needs and the run did not save, where possible.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Compare the gradients of the weights too; loads the nearest checkpoint.")
    ] = False,
    as_json: AsJson = False,
    html: Annotated[bool, typer.Option("--html", help="Write inspect.html into the run's folder.")] = False,
) -> None:
    """Show what each token of a sampled answer was told, under the run's objective or another one."""
    from scoreline.config.inspect import Place
    from scoreline.config.inspect import inspect as look
    from scoreline.config.whatif import what_if
    from scoreline.reports.inspect.page import write_page
    from scoreline.reports.inspect.table import show
    from scoreline.reports.jsonl import finite

    place = Place(step, sample, token)
    if under is None and not changes:
        refuse_idle(compute=compute, weights=weights)
        found = look(run, place)
    else:
        found = what_if(run, place, name=under, changes=changes or (), compute=compute, weights=weights)
    if html:
        typer.echo(write_page(run, found, sample))
    elif as_json:
        print_json(finite(found.only(sample, token)))
    else:
        show(found, sample, token, sys.stdout)


def refuse_idle(*, compute: bool, weights: bool) -> None:
    """Options that would do nothing without another objective."""
    told = [name for name, given in (("--compute", compute), ("--weights", weights)) if given]
    if told:
        todo = "add --as OBJECTIVE, or a change such as objective.kl.beta=0.1."
        raise ConfigError("Nothing is compared without another objective.", got=", ".join(told), todo=todo)
