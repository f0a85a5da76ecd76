"""Units: requests that are computed together."""

from __future__ import annotations

from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.rollout.units import InUnits, units
from scoreline.types import Request
from tests import parts


def asked(questions: int, answers: int) -> list[Request]:
    return [Request((5, 6 + i), (0, 0, i, j)) for i in range(questions) for j in range(answers)]


def test_answers_to_one_question_lie_together() -> None:
    requests = asked(5, 3)
    parted = units(requests, 2)
    assert [[r.stream[2:] for r in unit] for unit in parted] == [
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
        [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)],
        [(4, 0), (4, 1), (4, 2)],
    ]
    assert [r for unit in parted for r in unit] == requests


def test_without_a_number_all_are_one_unit() -> None:
    assert units(asked(3, 2), None) == [asked(3, 2)]
    assert units([], None) == units([], 4) == []


def test_a_unit_has_the_same_numbers_wherever_the_others_are_computed() -> None:
    engine, sampling = LocalEngine(parts.policy()), Sampling(max_completion_length=8)
    requests = asked(6, 2)
    whole = InUnits(engine, 2).generate(requests, sampling)
    elsewhere = [LocalEngine(parts.policy()).generate(unit, sampling) for unit in reversed(units(requests, 2))]
    assert whole == [answer for unit in reversed(elsewhere) for answer in unit]
