"""Verbs that use a model: eval, sample, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scoreline.cli.app import AsJson, RunFolder, Target, app, print_json, split
from scoreline.errors import ConfigError
from scoreline.reports.plaintext import visible

if TYPE_CHECKING:
    from scoreline.train.evaluate import Evaluation


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

    files, overrides = split(arguments or [])
    evaluation = measure(load(Run, files or [_own_recipe(target)], overrides), target)
    print_json(_scores(target, evaluation)) if as_json else _print_scores(evaluation)


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
    print_json({"prompt": prompt, "answers": answers}) if as_json else _print_answers(answers)


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
