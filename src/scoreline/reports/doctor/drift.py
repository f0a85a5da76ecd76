"""How far the policy went: from its reference, and from the length that its answers had."""

from __future__ import annotations

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import span

FAR = 0.5
"""Nats a token: a token is then 1.6 times as likely as under the reference, an answer of 20 tokens 22,000 times."""

LOST = 2.0
"""Nats a token: little of the reference's language is left, and a few rare tokens make most of the estimate."""

STRETCHED = 2.0
"""Factor between the lengths at the beginning and at the end that a change of habit explains, and chance does not."""


def kl_runaway(chart: Chart) -> Finding | None:
    """A policy that has left its reference."""
    kl = chart.series("kl")
    if not len(kl) or kl.last < FAR:
        return None
    beta = chart.series("beta")
    weight = (f"beta was {beta.last:g} then.",) if len(beta) else ()
    first = next(iter(kl.where(lambda value: value >= FAR)), kl.steps[0])
    return Finding(
        name="kl-runaway",
        severity="alarm" if kl.last >= LOST else "warning",
        title="The policy has left its reference",
        evidence=(
            f"KL was {kl.last:.3g} nats a token in {span(kl.ending)}; it passed {FAR:g} at step {first}.",
            *weight,
        ),
        cause="The pull to the reference is too weak for the reward, or the learning rate is too high. Far from the "
        "reference a reward is easier to cheat, and a reward model judges what it has never seen.",
        change=f"raise objective.kl.beta (now {chart.number('objective.kl.beta', 0.0):g}), or let it adapt: "
        f"objective.kl.adapt = {{target = 0.1}}; or train.learning_rate below {chart.rate:g}.",
        steps=kl.where(lambda value: value >= FAR)[:MOST],
        samples=chart.answers(lambda row: True, kl.ending)[:4],
    )


def length_drift(chart: Chart) -> Finding | None:
    """Answers that became much longer or much shorter, and no better."""
    length = chart.series("completions/mean_length")
    if len(length) < 3 or chart.improved or chart.solved:
        return None
    factor = length.last / max(length.first, 1e-9)
    if 1 / STRETCHED < factor < STRETCHED:
        return None
    longer = factor > 1
    return Finding(
        name="length-drift",
        severity="warning",
        title=f"Answers became {'longer' if longer else 'shorter'}, and no better",
        evidence=(
            f"The mean length went from {length.first:.1f} to {length.last:.1f} tokens ({span(length.ending)}).",
            *_progress(chart),
        ),
        cause="Length earns something that the task does not: a reward that grows with it, or an aggregate under which "
        "long wrong answers weigh less a token (SequenceMean)."
        if longer
        else "Short answers earn as much: nothing rewards the work, a penalty on length is too strong, or the policy "
        "has settled on giving up.",
        change='objective.aggregate = {type = "FixedLength"}, or "TokenMean"; read the samples beside [[reward]]; '
        + ("a penalty such as soft_overlong." if longer else "weaken what rewards brevity."),
        steps=length.ending[:MOST],
        samples=chart.answers(lambda row: True, length.ending)[:4],
    )


def _progress(chart: Chart) -> tuple[str, ...]:
    if len(chart.accuracies) > 1:
        return (f"Held-out accuracy was {chart.accuracies[0]} and {chart.accuracies[-1]}.",)
    return chart.reward_moved
