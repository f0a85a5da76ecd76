"""Generated sums at four levels, and demonstrations of two habits of answering them.

A question is `3+8+12=`. An answer ends in `#` and a number: a guess is `#23`, worked steps are `3+8=11;11+12=23#23`.
Everything is a function of the seed.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from scoreline.errors import ConfigError, DataError

ALPHABET = "0123456789+-=;#"
"""Every character of questions and demonstrations."""

DEFAULT_SIZE = 2000

SLIPS = (-10, -2, -1, 1, 2, 10)
"""What a careless answer is off by: a slip in one digit."""


@dataclass(frozen=True)
class Sum:
    """`Sum((3, -8, 12))` is the question 3-8+12: terms with their signs, the first of them positive."""

    terms: tuple[int, ...]

    @property
    def expression(self) -> str:
        return str(self.terms[0]) + "".join(f"{term:+d}" for term in self.terms[1:])

    @property
    def columns(self) -> dict[str, Any]:
        """`prompt`, `answer` (text), `expression`, and the terms as `a`, `b`, ... for templates."""
        letters = dict(zip(string.ascii_lowercase, self.terms, strict=False))
        return {
            "prompt": f"{self.expression}=",
            "answer": str(sum(self.terms)),
            "expression": self.expression,
            **letters,
        }


@dataclass(frozen=True)
class Level:
    """All sums of `terms` numbers from `low` to `high`, each but the first with one of `signs`."""

    terms: int
    low: int
    high: int
    signs: tuple[int, ...] = (1,)

    @property
    def values(self) -> int:
        return self.high - self.low + 1

    def __len__(self) -> int:
        signed: int = (len(self.signs) * self.values) ** (self.terms - 1)
        return self.values * signed

    def __getitem__(self, index: int) -> Sum:
        """The sum with this number: `index` written with one digit for each term and each sign."""
        terms = []
        for place in range(self.terms):
            index, offset = divmod(index, self.values)
            index, sign = divmod(index, len(self.signs)) if place else (index, 0)
            terms.append((self.low + offset) * (self.signs[sign] if place else 1))
        return Sum(tuple(terms))


LEVELS = {
    1: Level(terms=2, low=0, high=9),
    2: Level(terms=3, low=1, high=20),
    3: Level(terms=4, low=1, high=50),
    4: Level(terms=3, low=1, high=20, signs=(1, -1)),
}


@dataclass(frozen=True)
class Habits:
    """The mixture of habits in the demonstrations. Most guess at once; some work step by step and are mostly right."""

    rows: int = 20_000
    """Demonstrations in all."""
    worked: float = 0.25
    """Share that shows the work."""
    sloppy: float = 0.02
    """Share of worked steps whose result has a slip; the steps after it go on from the wrong number."""
    guess_right: float = 0.3
    """Share of guesses that are right; the others forget the carry, or are a slip away where there is none."""

    def __post_init__(self) -> None:
        for name in ("worked", "sloppy", "guess_right"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"data.habits.{name} is a share.", got=getattr(self, name), accepted="0 to 1")
        if self.rows < 1:
            raise ConfigError("data.habits.rows is a number of rows.", got=self.rows, accepted="at least 1")


def sums(level: int, size: int | None, seed: int) -> list[Sum]:
    """`size` distinct sums of a level in random order; without a size 2,000, or all when there are fewer."""
    space = LEVELS[level]
    count = min(DEFAULT_SIZE, len(space)) if size is None else size
    if count > len(space):
        raise DataError(
            f"Arithmetic level {level} has fewer distinct questions than data.size asks for.",
            got=count,
            accepted=f"at most {len(space)}",
            todo="lower data.size or raise data.level",
        )
    return [space[index] for index in random.Random(f"sums/{seed}").sample(range(len(space)), count)]


def demonstrations(level: int, seed: int, habits: Habits, avoid: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """Rows of a sum's columns and its `completion`. Sums are drawn with repetition; expressions in `avoid` never."""
    rng = random.Random(f"demonstrations/{seed}")
    space, made = LEVELS[level], 0
    if len(set(avoid)) >= len(space):
        raise DataError(
            f"All {len(space)} questions of arithmetic level {level} are held out.", todo="lower data.held_out"
        )
    while made < habits.rows:
        question = space[rng.randrange(len(space))]
        if question.expression not in avoid:
            yield {**question.columns, "completion": _answer(question, habits, rng)}
            made += 1


def _answer(question: Sum, habits: Habits, rng: random.Random) -> str:
    if rng.random() < habits.worked:
        return worked(question, lambda value: slip(value, rng) if rng.random() < habits.sloppy else value)
    value = sum(question.terms)
    if rng.random() < habits.guess_right:
        return f"#{value}"
    forgot = without_carry(question)
    return f"#{forgot if forgot != value else slip(value, rng)}"


def without_carry(question: Sum) -> int:
    """The sum with the carry of the units forgotten: 17+15 is 22."""
    units = sum((1 if term >= 0 else -1) * (abs(term) % 10) for term in question.terms)
    return sum(question.terms) - (units - units % 10)


def worked(question: Sum, reckon: Callable[[int], int] = int) -> str:
    """`3+8=11;11+12=23#23`. `reckon` maps a true result to the one that is written, and carried on."""
    total, *rest = question.terms
    steps = []
    for term in rest:
        result = reckon(total + term)
        steps.append(f"{total}{term:+d}={result}")
        total = result
    return f"{';'.join(steps)}#{total}"


def slip(value: int, rng: random.Random) -> int:
    """A wrong number near `value`, of the same sign."""
    return value + rng.choice([by for by in SLIPS if (value + by < 0) == (value < 0)])
