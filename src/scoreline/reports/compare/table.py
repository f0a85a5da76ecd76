"""A comparison as text: a line an arm, a line a claim, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scoreline.reports.plaintext import clipped

Json = Mapping[str, Any]


def table(comparison: Json) -> str:
    """What the terminal shows at the end."""
    parts = (_head(comparison), _aligned(_arms(comparison)), _claims(comparison["claims"]), _failed(comparison))
    return "\n\n".join(part for part in parts if part)


def _head(comparison: Json) -> str:
    budget, same, seeds = comparison["budget"], comparison["same"], comparison["seeds"]
    amount = "" if budget["amount"] is None else f", {budget['amount']:,.0f} {budget['kind']} a run"
    told = f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''}{amount}"
    return f"{comparison['title']}\n{same['model']} on {same['data']}: {same['evaluation']}; {told}; 95 % intervals"


def _arms(comparison: Json) -> list[list[str]]:
    measure = comparison["measure"]
    rows = [["arm", f"final {measure}", "area", "greedy", "against the first", "s a step", "runs"]]
    first = comparison["arms"][0]["name"]
    gaps = {pair["arm"]: pair["difference"] for pair in comparison["pairs"] if _of(pair, first, "final")}
    for arm in comparison["arms"]:
        found, ended = arm["measures"], sum(run["failed"] is None for run in arm["runs"])
        cells = [_spread(found.get("final")), _mean(found.get("area")), _mean(found.get("greedy"))]
        gap = _spread(gaps.get(arm["name"]), sign="+")
        seconds = _mean(found.get("seconds_per_step"), ".2f")
        rows.append([arm["name"], *cells, gap, seconds, f"{ended}/{len(arm['runs'])}"])
    return rows


def _of(pair: Json, first: str, measure: str) -> bool:
    return bool(pair["against"] == first and pair["measure"] == measure)


def _claims(claims: Sequence[Json]) -> str:
    lines = [f"{claim['verdict']:<12}{claim['text']}\n{'':12}{claim['why']}" for claim in claims]
    return "\n".join(lines)


def _failed(comparison: Json) -> str:
    runs = [(arm["name"], run) for arm in comparison["arms"] for run in arm["runs"] if run["failed"] is not None]
    return "\n".join(f"left out    {name}, seed {run['seed']}: {clipped(run['failed'], 300)}" for name, run in runs)


def _spread(found: Json | None, sign: str = "") -> str:
    """`0.512 [0.480, 0.544]`, the wider of both intervals on each side, as on the page and in verdicts."""
    if found is None:
        return "–"
    mean = f"{found['mean']:{sign}.3f}"
    if found["low"] is None:
        return mean
    low, high = min(found["low"], found["t_low"]), max(found["high"], found["t_high"])
    return f"{mean} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _mean(found: Json | None, form: str = ".3f") -> str:
    return "–" if found is None else f"{found['mean']:{form}}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
