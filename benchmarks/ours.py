"""Scoreline's side: the loop as a recipe runs it, one step at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clock import now
from figures import PARTS, Step
from workload import SEED, Setup

from scoreline.config.build import build
from scoreline.config.run import Eval, Run
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.models.policy import Model
from scoreline.objectives.objective import Objective
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
from scoreline.train.loop import train
from scoreline.train.plan import Plan
from scoreline.train.schedule import first_progress
from scoreline.types import Report

NAMES = {"generation": "time/rollout", "reward": "time/score", "update": "time/update"}


class Ours:
    """A run in progress. `step` takes one step of it and says what it took."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.device = setup.device
        self.built = build(recipe(setup, setup.write(folder)))
        if setup.workload.fixed_length:
            self.built.policy.text.eos_ids = ()
        parts = self.built.parts
        self.reports = train(parts, first_progress(parts.objective, parts.warmup))

    def step(self) -> Step:
        """Sample, score, annotate, estimate, update."""
        started = now(self.device)
        report = next(self.reports)
        return measured(report, now(self.device) - started)

    def close(self) -> None:
        """End the processes of the reward functions."""
        self.built.close()


def run(setup: Setup, folder: Path) -> list[Step]:
    """All steps of the setup, with nobody else's between them."""
    mine = Ours(setup, folder)
    try:
        return [mine.step() for _ in range(setup.rounds)]
    finally:
        mine.close()


def recipe(setup: Setup, file: Path) -> Run:
    """The run that the setup describes: one update on all answers of a step, and nothing that watches."""
    work = setup.workload
    return Run(
        seed=SEED,
        objective=objective(setup.beta),
        model=Model(path=work.model, device=setup.device, precision=setup.precision, compile=setup.compile),
        data=Data(source=str(file), held_out=0),
        reward=(RewardSpec(work.reward),),
        sampling=Sampling(max_completion_length=work.budget),
        train=Plan(
            steps=setup.rounds,
            prompts_per_step=work.prompts,
            num_generations=work.answers,
            micro_batch_size=work.micro_batch,
            learning_rate=work.learning_rate,
        ),
        eval=Eval(before=False),
    )


def objective(beta: float) -> Objective:
    """GRPO; without a reference model when beta is 0."""
    return replace(grpo, kl=None if beta == 0.0 or grpo.kl is None else replace(grpo.kl, beta=beta))


def measured(report: Report, seconds: float) -> Step:
    """The step that a report tells of."""
    parts = {name: report.metrics[metric] for name, metric in NAMES.items()}
    lengths = tuple(len(rollout.completion.token_ids) for rollout in report.rollouts)
    return Step(
        seconds=seconds,
        tokens=sum(lengths),
        parts={name: {**parts, "rest": seconds - sum(parts.values())}[name] for name in PARTS},
        prompts=tuple(sorted({rollout.prompt_ids for rollout in report.rollouts})),
        lengths=lengths,
    )
