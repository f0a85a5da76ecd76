"""Answers that do not end: cut off by the token budget, now and then or always."""

from __future__ import annotations

from statistics import fmean

from scoreline.reports.doctor.chart import Chart
from scoreline.reports.doctor.finding import MOST, Finding
from scoreline.reports.doctor.series import Series, span

CUT = 0.25
"""Share of answers cut off: every fourth answer is scored without its end, which is where most answers stand."""

ALL = 0.98
"""Share of answers cut off from which ending by itself is the exception, not the rule."""


def truncated(chart: Chart) -> Finding | None:
    """Many answers that the budget cut off."""
    cut = chart.series("completions/clipped_ratio")
    if not len(cut) or not CUT <= cut.last < ALL:
        return None
    return Finding(
        name="truncated-answers",
        severity="warning",
        title="Many answers are cut off",
        evidence=(_said(chart, cut), *_earned(chart, cut)),
        cause="The token budget is shorter than the answers; a right answer that is cut counts as a wrong one.",
        change=_longer(chart) + "; or train.mask_truncated_completions = true, so that cut answers carry no loss.",
        steps=cut.where(lambda share: share >= CUT)[:MOST],
        samples=_samples(chart, cut),
    )


def never_end(chart: Chart) -> Finding | None:
    """No answer that ends by itself: the end-of-text token is missing."""
    cut = chart.series("completions/clipped_ratio")
    if not len(cut) or cut.last < ALL:
        return None
    lost = cut.first < ALL
    return Finding(
        name="missing-eos",
        severity="alarm",
        title="Answers no longer end" if lost else "No answer ends",
        evidence=(_said(chart, cut), *_earned(chart, cut)),
        cause="The policy unlearned its end-of-text token: nothing rewards ending."
        if lost
        else "The budget is far too short, or the model does not know when to stop: a base model without the chat "
        "template it is asked in, or an end-of-text token that its tokenizer does not name.",
        change=_longer(chart) + "; data.chat for a chat model; sampling.stop for a text that ends an answer; look at "
        '`scoreline sample RUN "..." --max-completion-length` with a larger number.',
        steps=cut.where(lambda share: share >= ALL)[:MOST],
        samples=_samples(chart, cut),
    )


def _said(chart: Chart, cut: Series) -> str:
    budget = chart.setting("sampling.max_completion_length", "?")
    reached = f"{cut.last:.0%} of the answers reached the budget of {budget} tokens"
    return f"{reached} in {span(cut.ending)}, {cut.first:.0%} at the beginning."


def _earned(chart: Chart, cut: Series) -> tuple[str, ...]:
    """What the saved answers earned, cut and whole."""
    rows = [row for _, rows in chart.saved(cut.ending) for row in rows if row.get("reward") is not None]
    ends = {"length": "cut", "stop": "whole"}
    means = {
        word: fmean(row["reward"] for row in rows if row.get("finish") == finish)
        for finish, word in ends.items()
        if any(row.get("finish") == finish for row in rows)
    }
    return (
        ("Mean reward of the saved answers: " + ", ".join(f"{mean:.3f} {word}" for word, mean in means.items()) + ".",)
        if means
        else ()
    )


def _longer(chart: Chart) -> str:
    budget = int(chart.number("sampling.max_completion_length", 256))
    return f"sampling.max_completion_length = {2 * budget} (now {budget})"


def _samples(chart: Chart, cut: Series) -> tuple[str, ...]:
    return chart.answers(lambda row: row.get("finish") == "length", cut.ending)
