"""Generated sums and the two habits of answering them."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments.arithmetic import ALPHABET, LEVELS, Habits, Sum, demonstrations, slip, sums, worked
from scoreline.errors import ConfigError, DataError

LEVEL = st.sampled_from(sorted(LEVELS))


def test_a_sum_by_hand() -> None:
    assert Sum((3, -8, 12)).columns == {
        "prompt": "3-8+12=",
        "answer": "7",
        "expression": "3-8+12",
        "a": 3,
        "b": -8,
        "c": 12,
    }


def test_worked_steps_by_hand() -> None:
    assert worked(Sum((3, 8, 12))) == "3+8=11;11+12=23#23"
    assert worked(Sum((3, -8, 2))) == "3-8=-5;-5+2=-3#-3"


def test_a_careless_step_is_carried_on() -> None:
    assert worked(Sum((3, 8, 12)), lambda result: result + 1) == "3+8=12;12+12=25#25"


def test_the_sizes_of_the_levels() -> None:
    assert {level: len(space) for level, space in LEVELS.items()} == {1: 100, 2: 8000, 3: 6250000, 4: 32000}


@given(LEVEL, st.data())
def test_every_index_is_another_sum_within_the_level(number: int, data: st.DataObject) -> None:
    level = LEVELS[number]
    first, second = data.draw(st.tuples(*[st.integers(0, len(level) - 1)] * 2))
    assert (first == second) == (level[first].expression == level[second].expression)
    terms = level[first].terms
    assert len(terms) == level.terms
    assert all(level.low <= abs(term) <= level.high for term in terms)
    assert sum(map(int, re.findall(r"[+-]?\d+", level[first].expression))) == sum(terms)


@pytest.mark.parametrize("level", [1, 2])
def test_all_sums_of_a_level_are_distinct(level: int) -> None:
    every = sums(level, len(LEVELS[level]), seed=0)
    assert len({question.expression for question in every}) == len(LEVELS[level])


@given(LEVEL, st.integers(1, 100), st.integers())
def test_the_seed_decides_and_prefixes_agree(level: int, size: int, seed: int) -> None:
    assert sums(level, size, seed) == sums(level, size, seed)
    assert len(set(sums(level, size, seed))) == size


def test_another_seed_gives_other_sums() -> None:
    assert sums(2, 50, seed=0) != sums(2, 50, seed=1)


def test_without_a_size_there_are_2000_or_all() -> None:
    assert len(sums(2, None, seed=0)) == 2000
    assert len(sums(1, None, seed=0)) == 100


def test_more_sums_than_exist_are_refused() -> None:
    with pytest.raises(DataError, match=r"level 1 has fewer(?s:.*)101(?s:.*)at most 100(?s:.*)data.level"):
        sums(1, 101, seed=0)


def test_the_mixture_has_its_shares() -> None:
    rows = list(demonstrations(2, 0, Habits(rows=20_000, worked=0.3, sloppy=0.1, guess_right=0.4)))
    shown = [row for row in rows if ";" in row["completion"]]
    guessed = [row for row in rows if ";" not in row["completion"]]
    assert len(rows) == 20_000
    assert len(shown) / len(rows) == pytest.approx(0.3, abs=0.02)
    assert share_right(guessed) == pytest.approx(0.4, abs=0.02)
    # Two steps, each right with 0.9; two slips that cancel are right again.
    assert share_right(shown) == pytest.approx(0.81, abs=0.03)


def share_right(rows: list[dict[str, str]]) -> float:
    return sum(row["completion"].endswith(f"#{row['answer']}") for row in rows) / len(rows)


@given(LEVEL, st.integers(0, 1000))
def test_demonstrations_have_one_form_and_a_small_alphabet(level: int, seed: int) -> None:
    for row in demonstrations(level, seed, Habits(rows=20, worked=0.5)):
        assert set(row["prompt"] + row["completion"]) <= set(ALPHABET)
        assert re.fullmatch(r"(-?\d+[+-]\d+=-?\d+(;-?\d+[+-]\d+=-?\d+)*)?#-?\d+", row["completion"])
        if level != 4:
            assert "-" not in row["completion"]


def test_demonstrations_are_a_function_of_the_seed() -> None:
    habits = Habits(rows=30)
    assert list(demonstrations(2, 3, habits)) == list(demonstrations(2, 3, habits))
    assert list(demonstrations(2, 3, habits)) != list(demonstrations(2, 4, habits))


def test_demonstrations_avoid_what_is_held_out() -> None:
    avoid = {question.expression for question in sums(1, 90, seed=0)}
    shown = {row["expression"] for row in demonstrations(1, 0, Habits(rows=500), avoid)}
    assert shown
    assert not shown & avoid
    with pytest.raises(DataError, match="All 100 questions"):
        list(demonstrations(1, 0, Habits(rows=1), {question.expression for question in sums(1, 100, seed=0)}))


@given(st.integers(-100, 100), st.integers())
def test_a_slip_is_wrong_near_and_of_the_same_sign(value: int, seed: int) -> None:
    slipped = slip(value, random.Random(seed))
    assert slipped != value
    assert abs(slipped - value) <= 10
    assert (slipped < 0) == (value < 0)


def test_habits_are_shares() -> None:
    with pytest.raises(ConfigError, match=r"data.habits.worked is a share(?s:.*)1.5"):
        Habits(worked=1.5)
    with pytest.raises(ConfigError, match=r"data.habits.rows"):
        Habits(rows=0)
