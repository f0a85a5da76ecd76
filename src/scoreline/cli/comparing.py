"""The verb that sets runs side by side: compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from scoreline.cli.app import Overwrite, app, split
from scoreline.errors import ConfigError

if TYPE_CHECKING:
    from scoreline.config.compare.launch import Compared
    from scoreline.config.compare.recipe import Budget, Comparison

SEVERAL = ("--arms", "--only", "--allow")
"""Options that take every word up to the next option."""


class Several(TyperCommand):
    """A verb whose options may take several words: `--arms algorithm=naive algorithm=grpo`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Each of the words as an option of its own."""
        return super().parse_args(ctx, spread(args))


def spread(words: Sequence[str]) -> list[str]:
    """`--arms a b --seeds 2` becomes `--arms a --arms b --seeds 2`."""
    told: list[str] = []
    option = ""
    for word in words:
        if word.startswith("-"):
            option = word if word in SEVERAL else ""
            told.append(word)
        elif option and told[-1] != option:
            told += [option, word]
        else:
            told.append(word)
    return told


@app.command(cls=Several)
def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="COMPARISON.toml | RECIPE... --arms ... | RUN... [KEY=VALUE...]",
            help="A comparison's recipe; or recipes that all --arms share; or folders of runs that are there.",
            show_default=False,
        ),
    ],
    arms: Annotated[
        list[str] | None,
        typer.Option("--arms", metavar="ARM...", help="Settings or a recipe each: algorithm=naive algorithm=grpo."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many, from 0 on; left out, those of the recipe, or 5.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="The budget of a run: sampled tokens.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Or steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Or seconds of training.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the comparison, whose folder is comparisons/NAME.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; left out, one a core.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ARM...", help="Make the runs of these arms only.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="KEY...", help="Settings that may differ although they are measured by.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train several arms with several seeds at an equal budget, and set them side by side."""
    from scoreline.config.compare.launch import compare as launch
    from scoreline.config.compare.recipe import Budget

    files, overrides = split(arguments)
    runs = [file for file in files if file.is_dir() and not (file / "comparison.toml").is_file()]
    if runs:
        _refuse_training(files, runs, overrides, arms)
        _end(_found(runs, name, allow))
        return
    budget = Budget(tokens, steps, seconds)
    told = _said(files, overrides, arms, seeds, budget, name)
    told = _changed(told, jobs, allow)
    _end(launch(told, overwrite=overwrite, only=only or ()))


def _said(
    files: Sequence[Path],
    overrides: Sequence[str],
    arms: Sequence[str] | None,
    seeds: int | None,
    budget: Budget,
    name: str | None,
) -> Comparison:
    """What is to be compared, from the command line or from a comparison's recipe."""
    from scoreline.config.compare.recipe import read, short

    if arms:
        return short(files, overrides, arms, seeds=seeds or 5, budget=budget, name=name)
    if len(files) != 1:
        raise ConfigError(
            "What is to be compared?",
            got=", ".join(map(str, files)) or "nothing",
            accepted="one comparison's recipe, recipes with --arms, or folders of runs",
            todo="scoreline compare RECIPE --arms algorithm=naive algorithm=grpo --tokens 200000",
        )
    [file] = files
    changes = [f"{key}={value}" for key, value in (("name", name),) if value is not None]
    changes += [f"seeds={list(range(seeds))}"] if seeds is not None else []
    said = {key: value for key, value in vars(budget).items() if value is not None}
    changes += [f"budget.{key}={said.get(key, 'none')}" for key in vars(budget)] if said else []
    return read(file / "comparison.toml" if file.is_dir() else file, [*overrides, *changes])


def _changed(told: Comparison, jobs: int | None, allow: Sequence[str] | None) -> Comparison:
    return replace(told, jobs=jobs or told.jobs, allow=(*told.allow, *(allow or ())))


def _found(runs: Sequence[Path], name: str | None, allow: Sequence[str] | None) -> Compared:
    from scoreline.config.compare.launch import compare_found

    return compare_found(runs, name=name, allow=allow or ())


def _refuse_training(
    files: Sequence[Path], runs: Sequence[Path], overrides: Sequence[str], arms: Sequence[str] | None
) -> None:
    """Runs that are there are compared as they are."""
    others = [str(file) for file in files if file not in runs]
    if others or overrides or arms:
        raise ConfigError(
            "Folders of runs are compared as they are: nothing is trained.",
            got=" ".join([*others, *overrides, *(arms or ())]),
            accepted="folders of runs alone, or recipes alone",
        )


def _end(compared: Compared) -> None:
    """Exit code 1 where runs failed."""
    if compared.failed:
        raise typer.Exit(1)
