"""The stopwatch: whole seconds overlap, own seconds add up."""

from __future__ import annotations

import pytest
from clock import Stopwatch


class Work:
    def outer(self) -> int:
        return self.inner() + 1

    def inner(self) -> int:
        raise NotImplementedError


def test_own_seconds_leave_out_what_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 4.0, 10.0])  # outer starts, inner starts, inner ends, outer ends
    monkeypatch.setattr("clock.time.perf_counter", lambda: next(ticks))
    watch, work = Stopwatch(), Work()
    monkeypatch.setattr(work, "inner", lambda: 41)
    watch.around(work, "inner", lambda: f"{watch.running[0]}: inner")
    watch.around(work, "outer", lambda: "outer")
    assert work.outer() == 42
    assert dict(watch.seconds) == {"outer: inner": 3.0, "outer": 10.0}
    assert dict(watch.own) == {"outer: inner": 3.0, "outer": 7.0}


def test_a_call_that_fails_is_counted_and_leaves_no_trace() -> None:
    watch, work = Stopwatch(), Work()
    watch.around(work, "inner", lambda: "inner")
    with pytest.raises(NotImplementedError):
        work.inner()
    assert watch.running == []
    assert watch.seconds["inner"] >= 0
