"""Who is helped: what questions gained that were hard before training, and what easy ones did.

gain_third = mean over the third's questions of (share right after - share right before)

A question is hard when the starting model rarely answers it. For a run of seed s that is said by the first evaluations
of the *other* seeds: picked by its own few answers, the hardest questions would be those with bad luck, and gain by
good luck alone. With one seed there are no others, and that is what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scoreline.reports.history import History
from scoreline.reports.jsonl import Row

THIRDS = ("gain_hard", "gain_middle", "gain_easy")

Shares = np.ndarray[Any, np.dtype[np.float64]]


def gains(runs: Sequence[tuple[int, History]]) -> list[dict[str, float]]:
    """For each (seed, history) the gain of each third of the questions; nothing for one without a record of them."""
    before = [_shares(_evaluation(history, 0)) for _, history in runs]
    after = [_shares(_evaluation(history, -1)) for _, history in runs]
    by_seed: dict[int, Shares] = {}
    for (seed, _), shares in zip(runs, before, strict=True):
        if shares is not None:
            by_seed.setdefault(seed, shares)  # arms of one seed began with the same answers
    return [
        {} if start is None or end is None or len(start) != len(end) else _thirds(end - start, _ease(by_seed, seed))
        for (seed, _), start, end in zip(runs, before, after, strict=True)
    ]


def _ease(by_seed: Mapping[int, Shares], seed: int) -> Shares:
    """How often each question was answered before training, by the other seeds where there are any."""
    own = by_seed[seed]
    others = [shares for other, shares in by_seed.items() if other != seed and len(shares) == len(own)]
    mean: Shares = np.mean(others or [own], axis=0)
    return mean


def _thirds(gain: Shares, ease: Shares) -> dict[str, float]:
    parts = np.array_split(np.argsort(ease, kind="stable"), len(THIRDS))
    return {name: float(gain[part].mean()) for name, part in zip(THIRDS, parts, strict=True) if len(part)}


def _evaluation(history: History, which: int) -> Row:
    """The first evaluation, if it is that before training, or the last one after it."""
    rows = [row for row in history.evaluations if (row["step"] == 0) == (which == 0)]
    return rows[which] if rows else {}


def _shares(row: Row) -> Shares | None:
    """The share of right answers to each question."""
    return np.array(row["rights"], dtype=float) / row["k"] if row.get("rights") and row.get("k") else None
