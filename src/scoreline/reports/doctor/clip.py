"""Whether the clip has anything to do: it compares the policy with the one that the batch began with."""

from __future__ import annotations

from statistics import median

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import Series, span

NEVER = 1e-4
"""Share of clipped tokens that no step reached: less than one of ten thousand is no part of the gradient."""

ALWAYS = 0.1
"""Share of clipped tokens in the median step that clips: most tokens of an answer are no choice and never move, so that
a tenth of all is about half of those that do. Runs that learn stay around 0.01."""


def cannot_bind(chart: Chart) -> Finding | None:
    """One update a batch: the policy is the one that the batch began with, every ratio is 1, and nothing is clipped."""
    share = _share(chart)
    if share is None or chart.updates > 1:
        return None
    return Finding(
        name="clip-cannot-bind",
        severity="note",
        title="The clip cannot bind",
        evidence=(
            "train.num_iterations x train.minibatches = 1: each batch is used for one update, where every ratio is 1.",
        ),
        cause="This is the policy gradient itself, which needs no clip.",
        change="nothing; or train.minibatches = 4 for more updates of the same samples, and then the clip is needed.",
    )


def never_binds(chart: Chart) -> Finding | None:
    """Several updates a batch, and not one of them far enough to be clipped."""
    share = _share(chart)
    if share is None or chart.updates < 2 or len(share) < 3 or max(share.values) >= NEVER:
        return None
    return Finding(
        name="clip-never-binds",
        severity="note",
        title="The clip never binds",
        evidence=(
            f"At most {max(share.values):.2g} of the tokens were clipped in {span((share.steps[0], share.steps[-1]))}.",
        ),
        cause="The policy hardly moves while a batch is used: the clip is there for safety and costs nothing.",
        change=f"nothing if the reward rises; else train.learning_rate above {chart.rate:g}, or more updates a batch "
        f"(train.num_iterations, train.minibatches; now {chart.updates} in all).",
    )


def always_binds(chart: Chart) -> Finding | None:
    """A clip that holds back much of every batch: its updates go too far."""
    share = _share(chart)
    binding = () if share is None else [value for value in share.values if value > 0]
    if share is None or len(binding) < 3 or median(binding) < ALWAYS:
        return None
    steps = share.where(lambda value: value >= ALWAYS)
    return Finding(
        name="clip-always-binds",
        severity="warning",
        title="The clip always binds",
        evidence=(
            f"{median(binding):.0%} of the tokens were clipped in the median step that clips, at most "
            f"{max(binding):.0%}: {span(steps)}.",
        ),
        cause="The policy leaves the range of the clip within its batch: the learning rate is too high "
        f"for {chart.updates} updates of the same samples.",
        change=f"train.learning_rate = {chart.rate / 3:.2g} (now {chart.rate:g}), or fewer updates a batch "
        "(train.num_iterations, train.minibatches).",
        steps=steps[:MOST],
    )


def _share(chart: Chart) -> Series | None:
    """Clipped tokens of all own ones, where the objective clips."""
    if chart.setting("objective.surrogate.type", "") != "Clip":
        return None
    share = chart.series("clip_ratio/region_mean")
    return share if len(share) else None
