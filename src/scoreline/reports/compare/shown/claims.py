"""The claims of a comparison: what was expected, what was measured, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scoreline.reports.compare.shown.forest import Branch, branch, scale_ends, scale_of
from scoreline.reports.compare.shown.measured import known, measured
from scoreline.reports.compare.shown.naming import Comparison, name_of, titles
from scoreline.reports.numerals import figure

VERDICTS = {"supported": "✓", "refuted": "✗", "undecided": "?"}
"""What can become of a claim, and its sign."""


@dataclass(frozen=True)
class Judgement:
    """A claim and what became of it; `low` and `high` are the ends of its strip."""

    text: str
    verdict: str
    sign: str
    why: str
    expects: str
    measure: str
    branch: Branch
    low: str
    high: str


def judgements(comparison: Comparison) -> list[Judgement]:
    """The claims in their order, each with its difference on a scale of its own."""
    names = titles(comparison)
    return [_judgement(claim, names) for claim in comparison.get("claims") or ()]


def _judgement(claim: Mapping[str, Any], names: Mapping[str, str]) -> Judgement:
    difference, margin = measured(claim.get("difference")), known(claim.get("margin")) or 0.0
    scale = scale_of([difference], margin)
    low, high = scale_ends(scale)
    arm, against = (names.get(claim[end], claim[end]) for end in ("arm", "against"))
    return Judgement(
        text=claim["text"],
        verdict=claim["verdict"],
        sign=VERDICTS.get(claim["verdict"], "?"),
        why=claim.get("why") or "",
        expects=_expected(claim["expects"], margin),
        measure=name_of(claim["measure"]).title,
        branch=branch(arm, against, difference, scale, margin),
        low=low,
        high=high,
    )


def _expected(expects: str, margin: float) -> str:
    """`more, by over 0.02`: what the claim says of the difference."""
    if expects == "same":
        return f"the same, within ±{figure(margin)}"
    return f"{expects}, by over {figure(margin)}" if margin else expects
