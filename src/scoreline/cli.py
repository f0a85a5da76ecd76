"""The verbs of the command line. What is heavy is imported by the verb that needs it, so that help comes at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from io import TextIOWrapper
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from scoreline.errors import ConfigError, ScorelineError
from scoreline.reports.plaintext import visible

if TYPE_CHECKING:
    from scoreline.config.run import Run
    from scoreline.objectives.explain import Explained
    from scoreline.train.evaluate import Evaluation


class Verbs(TyperGroup):
    """Errors that say what to do are printed as they are, without a traceback: exit code 2, or the error's own."""

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


@app.command()
def train(
    arguments: Arguments,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint.")] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load and check everything, estimate memory and time; save nothing.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--try", help="A dry run that also makes the largest step once, and says what it took.")
    ] = False,
) -> None:
    """Train a model by reinforcement learning, as a recipe says."""
    from scoreline.config.launch import train as launch
    from scoreline.config.load import load
    from scoreline.config.run import Run

    run = load(Run, *_split(arguments))
    if dry_run or once:
        from scoreline.config.preflight import preflight

        raise typer.Exit(0 if preflight(run, typer.echo, once=once) else 1)
    launch(run, resume=resume, overwrite=overwrite)


@app.command()
def sft(arguments: Arguments, overwrite: Overwrite = False) -> None:
    """Fine-tune a model on demonstrations, as a recipe says."""
    from scoreline.config.launch import finetune
    from scoreline.config.load import load
    from scoreline.config.run import SftRun

    finetune(load(SftRun, *_split(arguments)), overwrite=overwrite)


@app.command("reward-model")
def reward_model(arguments: Arguments, overwrite: Overwrite = False) -> None:
    """Train a judge of answers or of steps, as a recipe says."""
    from scoreline.config.judge import JudgeRun, train_judge
    from scoreline.config.load import load

    train_judge(load(JudgeRun, *_split(arguments)), overwrite=overwrite)


@app.command()
def label(
    arguments: Arguments,
    resume: Annotated[bool, typer.Option("--resume", help="Go on behind the last finished question.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make data for a judge from a model's own answers: preference pairs, or steps with labels."""
    from scoreline.config.label import LabelRun
    from scoreline.config.label import label as make
    from scoreline.config.load import load

    make(load(LabelRun, *_split(arguments)), resume=resume, overwrite=overwrite)


@app.command("eval")
def evaluate(
    target: Target,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE...] [KEY=VALUE...]", help="Says on what; left out, a run's own recipe does."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on a recipe's held-out prompts."""
    from scoreline.config.launch import evaluate as measure
    from scoreline.config.load import load
    from scoreline.config.run import Run

    files, overrides = _split(arguments or [])
    evaluation = measure(load(Run, files or [_own_recipe(target)], overrides), target)
    _print_json(_scores(target, evaluation)) if as_json else _print_scores(evaluation)


@app.command()
def sample(
    target: Target,
    prompt: Annotated[str, typer.Argument(help="The question, as text.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many answers.")] = 4,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 takes the most likely token.")] = None,
    max_completion_length: Annotated[int | None, typer.Option(min=1, help="Tokens of an answer at most.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print answers of a model to a prompt. What is not said comes from the run's recipe, or is the default."""
    from scoreline.config.export import recorded
    from scoreline.config.launch import sample as draw
    from scoreline.config.run import Run
    from scoreline.types import Prompt

    run = recorded(Path(target)) or Run()
    sampling = run.sampling if isinstance(run, Run) else Run().sampling
    sampling = replace(
        sampling,
        temperature=sampling.temperature if temperature is None else temperature,
        max_completion_length=max_completion_length or sampling.max_completion_length,
    )
    content = ({"role": "user", "content": prompt},) if chat or run.data.chat else prompt
    [answers] = draw(replace(run.model, path=target), [Prompt("prompt", content)], n, sampling, seed)
    _print_json({"prompt": prompt, "answers": answers}) if as_json else _print_answers(answers)


@app.command()
def report(run: RunFolder) -> None:
    """Write a run's report.html again, and print its path."""
    from scoreline.reports.page import write_report

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
        _print_json({"algorithm": run.algorithm, "formula": FORMULA, "parts": [asdict(part) for part in parts]})
    else:
        _print_parts(run, FORMULA, parts)


@app.command()
def export(
    run: RunFolder,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new or an empty folder.")],
    checkpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="best, or such as step-000100; left out, the newest.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add an adapter to its base model: an ordinary folder.")
    ] = False,
) -> None:
    """Copy a run's model to a folder of its own, with a model card."""
    from scoreline.config.export import export as copy
    from scoreline.config.export import how_to_load, loader_of

    folder = copy(run, to, checkpoint, merge=merge)
    typer.echo(f"{folder}: load it with {how_to_load(loader_of(run), folder, str(folder))}")


@app.command()
def env(as_json: AsJson = False) -> None:
    """Print versions, device and threads: what to say in a bug report."""
    from scoreline.config.launch import describe_environment

    facts = describe_environment()
    if as_json:
        _print_json(facts)
    else:
        typer.echo("\n".join(f"{name:<14}{value}" for name, value in facts.items()))


def _split(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Recipes and overrides: an override has a `=`, unless there is a file of that name."""
    overrides = [text for text in arguments if "=" in text and not Path(text).is_file()]
    return [Path(text) for text in arguments if text not in overrides], overrides


def _own_recipe(target: str) -> Path:
    from scoreline.config.export import RESOLVED, recorded
    from scoreline.config.run import Run

    if isinstance(recorded(Path(target)), Run):
        return Path(target) / RESOLVED
    raise ConfigError(
        "Evaluation needs held-out prompts and rewards, and only a training run has a recipe with them.",
        got=target,
        accepted="a run's folder, or a model and a recipe",
        todo=f"scoreline eval {target} RECIPE",
    )


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _scores(model: str, evaluation: Evaluation) -> dict[str, Any]:
    """Named as in summary.json."""
    named = {"greedy": evaluation.greedy, "avg@k": evaluation.avg_at_k, "pass@k": evaluation.pass_at_k}
    scores = {name: asdict(interval) for name, interval in named.items()}
    return {"model": model, **scores, "k": evaluation.k, "mean_length": evaluation.mean_length}


def _print_scores(evaluation: Evaluation) -> None:
    k = evaluation.k
    typer.echo(f"greedy    {evaluation.greedy}\n{f'avg@{k}':<10}{evaluation.avg_at_k}")
    typer.echo(f"{f'pass@{k}':<10}{evaluation.pass_at_k}\nlength    {evaluation.mean_length:.1f} tokens")


def _print_answers(answers: Sequence[str]) -> None:
    for number, answer in enumerate(answers, start=1):
        shown = indent(visible(answer, keep="\n\t"), " " * 4, lambda line: True)
        typer.echo(f"{number:<4}{shown[4:]}")


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


def main() -> None:
    """The entry point `scoreline`. What a terminal's encoding lacks is shown as `?`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
