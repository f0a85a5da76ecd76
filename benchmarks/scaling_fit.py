"""Rates of this machine from what `scaling_parts.py` measured. No run was seen.

update, n = 1    update + turn * micro-batches + learn * tokens                                        = alone
update, n = 2    alone (1 + crowd) (1 + skew) + micro-batches * (operations * (latency + hop) + bytes / 2 within)
annotate         the same with passes for turn, behind ask + send * answers' tokens
unit             unit + decode_step * iterations + decode_row * tokens + prefill * prompts
loop             control + handle * answers + carry * tokens + pad * places
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from scaling_model import Rates
from scaling_runs import blank, fitted

Row = dict[str, Any]
PARTS = Path(__file__).resolve().parents[1] / "docs/results/scaling/parts.json"
SOURCE = "measured alone: scaling_parts.py"
LEARNED = ("tiny", "wide")
"""Models whose two learners the fit sees; the others are foretold."""


@dataclass(frozen=True)
class Model:
    """Counts of a model: layers, parameters in fp32; policy and reference are annotated with."""

    layers: int
    parameters: int

    @property
    def tensors(self) -> int:
        """Nine weights a layer, the embedding and the last norm."""
        return 9 * self.layers + 2

    def operations(self, part: str) -> int:
        """Of a micro-batch: two gathers and a scatter a layer, one of each for the rest; or a gather of two models."""
        return 3 * self.layers + 2 if part == "update" else 2 * (self.layers + 1)

    def bytes(self, part: str) -> int:
        """That these move: weights twice and gradients once, or both models' weights once."""
        return 4 * self.parameters * (3 if part == "update" else 2)


def measured_parts() -> list[Row]:
    """Those that are committed."""
    rows: list[Row] = json.loads(PARTS.read_text(encoding="utf-8"))
    return rows


def of(rows: Sequence[Row], part: str, **facts: Any) -> list[Row]:
    """The rows of a part with these facts."""
    return [row for row in rows if row["part"] == part and all(row.get(name) == f for name, f in facts.items())]


def model_of(rows: Sequence[Row], name: str) -> Model:
    """From any of its rows."""
    row = of(rows, "update", model=name)[0]
    return Model(row["layers"], row["parameters"])


def fit(rows: Sequence[Row], model: str = "tiny") -> Rates:
    """All rates, of one model; what learners exchange is fitted to `LEARNED`."""
    rates = loop(rows, sampling(rows, alone(rows, model)))
    rates = replace(rates, **exchange(rows, rates))
    counts = model_of(rows, model)
    rates = replace(rates, stall=stalled(rows, model, counts, rates))
    return replace(
        rates,
        collectives=float(counts.operations("update")),
        exchange=float(counts.bytes("update")),
        gathers=float(counts.operations("annotate")),
        gathered=float(counts.bytes("annotate")),
        tensors=float(counts.tensors),
    )


def alone(rows: Sequence[Row], model: str) -> Rates:
    """What one learner takes, and a call of it."""
    parcels = [({"parcels": 1.0, "sent": float(row["sent"])}, row["seconds"]) for row in of(rows, "parcel")]
    _, send = fitted(parcels, ("parcels", "sent"))
    ask = median(row["seconds"] - send * row["sent"] for row in of(rows, "call", model=model))
    facts = [(_facts(row), row["seconds"]) for row in of(rows, "update", model=model, ranks=1)]
    update, turn, learn = fitted(facts, ("calls", "micro", "tokens"))
    facts = [
        (_facts(row), row["seconds"] - ask - send * row["sent"]) for row in of(rows, "annotate", model=model, ranks=1)
    ]
    passes, annotate = fitted(facts, ("micro", "tokens"))
    rates = replace(blank(256, SOURCE), ask=ask, send=send, update=update, turn=turn, learn=learn)
    crowd = fmean(row["beside"] / row["alone"] - 1 for row in of(rows, "crowd"))
    call = of(rows, "publish", model=model, ranks=1)[0]["seconds"]
    return replace(rates, passes=passes, annotate=annotate, crowd=crowd, call=call)


def _facts(row: Row) -> dict[str, float]:
    return {"calls": 1.0, "micro": float(row["micro"]), "tokens": float(row["tokens"])}


def computed(row: Row, rates: Rates) -> float:
    """Seconds of a part on one learner that is alone."""
    if row["part"] == "update":
        return rates.update + rates.turn * row["micro"] + rates.learn * row["tokens"]
    return rates.passes * row["micro"] + rates.annotate * row["tokens"]


