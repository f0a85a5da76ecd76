"""From a comparison's recipe to the runs that it asks for, all of them checked before the first one starts."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scoreline.config.build import check_plan, right_rewards
from scoreline.config.compare.recipe import Arm, Budget, Comparison
from scoreline.config.dump import dump
from scoreline.config.engine import check_engine
from scoreline.config.export import RESOLVED
from scoreline.config.load import load
from scoreline.config.room import check_memory
from scoreline.config.run import Run
from scoreline.environments.prompts import load as load_prompts
from scoreline.errors import ConfigError, ScorelineError
from scoreline.models.loading import resolve
from scoreline.reports.compare.settings import ASIDE, differing, refuse_unlike


@dataclass(frozen=True)
class Trial:
    """One run that a comparison asks for: an arm with a seed."""

    arm: str
    seed: int
    run: Run

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def folder(self) -> Path:
        return Path(self.run.folder) / self.run.name


def trials(comparison: Comparison, folder: Path) -> list[Trial]:
    """Every arm with every seed, seed by seed, so that what is there first can be compared.

    Raises `ConfigError` for arms that cannot be trained, that are not measured alike, or of which two are the same, and
    `DataError` for questions that are not there.
    """
    runs = budgeted({arm.name: _run(comparison, arm) for arm in comparison.arm}, comparison.budget)
    for name, run in runs.items():
        check(name, run)
    questions = {repr(run.data): run.data for run in runs.values()}
    for data in questions.values():
        load_prompts(data)
    configs = {name: config_of(run) for name, run in runs.items()}
    refuse_unlike(configs, comparison.allow)
    _refuse_twins(configs)
    inside = str(folder / "runs")
    return [
        Trial(name, seed, replace(run, name=f"{name}-{seed}", folder=inside, seed=seed))
        for seed in comparison.seeds
        for name, run in runs.items()
    ]


def config_of(run: Run) -> dict[str, Any]:
    """The recipe that says everything, as tables."""
    return tomllib.loads(dump(run))


def budgeted(runs: Mapping[str, Run], budget: Budget) -> dict[str, Run]:
    """The runs with the budget as their plan.

    Under a budget of tokens the steps are as many as it can last for, one token an answer; rounds keep theirs, whose
    length is part of the algorithm. Under one of seconds all keep them.
    """
    if budget.steps is not None:
        return {name: _planned(run, steps=budget.steps) for name, run in runs.items()}
    if budget.seconds is not None:
        return {name: _planned(run, max_seconds=float(budget.seconds)) for name, run in runs.items()}
    if budget.tokens is None:
        _refuse_unequal(runs)
        return dict(runs)
    answers = min(run.train.prompts_per_step * run.train.num_generations for run in runs.values())
    most = math.ceil(budget.tokens / answers)
    return {
        name: _planned(run, max_tokens=budget.tokens, steps=most if run.rounds.count == 1 else run.train.steps)
        for name, run in runs.items()
    }


def changed(trial: Trial) -> list[str] | None:
    """Which settings the folder's run was made with differently; None where there is no run yet.

    Where it lies is no setting: a comparison may be moved.
    """
    file = trial.folder / RESOLVED
    if not file.is_file():
        return None
    try:
        before = replace(load(Run, [file]), folder=trial.run.folder)
    except ScorelineError:
        return ["a recipe of another version"]
    if before == trial.run:
        return []
    rows = differing({"before": config_of(before), "now": config_of(trial.run)}, aside=())
    return [row["key"] for row in rows] or ["the recipe"]


def check(name: str, run: Run) -> None:
    """Everything that can be refused without loading a model, with the arm's name in front."""
    try:
        check_plan(run)
        check_engine(run.engine, run.sampling)
        check_memory(run)
        if run.judge is not None:
            resolve(run.judge.path)
        if run.data.held_out != 0:
            right_rewards(run)
    except ScorelineError as error:
        raise ConfigError(f"Arm {name}: {error}") from error


def _run(comparison: Comparison, arm: Arm) -> Run:
    files = [Path(file) for file in (*comparison.recipe, *arm.recipe)]
    try:
        return load(Run, files, [*comparison.set, *arm.set])
    except ScorelineError as error:
        raise ConfigError(f"Arm {arm.name}: {error}") from error


def _planned(run: Run, **plan: Any) -> Run:
    return replace(run, train=replace(run.train, **plan))


def _refuse_unequal(runs: Mapping[str, Run]) -> None:
    steps = {name: run.train.steps for name, run in runs.items()}
    if len({*steps.values()}) > 1:
        raise ConfigError(
            "There is no budget, and the recipes' own steps differ.",
            got=", ".join(f"{name}: train.steps = {count}" for name, count in steps.items()),
            accepted="an equal budget for all arms",
            todo="set budget = {tokens = 200000}, or steps, or seconds.",
        )


def _refuse_twins(configs: Mapping[str, Mapping[str, Any]]) -> None:
    names: Sequence[str] = list(configs)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            if not differing({name: configs[name], other: configs[other]}, ASIDE):
                raise ConfigError(
                    "Two arms are the same.",
                    got=f"{name} and {other}: every setting has the same value",
                    accepted="arms that differ in something; seeds are said in `seeds`",
                    todo=f"give one of them a `set`, or remove {other}.",
                )
