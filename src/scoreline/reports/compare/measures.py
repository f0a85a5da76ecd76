"""What a run is measured by in a comparison: one number a run and measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scoreline.reports.compare.arms import probe
from scoreline.reports.compare.curves import Curve, Kind, curves, height, late, level
from scoreline.reports.history import History

MEANINGS = {
    "final": "accuracy of the sampled answers after training",
    "area": "accuracy, mean over the whole budget: who learns sooner has more",
    "before": "accuracy of the sampled answers before training",
    "drop": "how far the accuracy ends below its best evaluation",
    "greedy": "accuracy of the most likely answer after training",
    "judged": "mean score that the training rewards give to the evaluation's answers, after training",
    "length": "tokens of an answer after training",
    "entropy": "nats of the next-token distribution, mean of the last tenth of training",
    "kl": "nats a token from the reference, mean of the last tenth of training",
    "clip": "share of tokens outside the clip range, mean over training",
    "noise": "variance of the policy gradient over its squared mean, at the probed checkpoint",
    "variance_times": "variance of the policy gradient, as a multiple of that of the first objective that was probed",
    "gain_hard": "accuracy gained on the third of the questions that were hardest before",
    "gain_middle": "accuracy gained on the third of the questions in the middle",
    "gain_easy": "accuracy gained on the third of the questions that were easiest before",
    "parameters": "numbers that training changes, those of a critic too",
    "memory_mb": "peak memory in MB of 2^20 bytes: the process, or on a GPU the device's",
    "seconds_per_step": "seconds of a step, evaluations not counted",
    "tokens": "sampled tokens",
    "steps": "steps",
}
"""Every measure, in the order in which a table has them."""


def measured(history: History, kind: Kind, end: float | None, *, cut: bool) -> dict[str, float]:
    """Every measure of a run that is known. `end` is the cost that all runs reached; with `cut` they are compared there
    and not at their own ends.
    """
    found = curves(history, kind)
    at = end if cut else None
    last = {name: level(found[curve], at) for name, curve in ENDS.items() if curve in found}
    noisy = {name: late(found[name], at) for name in ("entropy", "kl") if name in found}
    values = last | noisy | _of_accuracy(found, end, at) | _of_training(found) | _of_summary(history.summary)
    return {name: value for name, value in (values | _of_probe(history)).items() if math.isfinite(value)}


ENDS = {"final": "accuracy", "greedy": "greedy", "judged": "judged", "length": "answer_length"}
"""The curve that a measure is the end of."""


def started(history: History) -> dict[str, float]:
    """The same measures before training, as far as they were evaluated then."""
    found = curves(history, "steps")
    return {name: found[curve][0][1] for name, curve in ENDS.items() if curve in found and found[curve][0][0] == 0}


def _of_accuracy(found: Mapping[str, Curve], end: float | None, at: float | None) -> dict[str, float]:
    curve = found.get("accuracy")
    if curve is None:
        return {}
    until = [point for point in curve if at is None or point[0] <= at] or curve[:1]
    area = height(curve, min(curve[-1][0], math.inf if end is None else end))
    before = {"before": curve[0][1]} if curve[0][0] == 0 else {}
    drop = max(max(y for _, y in until) - level(curve, at), 0.0)
    return {"drop": drop} | before | ({} if area is None else {"area": area})


def _of_training(found: Mapping[str, Curve]) -> dict[str, float]:
    names = {"clip": "clip", "seconds": "seconds_per_step"}
    return {names[name]: math.fsum(y for _, y in found[name]) / len(found[name]) for name in names if name in found}


def _of_summary(summary: Mapping[str, Any]) -> dict[str, float]:
    memory = summary.get("peak_gpu_mb", summary.get("peak_rss_mb"))
    known = {name: summary.get(name) for name in ("parameters", "tokens", "steps")} | {"memory_mb": memory}
    return {name: float(value) for name, value in known.items() if value is not None}


def _of_probe(history: History) -> dict[str, float]:
    """`noise` is that of the run's own objective, `noise/NAME` that of each that was probed; `variance_times` compares
    the own one with the first. A KL that was probed is that from the run's first model, reference or not.
    """
    found = probe(history.folder)
    noise: Mapping[str, Any] = found.get("noise", {})
    own = noise.get("own", noise.get(str(history.config.get("algorithm")), {}))
    known = {f"noise/{name}": facts.get("ratio") for name, facts in noise.items()}
    known |= {"noise": own.get("ratio"), "variance_times": own.get("times", {}).get("variance", {}).get("times")}
    known |= {"kl": found.get("kl", {}).get("token")}
    return {name: float(value) for name, value in known.items() if value is not None}
