"""What arms and measures are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Comparison = Mapping[str, Any]
"""A comparison.json, read."""


@dataclass(frozen=True)
class Name:
    """What a measure is called, the small print, and which way is good ("" where neither is)."""

    title: str
    note: str = ""
    better: Literal["more", "less", ""] = ""


NAMES = {
    "final": Name("final accuracy", "after training", "more"),
    "area": Name("area", "mean accuracy over the budget", "more"),
    "before": Name("start", "accuracy before training"),
    "drop": Name("drop", "from the best evaluation to the end", "less"),
    "greedy": Name("greedy accuracy", "most likely answer", "more"),
    "judged": Name("judged reward", "by the training rewards"),
    "gain_hard": Name("gain, hard", "third of questions hardest before", "more"),
    "gain_middle": Name("gain, middle", "third in between", "more"),
    "gain_easy": Name("gain, easy", "third easiest before", "more"),
    "length": Name("length", "tokens of an answer"),
    "entropy": Name("entropy", "nats a token"),
    "kl": Name("KL", "to the reference, nats a token"),
    "clip": Name("clipped", "share of tokens"),
    "noise": Name("gradient noise", "variance over squared mean", "less"),
    "parameters": Name("trained parameters", "a critic's too"),
    "memory_mb": Name("peak memory", "MB", "less"),
    "seconds_per_step": Name("seconds a step", "", "less"),
    "tokens": Name("sampled tokens"),
    "steps": Name("steps"),
}


def name_of(measure: str) -> Name:
    """The name of a measure; one that is not known here is called as the file calls it."""
    of, _, objective = measure.partition("/")
    if of == "noise" and objective:
        return Name(f"noise, {objective}", "as this objective would have it", "less")
    return NAMES.get(measure, Name(measure.replace("_", " ")))


def in_order(measures: Iterable[str]) -> list[str]:
    """Each once: those with a name in the order of `NAMES`, then the others as they come."""
    there = dict.fromkeys(measures)
    return [name for name in NAMES if name in there] + [name for name in there if name not in NAMES]


def titles(comparison: Comparison) -> dict[str, str]:
    """Arm -> what people call it."""
    return {arm["name"]: title(arm) for arm in comparison["arms"]}


def title(arm: Mapping[str, Any]) -> str:
    return str(arm.get("title") or arm["name"])


def joined(words: Iterable[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def meanings(comparison: Comparison) -> list[tuple[str, str]]:
    """What each measure that some arm has means, in the comparison's own words."""
    told = comparison.get("meanings") or {}
    there = in_order(name for arm in comparison["arms"] for name in arm.get("measures") or {})
    return [(name_of(name).title, str(told[name])) for name in there if told.get(name)]
