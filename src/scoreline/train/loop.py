"""The loop: DeepSeekMath's Algorithm 1 without its outer iteration (2402.03300), and every rung below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from scoreline.objectives.objective import Objective
from scoreline.rollout.collect import Collector
from scoreline.rollout.engine import Engine
from scoreline.train.collate import collate
from scoreline.train.learner import Learner, Update
from scoreline.train.measure import measure
from scoreline.train.plan import Plan
from scoreline.train.schedule import Progress, Warmup, advance
from scoreline.types import Metrics, Report


@dataclass(frozen=True)
class Parts:
    """What the loop runs on."""

    plan: Plan
    objective: Objective
    collector: Collector
    learner: Learner
    engine: Engine
    warmup: Warmup
    seed: int


def train(parts: Parts, progress: Progress, *, until: int | None = None) -> Iterator[Report]:
    """Sample, score, annotate, estimate, update; yield a report a step, up to step `until` or the plan's end.

    Who watches, evaluates or saves does it between two steps. The generator holds no state but `progress`: started
    again with a checkpoint's, it goes on as if it had never stopped.
    """
    plan, objective, learner = parts.plan, parts.objective, parts.learner
    passes = objective.passes(plan.updates_per_step)
    last = plan.steps if until is None else until
    while progress.step < last and not plan.over(progress.step, progress.tokens):
        gathered = parts.collector.collect(progress.cursor, later=plan.steps - progress.step - 1)
        batch = collate(gathered.rollouts, device=learner.device, mask_truncated=plan.mask_truncated_completions)
        batch = objective.estimate(learner.annotate(batch, passes), progress.beta)
        facts: list[Metrics] = []
        for rows, mini in plan.updates(batch, objective.aggregate, seed=parts.seed, step=progress.step):
            rate = plan.lr_factor(progress.updates + len(facts), progress.tokens)
            told = Update(progress.beta, rate, progress.holding, parts.warmup.frozen(progress.step))
            updated = learner.update(mini, told)
            batch = batch.noted(rows, logp=updated.logp, weights=mini.weights)
            facts.append(updated.metrics)
        parts.engine.load(progress.step + 1)
        metrics = measure(gathered, batch, facts, progress) | parts.engine.facts()
        progress = advance(progress, parts.warmup, plan, objective, gathered, facts, metrics)
        yield Report(progress.step, metrics, gathered.rollouts, batch, asdict(progress))
