"""All checks in one place, and what they find in a run, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Collection

from scoreline.errors import CheckpointError
from scoreline.reports.doctor import (
    clip,
    critic,
    drift,
    entropy,
    failure,
    lengths,
    prompts,
    rate,
    rewards,
    sampler,
    signal,
)
from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import RANKS, Finding
from scoreline.reports.history import History

Check = Callable[[Chart], Finding | None]
"""Reads a run, and says at most one thing about it."""

CHECKS: tuple[Check, ...] = (
    failure.stopped,
    rate.skipped,
    rate.too_high,
    signal.no_signal,
    lengths.never_end,
    sampler.mismatch,
    rewards.cheating,
    rewards.unscored,
    rewards.never_scores,
    prompts.leaks,
    entropy.collapse,
    entropy.explosion,
    drift.kl_runaway,
    critic.unexplained,
    clip.always_binds,
    lengths.truncated,
    drift.length_drift,
    signal.silent_groups,
    rewards.dominant,
    rate.too_low,
    prompts.duplicates,
    prompts.left_out,
    signal.zero_loss,
    clip.cannot_bind,
    clip.never_binds,
)
"""In the order in which they matter when they are equally severe: what makes the others' numbers meaningless first."""


def diagnose(history: History, checks: Collection[Check] = CHECKS) -> list[Finding]:
    """What is wrong with a run, or looks so and is not: alarms, then warnings, then notes; nothing for other kinds of
    run than `scoreline train` makes.
    """
    if "train" not in history.config:
        return []
    chart = Chart(history)
    found = [finding for check in checks if (finding := check(chart)) is not None]
    return sorted(found, key=lambda finding: RANKS.index(finding.severity))


def require_training(history: History) -> None:
    """Refuses a folder of another kind of run, in which there is nothing that the checks know."""
    if "train" in history.config:
        return
    raise CheckpointError(
        f"{history.folder} is a run, but not one of reinforcement learning.",
        got=f"a recipe with {', '.join(history.config) or 'nothing in it'}",
        accepted="a folder that `scoreline train` wrote",
        todo="look at its summary.json, or name another run",
    )
