"""Whether the reward pays for what is wanted: cheating, one function over all others, answers without a score."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from scoreline.reports.doctor.chart import Accuracy, Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import span

RISEN = 0.1
"""Spreads of the reward by which it rises clearly, where accuracy falls by more than its interval."""

MUCH = 0.5
"""Spreads by which a reward must rise to be remarkable where accuracy merely stands still."""

SWALLOWED = 20.0
"""Times the other's spread: marks out of 100 beside right or wrong have 60, two yes-or-no functions 10 at most."""

REST = 0.1
"""Share of all weighted spread below which a function has no say."""

UNSCORED = 0.05
"""Share of answers without a score: one in twenty is paid for and teaches nothing."""

MOSTLY = 0.5
"""Share of answers without a score from which the reward function is at fault, not the answers."""


def cheating(chart: Chart) -> Finding | None:
    """A reward that rises while held-out accuracy falls, or does not rise with it."""
    if len(chart.accuracies) < 2 or chart.spread == 0:
        return None
    last, first = chart.accuracies[-1], chart.accuracies[0]
    best = max(chart.accuracies[:-1], key=lambda accuracy: accuracy.mean)
    since_best, since_first = _rise(chart, best, last), _rise(chart, first, last)
    fell = last.high < best.low and since_best > -RISEN
    if not fell and not (last.judged is not None and last.mean <= first.mean and since_first >= MUCH):
        return None
    start, rise = (best, since_best) if fell else (first, since_first)
    return Finding(
        name="reward-without-accuracy",
        severity="alarm" if fell and rise >= RISEN else "warning",
        title=f"The reward {'rises' if rise >= RISEN else 'holds'}, accuracy {'falls' if fell else 'does not'}",
        evidence=(
            f"Held-out accuracy was {start} and {last}.",
            f"The {'training' if last.judged is None else 'judged'} reward moved by {rise:+.2f} of its spread since.",
        ),
        cause="The policy found what the reward pays for and the task does not ask: a gap in the reward function or "
        "its judge. Or, where both say the same, it learns the training questions by heart.",
        change="read the best-paid samples and close the gap in [[reward]]; raise objective.kl.beta; keep the "
        f"checkpoint of step {start.step} (checkpoint.best); stop earlier; more questions (data.source).",
        steps=(start.step, last.step),
        samples=_best_paid(chart),
    )


def dominant(chart: Chart) -> Finding | None:
    """A reward function whose scale swallows another's, whatever their weights say."""
    spreads = {name: max(chart.series(f"{name}/std").values, default=0.0) for name in chart.weights}
    said = {name: abs(chart.weights[name]) * spread for name, spread in spreads.items() if spread > 0}
    if len(said) < 2:
        return None
    large = max(said, key=lambda name: said[name])
    small = min(said, key=lambda name: said[name])
    if spreads[large] < SWALLOWED * spreads[small] or said[small] > REST * sum(said.values()):
        return None
    fair = chart.weights[large] * said[small] / said[large]
    return Finding(
        name="dominant-reward",
        severity="warning",
        title=f"{_short(large)} decides alone",
        evidence=tuple(
            f"{_short(name)}: spread {spreads[name]:.3g} x weight {chart.weights[name]:g} = {said[name]:.3g}."
            for name in said
        ),
        cause=f"The functions are on different scales: {_short(small)} hardly changes which answer is the better one.",
        change=f"the weight of {_short(large)} in [[{large.split('/')[0].rstrip('s')}]]: {fair:.2g} (now "
        f"{chart.weights[large]:g}) would let both count alike; or let all functions return 0 to 1.",
    )


def unscored(chart: Chart) -> Finding | None:
    """Answers that no reward function could score."""
    share = chart.series("frac_unscored", fmean)
    if not len(share) or share.centre(share.values) < UNSCORED:
        return None
    mean = share.centre(share.values)
    return Finding(
        name="unscored-answers",
        severity="alarm" if mean >= MOSTLY else "warning",
        title="Answers without a score",
        evidence=(f"No reward function could score {mean:.0%} of the answers; they teach nothing.", *_nones(chart)),
        cause="The reward function returns None: it does not know the question's kind, or cannot read the answer.",
        change="let [[reward]] return 0 for an answer that it cannot read, and None only where it does not apply.",
        steps=share.where(lambda value: value > 0)[:MOST],
        samples=chart.answers(lambda row: row.get("reward") is None),
    )


def never_scores(chart: Chart) -> Finding | None:
    """A reward function beside others that never had anything to say."""
    silent = [name for name in chart.weights if min(chart.series(f"{name}/none").values, default=0.0) >= 1.0]
    whole = min(chart.series("frac_unscored").values, default=1.0) >= 1.0
    if not silent or whole:
        return None
    return Finding(
        name="silent-reward-function",
        severity="warning",
        title=f"{_short(silent[0])} never gives a score",
        evidence=(f"It returned None for every answer of every step: {', '.join(map(_short, silent))}.",),
        cause="It looks for a column or a form of answer that is not there.",
        change="call it by hand on a saved answer; correct it, or take it out of [[reward]].",
        samples=chart.answers(lambda row: True)[:4],
    )


def _rise(chart: Chart, start: Accuracy, end: Accuracy) -> float:
    """How far the reward moved between two evaluations, in its spread: the judged one, or that of training."""
    if start.judged is not None and end.judged is not None:
        return (end.judged - start.judged) / chart.spread
    after = chart.reward.since(start.step)
    return (chart.reward.last - after.first) / chart.spread if len(after) else 0.0


def _best_paid(chart: Chart) -> tuple[str, ...]:
    """The best-paid answers of the latest saved step."""
    for name, rows in chart.saved():
        scored = [(line, row) for line, row in enumerate(rows, start=1) if row.get("reward") is not None]
        best = sorted(scored, key=lambda numbered: -numbered[1]["reward"])[:4]
        return tuple(chart.sample(name, line, row) for line, row in best)
    return ()


def _nones(chart: Chart) -> Iterator[str]:
    for name in chart.weights:
        none = chart.series(f"{name}/none", fmean)
        if len(none) and max(none.values) > 0:
            steps = none.where(lambda value: value > 0)
            yield f"{_short(name)} returned None for {none.centre(none.values):.0%} of them, in {span(steps)}."


def _short(name: str) -> str:
    return name.split("/", 1)[1]
