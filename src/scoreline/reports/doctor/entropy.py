"""How open the policy still is: the mean entropy of the next token, in nats."""

from __future__ import annotations

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import span

LEFT = 0.1
"""Share of the first entropy below which little is tried any more: a tenth, with the reward not yet earned."""

CLOSED = 0.02
"""Nats: of fifty tokens about one is a choice between two, so answers of usual length are copies of one another."""

SCATTERED = 3.0
"""Times the first entropy: e^H, the number of tokens that are in play, has then cubed."""

OPENED = 0.3
"""Nats more at least: a small entropy that triples is still small."""


def collapse(chart: Chart) -> Finding | None:
    """Entropy that went, or was never there, before the task was learned."""
    entropy = chart.series("entropy")
    if len(entropy) < 3 or entropy.last > max(LEFT * entropy.first, CLOSED) or chart.solved:
        return None
    silent = chart.series("frac_reward_zero_std")
    over = chart.grouped and len(silent) > 0 and silent.last >= 0.8
    said = f"Entropy went from {entropy.first:.4f} nats a token to {entropy.last:.4f} in {span(entropy.ending)}."
    alike = (f"{silent.last:.0%} of the groups had equal rewards then.",) if len(silent) else ()
    return Finding(
        name="entropy-collapse",
        severity="alarm" if over else "warning",
        title="Entropy has collapsed",
        evidence=(said, *chart.reward_moved, *alike),
        cause="The policy settled on one answer to each question before it found the right ones: updates too large or "
        "too many for a batch, or nothing that keeps it open. What it no longer samples it cannot learn.",
        change=f"{_wider(chart)}{_warmer(chart)}train.learning_rate below {chart.rate:g}; objective.surrogate.high "
        "above low (0.28); objective.entropy = {coefficient = 0.001}; a reference, objective.kl.beta.",
        steps=entropy.ending[:MOST],
        samples=chart.answers(lambda row: True, entropy.ending)[:4],
    )


def _wider(chart: Chart) -> str:
    bonus = chart.number("objective.entropy.coefficient", 0.0)
    return f"objective.entropy.coefficient above 0 (now {bonus:g}, which pays for less); " if bonus < 0 else ""


def _warmer(chart: Chart) -> str:
    temperature = chart.number("sampling.temperature", 1.0)
    return f"sampling.temperature = 1.0 (now {temperature:g}); " if temperature < 1 else ""


def explosion(chart: Chart) -> Finding | None:
    """Entropy that grows and grows: answers dissolve into noise."""
    entropy = chart.series("entropy")
    grown = len(entropy) >= 3 and entropy.last >= SCATTERED * entropy.first and entropy.change >= OPENED
    if not grown:
        return None
    bonus = chart.number("objective.entropy.coefficient", 0.0)
    said = f"Entropy went from {entropy.first:.3f} nats a token to {entropy.last:.3f} in {span(entropy.ending)}."
    lower = (
        f"objective.entropy.coefficient below {bonus:g}" if bonus else "objective.kl.beta, to hold it to the reference"
    )
    return Finding(
        name="entropy-explosion",
        severity="warning" if chart.improved else "alarm",
        title="Entropy explodes",
        evidence=(said, *chart.reward_moved),
        cause="An entropy bonus that outweighs the reward."
        if bonus
        else "Updates that are too large, or negative advantages that push tokens away without saying where to.",
        change=f"{lower}; train.learning_rate below {chart.rate:g}.",
        steps=entropy.ending[:MOST],
        samples=chart.answers(lambda row: True, entropy.ending)[:4],
    )
