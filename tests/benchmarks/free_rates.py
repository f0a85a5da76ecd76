"""Rates where nothing takes time but what a test names."""

from __future__ import annotations

from typing import Any

from scaling_model import Rates

NOTHING: dict[str, Any] = {name: 0.0 for name in Rates.__dataclass_fields__ if name != "sources"}
ENDLESS = {name: float("inf") for name in ("micro", "within", "between", "mtbf")}


def rates(**told: float) -> Rates:
    """`rates(learn=0.1)`: everything else is free."""
    values = NOTHING | ENDLESS | {"rows": 256, "node": 8, "least": 1} | told
    return Rates(**values, sources=dict.fromkeys(NOTHING, "a test"))
