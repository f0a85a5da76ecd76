"""What came out of a comparison, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scoreline.reports.compare.shown.claims import VERDICTS
from scoreline.reports.compare.shown.measured import Measured, known, measured
from scoreline.reports.compare.shown.naming import Comparison, joined, title, titles

Piece = tuple[str, str]


def headline(comparison: Comparison) -> list[Piece]:
    """One sentence: the budget, and which arms ended above or below the first one.

    An arm is said to differ where the 95 % interval of its paired difference lies on one side of zero.
    """
    arms = comparison["arms"]
    if not arms:
        return [("words", "Nothing was compared.")]
    finals = {name: final for name, final in _finals(comparison).items() if final.mean is not None}
    if len(arms) == 1:
        return [
            ("words", f"{_spent(comparison)}, {title(arms[0])}"),
            *_level(measured(_measures(arms[0]).get("final"))),
        ]
    if not finals:
        return [("words", f"{_spent(comparison)}, the final accuracies of {joined(map(title, arms))} are not known.")]
    return [("words", f"{_spent(comparison)},"), *_sides(comparison, finals)]


def _sides(comparison: Comparison, finals: Mapping[str, Measured]) -> list[Piece]:
    first, names = title(comparison["arms"][0]), titles(comparison)
    if all(difference.seeds < 2 for difference in finals.values()):
        return [("words", f"{joined(names.values())} have one seed in common: too few to tell them apart.")]
    above = sorted((n for n in finals if finals[n].side > 0), key=lambda n: -(finals[n].mean or 0))
    below = sorted((n for n in finals if finals[n].side < 0), key=lambda n: finals[n].mean or 0)
    unclear = [names.get(name, name) for name in finals if finals[name].side == 0]
    if not above and not below:
        return [("words", f"no clear difference in final accuracy between {joined([first, *unclear])}.")]
    clauses = [_clause(f"ended above {first} by", "after", above, finals, names)]
    clauses.append(_clause(f"ended below {'it' if above else first} by", "before", below, finals, names))
    if unclear:
        clauses.append([("words", f"for {joined(unclear)} the difference is not clear")])
    return _run_on([clause for clause in clauses if clause])


def _clause(
    verb: str, kind: str, arms: Sequence[str], finals: Mapping[str, Measured], names: Mapping[str, str]
) -> list[Piece]:
    """`GRPO ended above naive by 0.12 [0.08 – 0.16], RLOO by ...`; at most two with numbers."""
    pieces: list[Piece] = []
    for place, arm in enumerate(arms[:2]):
        words = f"{names.get(arm, arm)} {verb}" if place == 0 else f", {names.get(arm, arm)} by"
        pieces += [("words", words), *_size(kind, finals[arm])]
    more = len(arms) - 2
    return [*pieces, ("words", f"and {more} more")] if more > 0 else pieces


def _size(kind: str, difference: Measured) -> list[Piece]:
    """How far apart, whichever is above."""
    low, high = sorted(abs(end) for end in (difference.low or 0.0, difference.high or 0.0))
    apart = Measured(abs(difference.mean or 0.0), low, high, difference.values)
    return [(kind, apart.number()), ("range", apart.interval())]


def _level(final: Measured) -> list[Piece]:
    if final.mean is None:
        return [("words", "has no evaluation.")]
    spread = [("range", final.interval())] if final.low is not None else []
    return [("words", "ended at"), ("after", final.number()), *spread, ("words", ".")]


def _run_on(clauses: Sequence[list[Piece]]) -> list[Piece]:
    pieces: list[Piece] = []
    for clause in clauses:
        pieces += [("words", ";"), *clause] if pieces else clause
    return [*pieces, ("words", ".")]


def _finals(comparison: Comparison) -> dict[str, Measured]:
    """The paired differences of final accuracy to the first arm."""
    first = comparison["arms"][0]["name"]
    pairs = (pair for pair in comparison.get("pairs") or () if pair["measure"] == "final" and pair["against"] == first)
    return {pair["arm"]: measured(pair["difference"]) for pair in pairs if pair["arm"] != first}


def _spent(comparison: Comparison) -> str:
    words = {"tokens": "At {} sampled tokens", "steps": "After {} steps", "seconds": "After {} seconds"}
    budget = comparison.get("budget") or {}
    amount = known(budget.get("amount"))
    return "At the end" if amount is None else words.get(budget["kind"], "At {}").format(f"{amount:,.0f}")


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """The small print: how many runs, what they had in common, what became of the claims."""
    same, runs = comparison.get("same") or {}, [run for arm in comparison["arms"] for run in arm.get("runs") or ()]
    done = sum(not run.get("failed") for run in runs)
    verdicts = Counter(claim["verdict"] for claim in comparison.get("claims") or ())
    claims = ", ".join(f"{verdicts[word]} {word}" for word in VERDICTS if verdicts[word])
    told = [
        ("arms", joined(titles(comparison).values())),
        ("seeds", str(len(comparison.get("seeds") or ()))),
        ("runs", f"{done}" if done == len(runs) else f"{done} of {len(runs)} finished"),
        ("claims", claims),
        *((name, str(same[name])) for name in ("model", "data", "evaluation") if same.get(name)),
    ]
    return [(name, value) for name, value in told if value]


def _measures(arm: Mapping[str, Any]) -> Mapping[str, Any]:
    return arm.get("measures") or {}
