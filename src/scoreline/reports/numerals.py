"""Numbers as a page writes them."""

from __future__ import annotations

import math
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


def figure(value: float | None, like: float | None = None) -> str:
    """About three digits that count: 0.931, 12.4, 1,234, 2.1e−05; a dash for what is not known.

    With `like`, as many decimals as a number of that size has, so that several stand under one another: 0.790.
    """
    if value is None or not math.isfinite(value):
        return "–"
    value = value or 0.0  # never minus nothing
    size = abs(value if like is None else like)
    text = f"{value:,.{_decimals(size)}f}" if 0.01 <= size < 1e6 else f"{value:.2g}"
    short = text.rstrip("0").rstrip(".") if like is None and "." in text and "e" not in text else text
    return short.replace("-", "−")


def _decimals(size: float) -> int:
    return 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0


def signed_figure(value: float | None, like: float | None = None) -> str:
    """The same with its sign, as a difference is written: +0.12, −3.4."""
    text = figure(value, like)
    return text if value is None or not value or text.startswith(("−", "–")) else f"+{text}"


def lasting(seconds: float) -> str:
    """`35 s`, `5 min`, `2.5 h`."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
