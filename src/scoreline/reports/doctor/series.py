"""A number over the steps of a run, with a beginning and an end that one odd step cannot move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True)
class Series:
    """The steps at which a metric was a number, and the numbers.

    The beginning and the end are windows of a tenth of the run, at least 3 steps and at most half of it; `centre` says
    what stands for a window.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    centre: Callable[[Sequence[float]], float] = median

    def __len__(self) -> int:
        return len(self.values)

    @property
    def window(self) -> int:
        """Steps of the beginning and of the end."""
        return max(1, min(len(self) // 2, max(3, len(self) // 10)))

    @property
    def first(self) -> float:
        """The centre of the beginning."""
        return self.centre(self.values[: self.window])

    @property
    def last(self) -> float:
        """The centre of the end."""
        return self.centre(self.values[-self.window :])

    @property
    def ending(self) -> tuple[int, ...]:
        """The steps of the end."""
        return self.steps[-self.window :]

    @property
    def change(self) -> float:
        """From the beginning to the end."""
        return self.last - self.first

    def highest(self) -> tuple[float, int]:
        """The highest centre of any window, and the step at which that window ends."""
        ends = range(self.window, len(self) + 1)
        return max((self.centre(self.values[end - self.window : end]), self.steps[end - 1]) for end in ends)

    def where(self, wanted: Callable[[float], bool]) -> tuple[int, ...]:
        """The steps at which the value is as wanted."""
        return tuple(step for step, value in zip(self.steps, self.values, strict=True) if wanted(value))

    def since(self, step: int) -> Series:
        """What came after a step."""
        pairs = [(s, v) for s, v in zip(self.steps, self.values, strict=True) if s > step]
        return Series(tuple(s for s, _ in pairs), tuple(v for _, v in pairs), self.centre)


def span(steps: Sequence[int]) -> str:
    """`step 7`, `steps 4 to 9`, `steps 1, 3, 8 and 12 more`."""
    if len(steps) < 2:
        return "".join(f"step {step}" for step in steps)
    if all(after - before == 1 for before, after in pairwise(steps)):
        return f"steps {steps[0]} to {steps[-1]}"
    named, rest = ", ".join(map(str, steps[:6])), len(steps) - 6
    return f"steps {named}" + (f" and {rest} more" if rest > 0 else "")
