"""Whether a step has anything to learn from: groups without variance, steps without signal, a loss that is zero."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding, Severity
from scoreline.reports.doctor.series import span

SILENT = 0.8
"""Share of groups with equal rewards: from 0.8 on, a group that teaches something costs as much as five groups."""

WITHOUT_SIGNAL = 0.25
"""Share of steps that changed nothing: one such step is chance, every fourth is a quarter of what the run costs."""

ALL_WITHOUT = 0.9
"""Share of steps without signal from which there is no training to speak of."""

ZERO = 1e-5
"""Below it a mean of normalised advantages is zero but for rounding: fp32 sums of some thousand terms of size 1."""


def no_signal(chart: Chart) -> Finding | None:
    """Steps in which all answers that are compared had the same reward."""
    known, lost = _steps_without(chart)
    if not lost:
        return None
    share = len(lost) / known
    severity: Severity = "alarm" if share >= ALL_WITHOUT else "warning" if share >= WITHOUT_SIGNAL else "note"
    said = f"{len(lost)} of {known} steps had equal rewards wherever answers are compared: {span(lost)}."
    return Finding(
        name="no-signal",
        severity="note" if chart.solved else severity,
        title="No step had a signal" if len(lost) == known else "Steps without a signal",
        evidence=(said, *chart.reward_moved, *_common(chart, lost)),
        cause=_why(chart),
        change=_more_variance(chart),
        steps=lost[:MOST],
        samples=_silent_answers(chart, lost)[1],
    )


def silent_groups(chart: Chart) -> Finding | None:
    """Groups whose answers all got the same reward: sampled, paid for, and without effect."""
    share = chart.series("frac_reward_zero_std")
    known, lost = _steps_without(chart)
    if not chart.grouped or len(share) < 3 or share.last < SILENT or len(lost) >= WITHOUT_SIGNAL * known:
        return None
    ending = share.ending
    said = f"{share.last:.0%} of the groups had equal rewards in {span(ending)}, {share.first:.0%} at the beginning."
    return Finding(
        name="groups-without-variance",
        severity="note" if chart.solved or chart.improved else "warning",
        title="Most groups have no variance",
        evidence=(said, *chart.reward_moved, *_common(chart, ending)),
        cause=_why(chart),
        change=_more_variance(chart),
        steps=ending[:MOST],
        samples=_silent_answers(chart, ending)[1],
    )


def zero_loss(chart: Chart) -> Finding | None:
    """A policy loss of zero beside a gradient that is not: right for a group baseline with one update a batch."""
    loss, gradient = chart.series("loss/policy"), chart.series("grad_norm")
    moving = set(gradient.where(lambda norm: norm > ZERO))
    steps = tuple(step for step in loss.where(lambda value: abs(value) <= ZERO) if step in moving)
    if not chart.grouped or chart.updates > 1 or not steps or len(steps) < len(moving) / 2:
        return None
    return Finding(
        name="zero-loss",
        severity="note",
        title="The loss is zero, and that is right",
        evidence=(
            f"|loss/policy| <= {ZERO:g} in {span(steps)}; the gradient's norm was {gradient.first:.3g} at first.",
        ),
        cause="A group's advantages sum to zero, and in the only update of a batch every ratio is 1, so the loss, "
        "minus their mean, is zero. The gradient is not: each advantage multiplies the gradient of its own answer.",
        change="nothing. Watch the reward and the held-out accuracy instead of the loss.",
        steps=steps[:MOST],
    )


def _steps_without(chart: Chart) -> tuple[int, tuple[int, ...]]:
    """How many steps are known, and those in which no reward differed from what it is compared with."""
    if chart.grouped:
        share = chart.series("frac_reward_zero_std")
        return len(share), share.where(lambda value: value >= 1.0)
    spread = chart.series("reward_std")
    return len(spread), spread.where(lambda value: value == 0.0)


def _silent_answers(chart: Chart, steps: tuple[int, ...]) -> tuple[Counter[float | None], tuple[str, ...]]:
    """Saved groups with equal rewards, counted by the reward; and the first answer of each."""
    counts: Counter[float | None] = Counter()
    samples: list[str] = []
    for name, rows in chart.saved(steps):
        for _, group in groupby(enumerate(rows, start=1), key=lambda numbered: numbered[1].get("group")):
            answers = list(group)
            if len(answers) > 1 and len({row.get("reward") for _, row in answers}) == 1:
                counts[answers[0][1].get("reward")] += 1
                samples.append(chart.sample(name, *answers[0]))
    return counts, tuple(samples[:MOST])


def _common(chart: Chart, steps: tuple[int, ...]) -> tuple[str, ...]:
    counts = _silent_answers(chart, steps)[0].most_common(3)
    if not counts:
        return ()
    said = ", ".join(f"{count} with {'no score' if reward is None else f'{reward:g}'}" for reward, count in counts)
    return (f"Of the saved groups with equal rewards: {said}.",)


def _why(chart: Chart) -> str:
    if chart.solved:
        return "Most questions are learned: their answers are all right, and nothing is left to compare."
    if chart.fell:
        return "The policy broke, and its answers are all wrong: see the fall of the reward."
    if not len(chart.reward) or chart.spread == 0.0:
        return (
            "Every answer gets the same reward: the questions are too hard or too easy for this model, or the reward "
            "function cannot read its answers."
        )
    return (
        "The questions are too hard or too easy for this model, the groups are too small to hold a right and a wrong "
        "answer, or the answers to one question are all alike."
    )


def _more_variance(chart: Chart) -> str:
    answers = int(chart.number("train.num_generations", 8))
    if chart.solved:
        return "stop here, or go on with harder questions (data.source, data.level)."
    if chart.fell:
        return "what made the reward fall, first of all train.learning_rate."
    if chart.spread == 0.0:
        return (
            "compare the samples with what [[reward]] expects; take questions that the model gets right now and then "
            "(data.source, data.level), or fine-tune it first (scoreline sft)."
        )
    return (
        f"raise train.num_generations from {answers} to {2 * answers}; draw other questions for silent groups with "
        "objective.resample = {rounds = 3}; or take other questions (data.source, data.level)."
    )
