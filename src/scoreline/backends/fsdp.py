"""TEMPORARY until merged."""

from __future__ import annotations

from datetime import timedelta

from scoreline.train.ranks import Alone, Ranks


def join(rank: int, world: int, meeting: str, timeout: timedelta) -> Ranks:
    """Temporary."""
    return Alone()
