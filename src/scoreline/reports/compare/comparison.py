"""`comparison.json`: everything that was measured of several arms, at equal cost, with intervals over seeds.

| key | content |
|---|---|
| name, title, budget, seeds, measure | what was compared, at which cost, by which accuracy |
| same, settings, environment | what all arms share, what they say differently, the machine |
| arms | formula, runs, measures, curves with bands; a measure that no run has is absent |
| pairs | paired differences, every arm against the first one, and what claims name |
| claims | each with its difference, verdict and why |
| meanings | every measure in words |
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scoreline.errors import CheckpointError
from scoreline.reports import jsonl
from scoreline.reports.compare.arms import Arm, Trial
from scoreline.reports.compare.claims import START, Claim, verdict
from scoreline.reports.compare.curves import SHOWN, Kind, band, curves, spent
from scoreline.reports.compare.difficulty import gains
from scoreline.reports.compare.measures import MEANINGS, measured, started
from scoreline.reports.compare.settings import ASIDE, differing, same
from scoreline.reports.compare.statistics import Estimate, difference, estimate
from scoreline.reports.history import History

FILE = "comparison.json"

PER_RUN = ("before", "tokens", "steps", "parameters")
"""Measures that are the same in all runs of an arm, or a matter of the budget: they have no difference worth a test."""

Values = dict[str, list[float | None]]
"""By measure, one value a seed."""


@dataclass(frozen=True)
class Spent:
    """What every run could spend; `amount` None is what the shortest of them spent. With `cut` runs that went on are
    compared at that cost, and not at their own ends.
    """

    kind: Kind
    amount: float | None = None
    cut: bool = False
    aside: tuple[str, ...] = ()
    """Settings that only say the budget."""


def summarise(
    folder: Path,
    name: str,
    title: str,
    budget: Spent,
    seeds: Sequence[int],
    arms: Sequence[Arm],
    claims: Sequence[Claim],
) -> dict[str, Any]:
    """The comparison as JSON; run folders are told from `folder`."""
    end = _end(arms, budget)
    values = {arm.name: by_arm for arm, by_arm in zip(arms, _values(arms, budget, end), strict=True)}
    starts = {arm.name: _transposed([_or(trial, started) for trial in arm.trials]) for arm in arms}
    told = [(claim, _claimed(claim, arms[0].name, values, starts)) for claim in claims]
    return {
        "name": name,
        "title": title,
        "budget": {"kind": budget.kind, "amount": budget.amount if budget.amount is not None else end},
        "seeds": list(seeds),
        "measure": _accuracy(arms),
        "environment": next((dict(h.environment) for arm in arms for h in arm.histories()), {}),
        "same": same(arms[0].config),
        "settings": differing({arm.name: arm.config for arm in arms}, (*ASIDE, *budget.aside)),
        "arms": [_arm(folder, arm, values[arm.name]) for arm in arms],
        "pairs": _pairs(arms, values, [(claim, found) for claim, (_, found) in told]),
        "claims": [_claim(claim, against, found) for claim, (against, found) in told],
        "meanings": MEANINGS,
    }


def write(folder: Path, comparison: Mapping[str, Any]) -> Path:
    """comparison.json, all of it or the old one."""
    path = folder / FILE
    jsonl.replace(path, jsonl.encode(comparison, indent=1) + "\n")
    return path


def read(folder: Path) -> dict[str, Any]:
    """comparison.json. Raises `CheckpointError` where there is none, or something else."""
    path = folder / FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a comparison", accepted=f"a folder with {FILE}") from error
    except (ValueError, TypeError) as error:
        todo = "`scoreline compare` with the same arguments writes it again"
        raise CheckpointError(f"{path} is not a JSON object", got=error, todo=todo) from error


def _end(arms: Sequence[Arm], budget: Spent) -> float | None:
    """The cost that every run reached, at most the budget's."""
    ends = [max(spent(history, budget.kind).values()) for arm in arms for history in arm.histories()]
    if not ends:
        return budget.amount
    return min(ends) if budget.amount is None else min(*ends, budget.amount)


