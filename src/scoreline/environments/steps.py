"""What a step of an answer is, and where each one ends in its text.

text = step_1 step_2 ... step_K [rest]        each step with what ends it, and none of them blank
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from scoreline.environments.functions import SPLITTER, Child, RewardCall, returned
from scoreline.environments.resolve import name_of, resolve
from scoreline.errors import ConfigError, RewardError

AT = {
    "line": "nothing: a step ends at a line break",
    "pattern": "the regular expression whose match ends a step",
    "marker": "the text or token that ends a step",
    "function": '"file.py:function", "package.module.function" or a callable',
}

NOWHERE = "\0\0\0"
"""A text that no pattern is about: one that matches the empty text inside of it matches that everywhere."""


@dataclass(frozen=True)
class Splitter:
    r"""Cuts answers into steps. `Splitter("pattern", at=r";|(?=#)")` cuts `3+8=11;11+12=23#23` into three.

    A blank piece is no step of its own: it belongs to the step before it, or to the first one.
    """

    by: Literal["line", "pattern", "marker", "function"] = "line"
    at: str | Callable[..., Any] | None = None
    """The regular expression whose match ends a step; the marker, a text or a token of the vocabulary; or the function
    `f(completions) -> list[list[int]]`: the places just behind each step, in characters."""
    tail: bool = True
    """Whether the text behind the last such place is a step of its own, if it is not blank."""
    none: Literal["outcome", "error"] = "outcome"
    """An answer without a step has its outcome reward only, and a warning says how many there are; or stops the run."""
    timeout_s: float = 30.0
    """Seconds for cutting the answers of one step of training by a pattern or a function, which are killed then."""

    def __post_init__(self) -> None:
        text = isinstance(self.at, str)
        fits = {"line": self.at is None, "pattern": text, "marker": text and self.at != "", "function": bool(self.at)}
        if not fits[self.by]:
            raise ConfigError(f"Steps by {self.by} need another `at`.", got=f"at={self.at!r}", accepted=AT[self.by])
        if not self.timeout_s > 0:
            raise ConfigError("A splitter's timeout_s must be above 0 seconds.", got=self.timeout_s)
        if self.by == "pattern":
            _check_pattern(str(self.at))

    def ends(self, text: str) -> list[int]:
        """The places just behind each step, in characters. Not by a function: those are called by `Cutter`."""
        return joined(text, cuts([text], self.pattern)[0], tail=self.tail)

    @property
    def pattern(self) -> str:
        """The regular expression whose match ends a step."""
        if self.by == "function":
            raise ConfigError("Steps by function have no pattern.", got=self.at, todo="cut the texts with a Cutter")
        return {"line": "\n", "pattern": str(self.at), "marker": re.escape(str(self.at))}[self.by]


def _check_pattern(pattern: str) -> None:
    try:
        found = [match.span() for match in re.finditer(pattern, NOWHERE)]
    except re.error as error:
        raise RewardError(
            f"The pattern that ends steps is no regular expression: {error}", got=pattern, accepted=r"such as '\n\n|;'"
        ) from None
    if any(start == end and 0 < end < len(NOWHERE) for start, end in found):
        raise RewardError(
            "The pattern that ends steps matches the empty text, so that every character would be a step.",
            got=pattern,
            accepted=r"a pattern that matches something, such as '\n\n|;', or looks for it, such as '(?=#)'",
        )


def cuts(completions: Sequence[str], pattern: str) -> list[list[int]]:
    """The places just behind each match."""
    expression = re.compile(pattern)
    return [[match.end() for match in expression.finditer(text)] for text in completions]


def joined(text: str, places: Sequence[int], *, tail: bool) -> list[int]:
    """The places that end a step when the text is cut at all of them: blank pieces join the step before."""
    ends: list[int] = []
    for start, end in pairwise((0, *places)):
        if text[start:end].strip():
            ends.append(end)
        elif ends:
            ends[-1] = end
    rest = text[places[-1] if places else 0 :]
    if rest.strip():
        return [*ends, len(text)] if tail else ends
    return [*ends[:-1], len(text)] if ends else []


class Cutter:
    """Cuts texts as a splitter says. It owns the process of a pattern or function, whose time nothing else bounds."""

    def __init__(self, splitter: Splitter) -> None:
        self.splitter = splitter
        self._call = _call(splitter)

    def check(self) -> None:
        """Before the first step: the function can be imported, and takes completions."""
        if self._call is not None and not self._call.signature().accepts("completions"):
            raise RewardError(
                f"The step splitter {self._call.name!r} takes no completions.",
                accepted="f(completions) -> a list of places for each completion, in characters",
            )

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """The places just behind each step of each text, in characters."""
        if self._call is None or not texts:
            return [self.splitter.ends(text) for text in texts]
        given = {"completions": list(texts)} | ({"pattern": self.splitter.at} if self.splitter.by == "pattern" else {})
        rows = checked(self._call, self._call.call(given, self.splitter.timeout_s), texts)
        return [joined(text, row, tail=self.splitter.tail) for text, row in zip(texts, rows, strict=True)]

    def close(self) -> None:
        """End the process. A later call starts it again."""
        if self._call is not None:
            self._call.close()


def _call(splitter: Splitter) -> RewardCall | None:
    if splitter.by == "pattern":
        return Child(str(splitter.at), f"{__name__}:{cuts.__name__}", SPLITTER)
    if splitter.by == "function" and splitter.at is not None:
        return resolve(name_of(splitter.at), splitter.at, {}, SPLITTER)
    return None


def checked(call: RewardCall, outcome: dict[str, Any], texts: Sequence[str]) -> list[list[int]]:
    """The splitter's places, rising and inside each text; or an error that names the splitter and the row."""
    rows = returned(call, outcome)
    if isinstance(rows, str) or len(rows) != len(texts):
        raise RewardError(
            f"The {call.role.noun} {call.name!r} must return a list with one list for each completion.",
            got=rows if isinstance(rows, str) else f"{len(rows)} lists for {len(texts)} completions",
        )
    for row, (places, text) in enumerate(zip(rows, texts, strict=True)):
        wrong = _wrong(places, len(text))
        if wrong:
            raise RewardError(
                f"The {call.role.noun} {call.name!r} returned {wrong} for row {row}.",
                got=places if isinstance(places, str) else list(map(_shown, places)),
                accepted=f"whole numbers from 0 to {len(text)}, the length of the text, none below the one before it",
            )
    return [[int(place) for place in places] for places in rows]


def _shown(place: Any) -> Any:
    return int(place) if isinstance(place, float) and place.is_integer() else place


def _wrong(places: Any, length: int) -> str:
    if isinstance(places, str):
        return "no list"
    if any(place is None or isinstance(place, str) or place % 1 for place in places):  # nan % 1 is nan, and true
        return "no whole numbers"
    if any(not 0 <= place <= length for place in places):
        return "places outside of the text"
    return "places out of order" if any(a > b for a, b in pairwise(places)) else ""
