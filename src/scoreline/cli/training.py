"""Verbs that make a model: train, sft, reward-model, label."""

from __future__ import annotations

from typing import Annotated

import typer

from scoreline.cli.app import Arguments, Overwrite, app, split


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

    run = load(Run, *split(arguments))
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

    finetune(load(SftRun, *split(arguments)), overwrite=overwrite)


@app.command("reward-model")
def reward_model(arguments: Arguments, overwrite: Overwrite = False) -> None:
    """Train a judge of answers or of steps, as a recipe says."""
    from scoreline.config.judge import JudgeRun, train_judge
    from scoreline.config.load import load

    train_judge(load(JudgeRun, *split(arguments)), overwrite=overwrite)


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

    make(load(LabelRun, *split(arguments)), resume=resume, overwrite=overwrite)
