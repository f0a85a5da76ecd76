"""Several runs of one recipe: whether they tell the same story."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from scoreline.reports.doctor.chart import Accuracy, Chart
from scoreline.reports.doctor.finding import Finding
from scoreline.reports.history import History

FREE = ("name", "folder", "seed")
"""What runs of one recipe may differ in."""


GAP = 0.05
"""Accuracy between the worst and the best seed that matters: five questions of a hundred."""


def compare_seeds(histories: Sequence[History]) -> list[Finding]:
    """What several runs say together; nothing for one. Runs of different recipes are named, not compared."""
    if len(histories) < 2:
        return []
    others = [history for history in histories[1:] if different(histories[0].config, history.config)]
    if others:
        return [_not_alike(histories[0], others[0])]
    return [finding for finding in (_copies(histories), _spread(histories)) if finding is not None]


def different(one: Mapping[str, Any], other: Mapping[str, Any], at: str = "") -> list[str]:
    """The addresses at which two resolved recipes differ, but for name, folder and seed."""
    found: list[str] = []
    for key in sorted({*one, *other} - set(FREE if not at else ())):
        mine, yours = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(yours, Mapping):
            found += different(mine, yours, f"{at}{key}.")
        elif mine != yours:
            found.append(f"{at}{key}")
    return found


def _spread(histories: Sequence[History]) -> Finding | None:
    """Final accuracies whose intervals do not touch: chance in training decides, not the recipe."""
    ends = list(_ends(histories))
    if len(ends) < 2:
        return None
    low, high = min(ends, key=lambda end: end[1].mean), max(ends, key=lambda end: end[1].mean)
    if low[1].high >= high[1].low or high[1].mean - low[1].mean < GAP:
        return None
    apart = sum(one[1].high < two[1].low or two[1].high < one[1].low for one, two in combinations(ends, 2))
    rate = Chart(histories[0]).rate
    return Finding(
        name="seeds-differ",
        severity="warning",
        title="The seeds tell different stories",
        evidence=(
            *(f"{_named(history)}: held-out accuracy {accuracy}." for history, accuracy in ends),
            f"{apart} of {math.comb(len(ends), 2)} pairs of runs differ by more than their 95 % intervals.",
        ),
        cause="The outcome hangs on which answers were sampled first: steps too large, or too few samples a step.",
        change="say nothing from one seed: give the mean and the interval over at least 5; more "
        f"train.prompts_per_step, or train.learning_rate below {rate:g}.",
    )


def _copies(histories: Sequence[History]) -> Finding | None:
    seeds = [history.config.get("seed") for history in histories]
    again = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
    if not again:
        return None
    return Finding(
        name="equal-seeds",
        severity="note",
        title="Runs have the same seed",
        evidence=(f"seed = {', '.join(again)} stands in more than one run: they are copies, not repetitions.",),
        cause="A run repeats itself exactly for a seed.",
        change="give each run its own: seed=1, seed=2, ...",
    )


def _not_alike(one: History, other: History) -> Finding:
    keys = different(one.config, other.config)
    return Finding(
        name="different-recipes",
        severity="note",
        title="The runs have different recipes",
        evidence=(
            f"{_named(one)} and {_named(other)} differ in {', '.join(keys[:6])}{' and more' if len(keys) > 6 else ''}.",
        ),
        cause="Only runs of one recipe say what the seed does.",
        change="name runs that differ in nothing but the seed; scoreline compare is for different recipes.",
    )


def _ends(histories: Sequence[History]) -> Iterator[tuple[History, Accuracy]]:
    for history in histories:
        accuracies = Chart(history).accuracies
        if accuracies and accuracies[-1].step > 0:
            yield history, accuracies[-1]


def _named(history: History) -> str:
    return f"{history.folder.resolve().name} (seed {history.config.get('seed', '?')})"
