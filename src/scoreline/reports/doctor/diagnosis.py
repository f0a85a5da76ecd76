"""All checks in one place, and what they find in a run, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Collection

from scoreline.errors import CheckpointError
from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.clip import always_binds, cannot_bind, never_binds
from scoreline.reports.doctor.critic import unexplained
from scoreline.reports.doctor.drift import kl_runaway, length_drift
from scoreline.reports.doctor.entropy import collapse, explosion
from scoreline.reports.doctor.failure import stopped
from scoreline.reports.doctor.finding import RANKS, Finding
from scoreline.reports.doctor.lengths import never_end, truncated
from scoreline.reports.doctor.prompts import duplicates, leaks, left_out
from scoreline.reports.doctor.rate import skipped, too_high, too_low
from scoreline.reports.doctor.rewards import cheating, dominant, never_scores, unscored
from scoreline.reports.doctor.sampler import mismatch
from scoreline.reports.doctor.signal import no_signal, silent_groups, zero_loss
from scoreline.reports.history import History

Check = Callable[[Chart], Finding | None]
"""Reads a run, and says at most one thing about it."""

CHECKS: tuple[Check, ...] = (
    stopped,
    skipped,
    too_high,
    no_signal,
    never_end,
    mismatch,
    cheating,
    unscored,
    never_scores,
    leaks,
    collapse,
    explosion,
    kl_runaway,
    unexplained,
    always_binds,
    truncated,
    length_drift,
    silent_groups,
    dominant,
    too_low,
    duplicates,
    left_out,
    zero_loss,
    cannot_bind,
    never_binds,
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
