"""Whether the engine samples from the policy that learns: log-probabilities of the same tokens, from both."""

from __future__ import annotations

from dataclasses import replace

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import Series, span

APART = 0.05
"""Nats a token, mean of |log pi_old - log pi_sampler|: bf16 in engine and learner differ by about 0.01, so that this is
more than rounding."""

OTHER = 0.2
"""Nats a token: ratios of a quarter either way, what the clip takes for the edge. It is another policy that samples."""


def mismatch(chart: Chart) -> Finding | None:
    """An engine that samples from something else than the learner's policy."""
    apart = fresh(chart, "sampling/sampling_logp_difference/mean")
    if not len(apart) or apart.last < APART:
        return None
    ratio = fresh(chart, "sampling/importance_sampling_ratio/max")
    extreme = (f"The largest ratio pi_old / pi_sampler of a token was {max(ratio.values):.3g}.",) if len(ratio) else ()
    said = (
        f"Log-probabilities differ by {apart.last:.3f} nats a token in {span(apart.ending)}; first {apart.first:.3f}."
    )
    grows = apart.last > 2 * apart.first
    return Finding(
        name="sampler-mismatch",
        severity="alarm" if apart.last >= OTHER else "warning",
        title="The sampler is not the learner's policy",
        evidence=(said, *extreme),
        cause="The difference grows: new weights do not reach the engine."
        if grows
        else "Engine and learner compute the same model differently: another precision, another attention kernel, "
        "quantised weights, or sampling settings that one of them does not apply.",
        change=_change(chart),
        steps=apart.where(lambda value: value >= APART)[:MOST],
    )


def fresh(chart: Chart, name: str) -> Series:
    """The metric at the steps whose answers were all sampled by the newest weights: older ones differ, as they must."""
    stale = set(chart.series("staleness/max").where(lambda age: age > 0))
    series = chart.series(name)
    kept = [(step, value) for step, value in zip(series.steps, series.values, strict=True) if step not in stale]
    return replace(series, steps=tuple(step for step, _ in kept), values=tuple(value for _, value in kept))


def _change(chart: Chart) -> str:
    precision = chart.setting("model.precision", "fp32")
    words = f"give both the same precision (model.precision, now {precision}) and sampling settings"
    if chart.setting("objective.correction") is None:
        words += "; weigh tokens by the ratio, objective.correction = {cap = 2.0}"
    return f'{words}; compare with engine.type = "Local", which is the learner\'s own model.'
