"""Numbers as a page writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number(value: float | None) -> str:
    """Two decimals up to 1 (an accuracy), one above; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) <= 1 else f"{value:,.1f}"


def interval(value: Any) -> str:
    """`0.41 – 0.52`; nothing for what has no interval."""
    return f"{number(value['low'])} – {number(value['high'])}" if isinstance(value, Mapping) else ""


def brief(value: float) -> str:
    """At most two decimals and none that say nothing: 1, 0.5, −0.25."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def signed(value: float) -> str:
    """Two decimals and always a sign: +0.41, −1.22."""
    return f"{value:+.2f}".replace("-", "−")