def asked(row: Row, rates: Rates) -> float:
    """Seconds of the call, where they were counted with it."""
    return rates.ask + rates.send * row["sent"] if row["part"] == "annotate" else 0.0


def exchange(rows: Sequence[Row], rates: Rates) -> dict[str, float]:
    """skew, latency, hop, join and bandwidth, from two learners of several models."""
    told = []
    for name in LEARNED:
        one, counts = alone(rows, name), model_of(rows, name)
        for row in (row for part in ("update", "annotate") for row in of(rows, part, model=name, ranks=2)):
            mine = computed(row, one) * (1 + rates.crowd)
            facts = {"alone": mine, "operations": row["micro"] * counts.operations(row["part"])}
            facts["bytes"] = row["micro"] * counts.bytes(row["part"]) / 2
            told.append((facts, row["seconds"] - asked(row, one) - mine))
    skew, each, byte = fitted(told, ("alone", "operations", "bytes"))
    joined = [_joined(rows, name) for name in LEARNED]
    hop = min(each, median(joined))
    return {"skew": skew, "hop": hop, "latency": each - hop, "join": 0.0, "within": 1 / byte if byte else float("inf")}


def _joined(rows: Sequence[Row], name: str) -> float:
    """Seconds more a tensor when two learners publish."""
    one, two = (of(rows, "publish", model=name, ranks=n)[0]["seconds"] for n in (1, 2))
    return float(max(two - one, 0.0) / model_of(rows, name).tensors)


def stalled(rows: Sequence[Row], model: str, counts: Model, rates: Rates, cores: int = 2) -> float:
    """From more learners than cores: what is left when each has had its share of them."""
    told = []
    for row in (row for part in ("update", "annotate") for row in of(rows, part, model=model, ranks=cores + 1)):
        operations = row["micro"] * counts.operations(row["part"])
        moved = row["micro"] * counts.bytes(row["part"]) * cores / (cores + 1) / rates.within
        mine = computed(row, rates) * (1 + rates.crowd) * (1 + rates.skew)
        known = mine + operations * (rates.latency + cores * rates.hop) + moved
        told.append(({"operations": operations}, row["seconds"] - asked(row, rates) - known * (cores + 1) / cores))
    return fitted(told, ("operations",))[0] if told else 0.0


def sampling(rows: Sequence[Row], rates: Rates) -> Rates:
    """What a worker takes."""
    names = ("calls", "iterations", "tokens", "prompts")
    told = [
        ({"calls": 1.0, **{name: float(row[name]) for name in names[1:]}}, row["seconds"]) for row in of(rows, "unit")
    ]
    unit, step, token, prompt = fitted(told, names)
    delivery = median(row["seconds"] for row in of(rows, "delivery"))
    load = of(rows, "load")[0]["seconds"]
    return replace(rates, unit=unit + delivery, decode_step=step, decode_row=token, prefill=prompt, load=load)


def loop(rows: Sequence[Row], rates: Rates) -> Rates:
    """What the loop's own process takes; answers are taken out of the object store there too."""
    names = ("steps", "answers", "tokens", "padded")
    told = [
        ({"steps": 1.0, **{name: float(row[name]) for name in names[1:]}}, row["seconds"])
        for row in of(rows, "controller")
    ]
    control, handle, carry, pad = fitted(told, names)
    taken = [({name: float(row[name]) for name in ("answers", "tokens")}, row["seconds"]) for row in of(rows, "fetch")]
    answer, token = fitted(taken, ("answers", "tokens"))
    (score,) = fitted(
        [({"answers": float(row["answers"])}, row["scored"]) for row in of(rows, "controller")], ("answers",)
    )
    return replace(rates, control=control, handle=handle + answer, carry=carry + token, pad=pad, score=score)


def foretold(rows: Sequence[Row]) -> list[Row]:
    """Every measurement of two learners beside what the fit says of it; `seen`: whether the fit had it."""
    rates, found = fit(rows), []
    for row in (row for part in ("update", "annotate") for row in of(rows, part, ranks=2)):
        name, counts = row["model"], model_of(rows, row["model"])
        one = alone(rows, name)
        moved = row["micro"] * counts.bytes(row["part"]) / 2 / rates.within
        shared = row["micro"] * counts.operations(row["part"]) * (rates.latency + rates.hop) + moved
        said = computed(row, one) * (1 + rates.crowd) * (1 + rates.skew) + shared + asked(row, one)
        facts = {name: row[name] for name in ("model", "layers", "part", "rows", "tokens", "micro")}
        found.append({**facts, "seen": name in LEARNED, "real": row["seconds"], "said": said})
    return found
