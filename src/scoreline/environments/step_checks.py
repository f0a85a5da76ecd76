"""Built-in checkers of steps: is what a step reckons right?

A step reward function takes keyword arguments `prompts`, `steps` (a list of texts for each answer) and one list for
each data column; it returns a number or None (not applicable) for each step. Right is 1.0, wrong is 0.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from scoreline.environments.equations import Side, agree, equations
from scoreline.errors import RewardError

StepFunction = Callable[..., Any]
"""`f(prompts, steps, **columns) -> list[list[float | None]]`, sync or async."""

ANNOTATION = re.compile(r"<<([^<>]*)>>")
"""GSM8K's calculator: `48/2 = <<48/2=24>>24`. The expression and its result stand between the brackets."""


def arithmetic_steps(steps: Sequence[Sequence[str]], missing: float | None = None) -> list[list[float | None]]:
    """1 if every equation `a op b ... = c` written in the step holds, 0 if one does not; `missing` without any.

    Whether the numbers are those of the question, or of the step before, is not asked. `#23` is no equation.
    """
    return [[_verdict([agree(*pair) for pair in equations(without(step))], missing) for step in row] for row in steps]


def calculator_steps(
    steps: Sequence[Sequence[str]],
    solution: Sequence[Any] | None = None,
    results: str = "own",
    missing: float | None = None,
) -> list[list[float | None]]:
    """1 if every annotation `<<48/2=24>>` of the step holds, 0 if one does not; `missing` without any.

    `results="reference"`: each result must also stand among the results of the annotations in the column `solution`.
    A row whose `solution` is None is then not applicable.
    """
    if results not in ("own", "reference"):
        raise RewardError("calculator_steps does not know these results.", got=results, accepted="own, reference")
    if results == "own":
        return [[_verdict([_holds(one) for one in found(step)], missing) for step in row] for row in steps]
    if solution is None:
        raise RewardError(
            "calculator_steps compares with the column `solution`, and the data has none.",
            todo='load GSM8K with gsm8k:FOLDER, rename a column with data.columns, or set results = "own"',
        )
    return [_referred(row, reference, missing) for row, reference in zip(steps, solution, strict=True)]


def _referred(row: Sequence[str], reference: Any, missing: float | None) -> list[float | None]:
    """The verdicts of an answer whose results must be the reference's too."""
    if reference is None:
        return [None] * len(row)
    known = {result(one) for one in found(str(reference))} - {None}
    return [_verdict([_holds(one) and result(one) in known for one in found(step)], missing) for step in row]


def _verdict(holds: Sequence[bool], missing: float | None) -> float | None:
    return float(all(holds)) if holds else missing


def found(step: str) -> list[str]:
    """What stands in each calculator annotation."""
    return ANNOTATION.findall(step)


def without(step: str) -> str:
    """The text without its calculator annotations: `48/2 = <<48/2=24>>24` reads 48/2 = 24."""
    return ANNOTATION.sub("", step)


def _holds(annotation: str) -> bool:
    """All its sides are equal. One that cannot be read does not hold."""
    sides = [Side.of(written.removeprefix("+")) for written in annotation.split("=")]
    known = [side for side in sides if side is not None]
    return len(known) == len(sides) > 1 and all(agree(a, b) for a, b in pairwise(known))


def result(annotation: str) -> Fraction | None:
    """The value behind the last `=`."""
    side = Side.of(annotation.rpartition("=")[2])
    return None if side is None else side.value()


STEP_BUILTINS: Mapping[str, StepFunction] = {
    function.__name__: function for function in (arithmetic_steps, calculator_steps)
}
