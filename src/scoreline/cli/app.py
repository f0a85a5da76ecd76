"""The application that the verbs join, the arguments that they share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from scoreline.errors import ScorelineError
from scoreline.reports.plaintext import visible

ORDER = (
    "train",
    "sft",
    "reward-model",
    "label",
    "eval",
    "sample",
    "report",
    "inspect",
    "doctor",
    "compare",
    "probe",
    "explain",
)


class Verbs(TyperGroup):
    """Errors that say what to do are printed as they are, without a traceback: exit code 2, or the error's own."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a person needs them."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except ScorelineError as error:
            typer.echo(visible(str(error), keep="\n\t"), err=True)
            raise typer.Exit(getattr(error, "code", 2)) from error


app = typer.Typer(
    cls=Verbs,
    help="Reinforcement learning for language models, one mechanism at a time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Arguments = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE... [KEY=VALUE...]",
        help="TOML files, merged left to right, then single values such as train.steps=5.",
        show_default=False,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE...]", help="Single values, such as objective.kl.beta=0.01."),
]
Target = Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A model's folder or id, or a run's folder.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/quickstart.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again over an existing run of this name.")]


def split(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Recipes and overrides: an override has a `=`, unless there is a file of that name."""
    overrides = [text for text in arguments if "=" in text and not Path(text).is_file()]
    return [Path(text) for text in arguments if text not in overrides], overrides


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
