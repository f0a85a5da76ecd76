"""Whether the critic knows anything of the returns: 1 - Var(R - V) / Var(R)."""

from __future__ import annotations

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import span

PATIENCE = 20
"""Steps that a critic gets to learn, since it begins at zero."""

NOTHING = 0.05
"""Explained variance of a critic that might as well be a constant; one that passed it once may lose it to success."""

WORSE = -0.5
"""Explained variance at which the critic adds half of the variance that it should take away."""


def unexplained(chart: Chart) -> Finding | None:
    """A critic that does not foresee the returns, so that advantages are as noisy as without one."""
    explained = chart.series("value/explained_variance")
    if not len(explained):
        return None
    worse = len(explained) >= 3 and explained.last <= WORSE
    if not worse and (explained.steps[-1] < PATIENCE or explained.highest()[0] >= NOTHING):
        return None
    rate = chart.number("critic.learning_rate", 0.0)
    gradient = chart.series("grad_norm/critic")
    moved = (
        (f"The critic's gradient norm was {gradient.last:.3g}, its learning rate {rate:g}.",) if len(gradient) else ()
    )
    direction = (
        f"critic.learning_rate = {rate / 3:.2g}" if worse else f"critic.learning_rate = {max(3 * rate, 1e-5):.2g}"
    )
    return Finding(
        name="critic-explains-nothing",
        severity="note" if chart.solved else "alarm" if worse else "warning",
        title="The critic makes it worse" if worse else "The critic explains nothing",
        evidence=(
            f"Explained variance was {explained.last:.3f} in {span(explained.ending)}, at most "
            f"{max(explained.values):.3f}.",
            *moved,
        ),
        cause="Most questions are learned: the returns hardly vary any more, and little is left to explain."
        if chart.solved
        else "The critic overshoots: its values are further from the returns than their mean is."
        if worse
        else "The critic learns too slowly to follow the policy, or what it sees says nothing of the return.",
        change=f"{direction} (now {rate:g}); critic.warmup_steps = 10; more updates a batch (train.minibatches); or a "
        'group\'s mean as score line: algorithm = "grpo".',
        steps=explained.ending[:MOST],
    )
