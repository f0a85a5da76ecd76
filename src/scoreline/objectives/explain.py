"""An objective in words: its formula, each part with its paper and number, and every value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from scoreline.objectives.objective import Objective

FORMULA = "minimise  sum_it w_it [ c_it f(log pi, log pi_old, A)_it + beta KL_it + v_it - e H_it ]"

ROLES = {
    "credit": "A: rewards to advantages",
    "surrogate": "f: loss of a token",
    "aggregate": "w: weight of a token",
    "kl": "KL: distance to the reference",
    "value": "v: the critic's loss",
    "correction": "c: sampler against learner",
    "entropy": "H: entropy bonus",
    "resample": "dynamic sampling",
}


@dataclass(frozen=True)
class Explained:
    """One part of an objective: its role, type, formula, source and values (by the address a recipe uses)."""

    role: str
    slot: str
    part: str
    formula: str
    source: str
    values: dict[str, Any]


def explain(objective: Objective) -> list[Explained]:
    """Every part of the objective that is set, in the order of the formula."""
    rows = [("credit." + str(i), "credit", part) for i, part in enumerate(objective.credit)]
    named = (f.name for f in fields(objective) if f.name != "credit")
    rows += [(name, name, getattr(objective, name)) for name in named if getattr(objective, name) is not None]
    return [_explain_part(slot, ROLES[role], part) for slot, role, part in rows]


def _explain_part(slot: str, role: str, part: Any) -> Explained:
    formula = getattr(part, "formula", (type(part).__doc__ or "").strip().split("\n")[0])
    source = getattr(part, "source", "")
    values = {f"objective.{slot}.{key}": value for key, value in _leaves(asdict(part)).items()}
    return Explained(role, slot, type(part).__name__, formula, source, values)


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out
