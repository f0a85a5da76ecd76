"""Rates from parts: measurements that follow a known law give it back; the committed ones explain themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scaling
from scaling_fit import fit, foretold, measured_parts

LAW = {"update": 0.01, "turn": 0.02, "learn": 1e-4, "passes": 0.01, "annotate": 5e-5, "latency": 1e-3, "hop": 2e-3}
SKEW, CROWD, ASK, SEND, BYTES = 0.2, 0.1, 0.005, 1e-6, 1e9
SIZES = ((8, 100, 1), (32, 400, 1), (32, 400, 4), (128, 1600, 1), (64, 900, 8))


def learners(model: str, layers: int, ranks: int) -> list[dict[str, Any]]:
    """Updates, passes, calls and published weights by the law."""
    facts = {"model": model, "layers": layers, "ranks": ranks, "parameters": 1000 * layers}
    rows: list[dict[str, Any]] = [
        {"part": "publish", **facts, "seconds": 0.004 + (9 * layers + 2) * 2e-3 * (ranks - 1)}
    ]
    for answers, tokens, micro in SIZES:
        told = {**facts, "rows": answers, "tokens": tokens, "micro": micro, "sent": tokens // 2}
        slower = (1 + SKEW) * (1 + CROWD) if ranks > 1 else 1.0
        own = {"update": LAW["update"] + LAW["turn"] * micro + LAW["learn"] * tokens}
        own["annotate"] = LAW["passes"] * micro + LAW["annotate"] * tokens
        counts = {"update": (3 * layers + 2, 12), "annotate": (2 * layers + 2, 8)}
        call = ASK + SEND * told["sent"]
        rows.append({"part": "call", **told, "seconds": call})
        for part, (operations, byte) in counts.items():
            moved = byte * facts["parameters"] / 2 / BYTES
            shared = (ranks - 1) * micro * (operations * (LAW["latency"] + LAW["hop"]) + moved)
            rows.append(
                {"part": part, **told, "seconds": own[part] * slower + shared + (call if part == "annotate" else 0)}
            )
    return rows


def lawful() -> list[dict[str, Any]]:
    """All parts."""
    rows = [
        row
        for name, n in (("tiny", 4), ("wide", 6), ("deep", 9))
        for ranks in (1, 2)
        for row in learners(name, n, ranks)
    ]
    rows += [{"part": "crowd", "alone": 1.0, "beside": 1 + CROWD}, {"part": "load", "seconds": 0.003}]
    for n, (answers, tokens, _) in enumerate(SIZES):
        table = {"answers": answers, "tokens": tokens, "padded": (n + 2) * tokens}
        seconds = 0.001 + 2e-5 * answers + 3e-7 * tokens + 4e-7 * table["padded"]
        rows.append({"part": "controller", **table, "seconds": seconds, "scored": 1e-5 * answers})
        rows.append({"part": "fetch", **table, "seconds": 1e-6 * answers + 1e-7 * tokens})
        rows.append({"part": "parcel", "sent": tokens, "seconds": 0.01 + SEND * tokens})
        unit = {"iterations": 4 + n**2, "tokens": tokens, "prompts": answers}
        rows.append(
            {"part": "unit", **unit, "seconds": 0.002 + 1e-3 * unit["iterations"] + 3e-5 * tokens + 6e-6 * answers}
        )
        rows.append({"part": "delivery", **unit, "seconds": 0.004})
    return rows


def test_the_law_comes_back() -> None:
    found = fit(lawful())
    assert {name: getattr(found, name) for name in LAW} == pytest.approx(LAW, rel=0.02)
    assert (found.skew, found.crowd, found.ask, found.send) == pytest.approx((SKEW, CROWD, ASK, SEND), rel=0.02)
    assert (found.unit, found.decode_step, found.decode_row) == pytest.approx((0.006, 1e-3, 3e-5), rel=0.02)
    assert (found.control, found.handle, found.carry, found.pad) == pytest.approx((0.001, 2.1e-5, 4e-7, 4e-7), rel=0.02)
    assert (found.collectives, found.gathers, found.tensors) == (14, 10, 38)
    assert (found.call, found.load, found.score) == pytest.approx((0.004, 0.003, 1e-5))


def test_a_model_that_was_not_fitted_is_foretold() -> None:
    deep = [row for row in foretold(lawful()) if not row["seen"]]
    assert len(deep) == 2 * len(SIZES)
    assert [row["said"] for row in deep] == pytest.approx([row["real"] for row in deep], rel=0.02)


def test_more_learners_than_cores_stall() -> None:
    three = [dict(row) for row in learners("tiny", 4, 2) if row["part"] in ("update", "annotate")]
    known = {(row["part"], row["tokens"], row["micro"]): row["seconds"] for row in three}
    for row in three:
        row |= {"ranks": 3, "seconds": 2 * known[row["part"], row["tokens"], row["micro"]]}
    assert fit(lawful()).stall == 0
    assert fit([*lawful(), *three]).stall > 0


def test_the_committed_parts_foretell_most_of_what_was_not_fitted() -> None:
    off = sorted(abs(row["said"] / row["real"] - 1) for row in foretold(measured_parts()) if not row["seen"])
    assert len(off) == 16
    assert off[len(off) // 2] < 0.2


def test_the_command_takes_rates_from_parts(tmp_path: Path) -> None:
    (tmp_path / "parts.json").write_text(json.dumps(lawful()), encoding="utf-8")
    scaling.main(["--fit", str(tmp_path / "parts.json"), "--rates", str(tmp_path / "cpu.json")])
    told = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    assert told["learn"]["value"] == pytest.approx(1e-4, rel=0.02)
    assert told["learn"]["source"].startswith("measured alone")