def _values(arms: Sequence[Arm], budget: Spent, end: float | None) -> list[Values]:
    """Every measure of every run, by arm."""
    known = [(trial.seed, history) for arm in arms for trial in arm.trials if (history := trial.history) is not None]
    gained = {id(history): found for (_, history), found in zip(known, gains(known), strict=True)}

    def every(history: History) -> dict[str, float]:
        return measured(history, budget.kind, end, cut=budget.cut) | gained[id(history)]

    return [_transposed([_or(trial, every) for trial in arm.trials]) for arm in arms]


def _or(trial: Trial, measure: Any) -> dict[str, float]:
    return {} if trial.history is None else measure(trial.history)


def _transposed(rows: Sequence[Mapping[str, float]]) -> Values:
    names = dict.fromkeys(name for row in rows for name in row)
    ordered = [name for name in MEANINGS if name in names] + [name for name in names if name not in MEANINGS]
    return {name: [row.get(name) for row in rows] for name in ordered}


def _accuracy(arms: Sequence[Arm]) -> str:
    """`avg@4`: what accuracy is the mean of."""
    rows = [row for arm in arms for history in arm.histories() for row in history.evaluations]
    return f"avg@{rows[0].get('k', 'k')}" if rows else "avg@k"


def _arm(folder: Path, arm: Arm, values: Values) -> dict[str, Any]:
    measures = {name: estimate(column) for name, column in values.items()}
    return {
        "name": arm.name,
        "title": arm.title,
        "algorithm": str(arm.config.get("algorithm", "")),
        "formula": _formula(arm),
        "runs": [_run(folder, trial) for trial in arm.trials],
        "measures": {name: asdict(found) for name, found in measures.items() if found is not None},
        "curves": _curves(arm),
    }


def _formula(arm: Arm) -> str:
    """The formulas of the objective's parts, one after the other."""
    parts: list[Any] = next((h.objective.get("parts", []) for h in arm.histories()), [])
    return ";  ".join(dict.fromkeys(str(part["formula"]) for part in parts if part.get("formula")))


def _run(folder: Path, trial: Trial) -> dict[str, Any]:
    known = trial.summary
    return {
        "seed": trial.seed,
        "folder": Path(os.path.relpath(trial.folder, folder)).as_posix(),
        "steps": known.get("steps"),
        "tokens": known.get("tokens"),
        "seconds": known.get("wall_s"),
        "failed": trial.failed,
    }


def _curves(arm: Arm) -> dict[str, Any]:
    each = [curves(history, "tokens") for history in arm.histories()]
    found = {name: [one[name] for one in each if name in one] for name in SHOWN}
    return {name: {"x": "tokens", "points": band(known)} for name, known in found.items() if known}


def _pairs(
    arms: Sequence[Arm], values: Mapping[str, Values], claimed: Sequence[tuple[Claim, Estimate | None]]
) -> list[dict[str, Any]]:
    """Every arm against the first one in every measure that both have, then what only claims name."""
    first = arms[0].name
    rows: dict[tuple[str, str, str], Estimate] = {}
    for arm in arms[1:]:
        for measure, column in values[arm.name].items():
            other = values[first].get(measure)
            found = None if other is None or measure in PER_RUN else difference(column, other)
            if found is not None:
                rows[arm.name, first, measure] = found
    for claim, found in claimed:
        if found is not None:
            rows.setdefault((claim.arm, claim.against or first, claim.measure), found)
    keys = ("arm", "against", "measure")
    return [dict(zip(keys, names, strict=True)) | {"difference": asdict(found)} for names, found in rows.items()]


def _claimed(
    claim: Claim, first: str, values: Mapping[str, Values], starts: Mapping[str, Values]
) -> tuple[str, Estimate | None]:
    """Against what a claim compares, and the paired difference; None where one side was not measured."""
    against = claim.against or first
    other = starts[claim.arm] if against == START else values[against]
    mine, theirs = values[claim.arm].get(claim.measure), other.get(claim.measure)
    return against, None if mine is None or theirs is None else difference(mine, theirs)


def _claim(claim: Claim, against: str, found: Estimate | None) -> dict[str, Any]:
    said, why = verdict(claim, found)
    told = asdict(claim) | {"against": against}
    return told | ({} if found is None else {"difference": asdict(found)}) | {"verdict": said, "why": why}
