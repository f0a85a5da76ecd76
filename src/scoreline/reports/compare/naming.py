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
    "final": Name("final accuracy", "at the end", "more"),
    "area": Name("area", "mean accuracy over the budget", "more"),
    "greedy": Name("greedy accuracy", "most likely answer, at the end", "more"),
    "judged": Name("judged reward", "what the judge gave, at the end"),
    "length": Name("length", "tokens of an answer"),
    "entropy": Name("entropy", "nats a token"),
    "kl": Name("KL", "to the reference, nats a token"),
    "clip": Name("clipped", "share of tokens"),
    "noise": Name("gradient noise", "variance over fresh batches", "less"),
    "parameters": Name("trained parameters", "policy and critic"),
    "memory_mb": Name("peak memory", "MB", "less"),
    "seconds_per_step": Name("seconds a step", "", "less"),
}


def name_of(measure: str) -> Name:
    """The name of a measure; one that is not known here is called as the file calls it."""
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
