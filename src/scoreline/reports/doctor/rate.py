"""Whether the learning rate fits: too high breaks the policy, too low leaves it where it was."""

from __future__ import annotations

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import span

STILL_KL = 1e-5
"""Nats a token: to tell two policies apart that differ so little takes about 100,000 tokens."""

STILL_WAY = 2e-6
"""Sum of the learning rates of all updates, about as far as AdamW takes a weight: a ten-thousandth of a usual 0.02."""

BURST = 5.0
"""Nats a token, mean of a step: an update moved whole answers by factors that no clip and no pull can take back."""

HUGE = 1e18
"""A mean reward whose square is near the end of fp32, 3.4e38: norms and spreads of what follows from it are beyond."""

PATIENCE = 20
"""Steps before a policy that has not moved is remarkable: warm-up is over then."""


def too_high(chart: Chart) -> Finding | None:
    """The reward that is trained for falls, or updates throw the policy far from where it was."""
    kl = chart.series("kl")
    burst = () if chart.improved else kl.where(lambda value: value >= BURST)
    if not len(chart.reward) or not (chart.fell or burst):
        return None
    reward, (best, at) = chart.reward, chart.height
    leaps = (f"KL reached {max(kl.values):.3g} nats a token, above {BURST:g} in {span(burst)}.",) if burst else ()
    return Finding(
        name="learning-rate-too-high",
        severity="alarm",
        title="The policy breaks",
        evidence=(
            f"The mean reward was {best:.3f} up to step {at} and is {reward.last:.3f} in {span(reward.ending)}.",
            *leaps,
            *_signs(chart),
        ),
        cause=f"The learning rate {chart.rate:g} is too high for {chart.updates} updates of each batch: steps go so "
        "far that the gradient no longer holds where they land.",
        change=f"train.learning_rate = {chart.rate / 3:.2g}, again from the last checkpoint before step {at}; fewer "
        'updates a batch (train.num_iterations, train.minibatches); train.warmup_updates; train.schedule = "linear".',
        steps=reward.ending[:MOST],
        samples=chart.answers(lambda row: True, reward.ending)[:4],
    )


def too_low(chart: Chart) -> Finding | None:
    """A policy that has a signal and does not move."""
    rates, kl, gradient = chart.series("learning_rate"), chart.series("kl"), chart.series("grad_norm")
    signal = len(gradient) > 0 and gradient.last > 0
    if len(rates) < PATIENCE or not signal or chart.solved:
        return None
    way, held = sum(rates.values) * chart.updates, len(kl) > 0 and not _refreshed(chart)
    if (kl.last > STILL_KL) if held else (way > STILL_WAY):
        return None
    distance = (f"KL to the reference was {kl.last:.2g} nats a token in {span(kl.ending)}.",) if held else ()
    return Finding(
        name="learning-rate-too-low",
        severity="warning",
        title="The policy does not move",
        evidence=(
            f"The learning rates of {len(rates)} steps of {chart.updates} updates each add up to {way:.2g}.",
            *distance,
            *chart.reward_moved,
        ),
        cause=f"The learning rate {chart.rate:g} is too low: there is a gradient (norm {gradient.last:.3g}), and too "
        "little of it is used.",
        change=f"train.learning_rate = {10 * chart.rate:.2g}, or more updates a batch (train.minibatches).",
        steps=rates.ending[:MOST],
    )


def skipped(chart: Chart) -> Finding | None:
    """Updates that were left out because loss or gradient was not finite."""
    left_out = chart.series("skipped_updates")
    steps = left_out.where(lambda count: count > 0)
    if not steps:
        return None
    said = f"{sum(left_out.values):.0f} updates were left out, in {span(steps)}."
    reward = max(
        (abs(mean) for step, mean in zip(chart.reward.steps, chart.reward.values, strict=True) if step in steps),
        default=0.0,
    )
    if reward >= HUGE:
        return _overflow(chart, steps, (said, f"The mean reward of such a step reached {reward:.3g}."))
    return Finding(
        name="non-finite-updates",
        severity="alarm",
        title="Loss or gradient was not finite",
        evidence=(said,),
        cause="A learning rate that is too high, or numbers beyond the range of the precision "
        f"({chart.setting('model.precision', 'fp32')}).",
        change=f'train.learning_rate = {chart.rate / 3:.2g} (now {chart.rate:g}); model.precision = "fp32".',
        steps=steps[:MOST],
    )


def _overflow(chart: Chart, steps: tuple[int, ...], evidence: tuple[str, ...]) -> Finding:
    """Updates that were left out for the size of their rewards, which no learning rate changes."""
    return Finding(
        name="non-finite-updates",
        severity="alarm",
        title="Rewards are too large to compute with",
        evidence=evidence,
        cause="The squares of such rewards, in the gradient's norm, are beyond the largest number of fp32.",
        change="what the functions in [[reward]] return: bound it; is there a division by almost nothing?",
        steps=steps[:MOST],
        samples=chart.answers(lambda row: abs(row.get("reward") or 0.0) >= HUGE, steps)[:4],
    )


def _refreshed(chart: Chart) -> bool:
    """Whether the reference follows the policy, so that KL starts again now and then."""
    return chart.setting("reference.every") is not None or chart.number("rounds.count", 1) > 1


def _signs(chart: Chart) -> tuple[str, ...]:
    """What else moved, of the numbers that tell a large step."""
    names = {
        "kl": "KL",
        "entropy": "entropy",
        "grad_norm": "gradient norm",
        "clip_ratio/region_mean": "clipped tokens",
        "completions/mean_length": "length",
    }
    known = {word: series for name, word in names.items() if len(series := chart.series(name))}
    moved = [f"{word} from {series.first:.3g} to {series.last:.3g}" for word, series in known.items()]
    return (f"Meanwhile: {', '.join(moved)}.",) if moved else ()
