"""What changes from step to step besides weights: counters, the data cursor, beta, the critic's warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scoreline.errors import DivergenceError
from scoreline.objectives.objective import Objective
from scoreline.rollout.collect import Collection
from scoreline.train.plan import Plan
from scoreline.types import Metrics


@dataclass(frozen=True)
class Warmup:
    """The policy is held until the critic's explained variance passes the bound, for at most `steps` steps.

    After `freeze_after` steps it is the critic that is held, to the end.
    """

    steps: int = 0
    explained_variance: float = 0.3
    freeze_after: int | None = None

    def frozen(self, step: int) -> bool:
        """Whether the critic is held when `step` steps are over."""
        return self.freeze_after is not None and step >= self.freeze_after


@dataclass(frozen=True)
class Progress:
    """The loop's whole state besides weights and optimiser. A checkpoint holds it as JSON."""

    step: int = 0
    updates: int = 0
    cursor: int = 0
    tokens: int = 0
    beta: float | None = None
    bad_updates: int = 0
    holding: bool = False
    round: int = 0
    """Rounds of iterative RL that are over, their judge's training included."""


def first_progress(objective: Objective, warmup: Warmup) -> Progress:
    """Where a new run starts."""
    beta = None if objective.kl is None else objective.kl.beta
    return Progress(beta=beta, holding=objective.value is not None and warmup.steps > 0)


def advance(
    progress: Progress,
    warmup: Warmup,
    plan: Plan,
    objective: Objective,
    gathered: Collection,
    facts: Sequence[Metrics],
    metrics: Metrics,
) -> Progress:
    """The state after a step. Stops the run when too many updates in a row were not finite."""
    step = progress.step + 1
    learned = metrics.get("value/explained_variance", math.nan) >= warmup.explained_variance
    tokens = progress.tokens + gathered.sampled_tokens
    return Progress(
        step=step,
        updates=progress.updates + len(facts),
        cursor=gathered.cursor,
        tokens=tokens,
        beta=next_beta(progress, plan, objective, metrics, tokens),
        bad_updates=skipped_in_a_row(progress.bad_updates, facts, plan.max_bad_updates),
        holding=progress.holding and step < warmup.steps and not learned,
        round=progress.round,
    )


def next_beta(progress: Progress, plan: Plan, objective: Objective, facts: Metrics, tokens: int) -> float | None:
    """Beta of the next step: adapted to the measured KL, or on its schedule. `tokens` are sampled until then."""
    kl = objective.kl
    if kl is None or progress.beta is None:
        return None
    if kl.adapt is None:
        return kl.beta * plan.beta_factor(progress.step + 1, tokens)
    measured = facts.get("kl", math.nan)
    answers = plan.prompts_per_step * plan.num_generations
    return progress.beta if math.isnan(measured) else kl.adapt.next(progress.beta, measured, answers)


def skipped_in_a_row(before: int, facts: Sequence[Metrics], bound: int) -> int:
    """How many updates in a row have been skipped as non-finite. Stops the run at `bound`."""
    count = before
    for fact in facts:
        count = count + 1 if fact["skipped_updates"] else 0
        if count >= bound:
            raise DivergenceError(
                f"Loss or gradient was not finite in {count} updates in a row; the optimiser did not step.",
                got=f"loss {fact['loss']}, gradient norm {fact['grad_norm']}",
                accepted="finite numbers",
                todo="lower train.learning_rate, add a KL or a clip, or use precision = 'fp32'. "
                "The last checkpoint is untouched.",
            )
    return count
