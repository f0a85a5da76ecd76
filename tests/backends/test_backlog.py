"""What is asked of a pool of workers, without the workers."""

from __future__ import annotations

from scoreline.backends.cluster.backlog import Backlog, Unit
from scoreline.rollout.engine import Sampling
from scoreline.types import Completion, Request

SAMPLING = Sampling()


def asked(*places: int) -> list[Request]:
    return [Request((5,), (0, 0, place, j)) for place in places for j in range(2)]


def places(unit: Unit | None) -> list[int]:
    return [] if unit is None else [request.stream[2] for request in unit.requests[::2]]


def answer(unit: Unit, version: int) -> list[Completion]:
    return [Completion((request.stream[2],), (-1.0,), "stop", version) for request in unit.requests]


def test_what_is_asked_for_comes_before_what_is_expected() -> None:
    backlog = Backlog(2)
    backlog.expect(asked(1, 2, 3), SAMPLING)
    backlog.ask(asked(7, 8, 9), SAMPLING)
    assert [places(backlog.next()) for _ in range(5)] == [[7, 8], [9], [1, 2], [3], []]


def test_what_was_expected_is_sampled_once() -> None:
    backlog = Backlog(2)
    backlog.expect(asked(1, 2), SAMPLING)
    backlog.expect(asked(1, 2), SAMPLING)
    backlog.ask(asked(2, 3), SAMPLING)
    assert [places(backlog.next()) for _ in range(3)] == [[3], [1, 2], []]


def test_the_unit_of_a_dead_worker_is_the_next() -> None:
    backlog = Backlog(1)
    backlog.expect(asked(1, 2), SAMPLING)
    first = backlog.next()
    assert first is not None
    backlog.again(first)
    assert backlog.next() is first


def test_answers_are_taken_once_and_in_the_order_of_the_requests() -> None:
    backlog = Backlog(None)
    backlog.expect(asked(1, 2), SAMPLING)
    unit = backlog.next()
    assert unit is not None
    assert not backlog.ready(asked(1))
    backlog.answered(unit, answer(unit, 3))
    assert backlog.ready(asked(1, 2))
    assert [done.token_ids for done in backlog.take(asked(2))] == [(2,), (2,)]
    assert not backlog.ready(asked(2))
    backlog.ask(asked(2), SAMPLING)
    assert places(backlog.next()) == [2], "what was taken may be asked for again"


def test_answers_from_before_a_version_are_dropped_and_sampled_again() -> None:
    backlog = Backlog(1)
    backlog.ask(asked(1, 2), SAMPLING)
    for version in (4, 5):
        unit = backlog.next()
        assert unit is not None
        backlog.answered(unit, answer(unit, version))
    assert backlog.drop(asked(1, 2), before=4) == 0
    assert backlog.drop(asked(1, 2), before=5) == 2
    backlog.ask(asked(1, 2), SAMPLING)
    assert [places(backlog.next()) for _ in range(2)] == [[1], []]
