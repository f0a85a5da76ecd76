"""A run that ended with an error: what it was, and where the run stood."""

from __future__ import annotations

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import Finding
from scoreline.reports.plaintext import visible

TITLES = {
    "RewardError": "A reward function failed",
    "DivergenceError": "Training diverged",
    "MemoryLimitError": "Memory ran out",
}


def stopped(chart: Chart) -> Finding | None:
    """The error that ended the run."""
    failure = chart.history.failure
    if not failure:
        return None
    kind, step = str(failure.get("error", "an error")), failure.get("step", 0)
    lines = [visible(line.strip()) for line in str(failure.get("words", "")).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("to do:")]
    todo = [line.removeprefix("to do:").strip() for line in lines if line.startswith("to do:")]
    return Finding(
        name="stopped-by-an-error",
        severity="alarm",
        title=TITLES.get(kind, "The run stopped with an error"),
        evidence=(f"After step {step}: {told[0] if told else kind}", *told[1:]),
        cause="What the error says.",
        change="; ".join([*todo, "then go on with --resume."]),
        steps=(int(step),),
    )
