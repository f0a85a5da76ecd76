"""What reward functions returned: a number or None for each answer or step, or an error that names function and row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scoreline.environments.functions import RewardCall, returned
from scoreline.environments.worker import Outcome
from scoreline.errors import RewardError
from scoreline.types import Prompt


def validated(call: RewardCall, outcome: Outcome, prompts: Sequence[Prompt]) -> list[float | None]:
    """The function's values, one finite number or None for each prompt; or an error that names function and row."""
    values = _one_each(call, outcome, prompts, "value")
    for row, value in enumerate(values):
        _check_number(call, value, f"row {row} (prompt {prompts[row].id!r})")
    return list(values)


def validated_steps(
    call: RewardCall, outcome: Outcome, prompts: Sequence[Prompt], steps: Sequence[Sequence[str]]
) -> list[tuple[float | None, ...]]:
    """The function's values, one finite number or None for each step; or an error that names function, row and step."""
    rows = _one_each(call, outcome, prompts, "list")
    for row, values in enumerate(rows):
        where = f"row {row} (prompt {prompts[row].id!r})"
        if isinstance(values, str) or len(values) != len(steps[row]):
            raise RewardError(
                f"The {call.role.noun} {call.name!r} must return one value for each step, and did not for {where}.",
                got=values if isinstance(values, str) else f"{len(values)} values for {len(steps[row])} steps",
                accepted="a list with a number or None for each step",
            )
        for place, value in enumerate(values):
            _check_number(call, value, f"step {place} of {where}")
    return [tuple(values) for values in rows]


def _one_each(call: RewardCall, outcome: Outcome, prompts: Sequence[Prompt], item: str) -> list[Any]:
    values = returned(call, outcome)
    if isinstance(values, str) or len(values) != len(prompts):
        raise RewardError(
            f"The {call.role.noun} {call.name!r} must return a list with one {item} for each completion.",
            got=values if isinstance(values, str) else f"{len(values)} {item}s for {len(prompts)} completions",
        )
    return values


def _check_number(call: RewardCall, value: float | str | None, where: str) -> None:
    if value is not None and (isinstance(value, str) or not math.isfinite(value)):
        raise RewardError(
            f"The {call.role.noun} {call.name!r} returned no number for {where}.",
            got=value,
            accepted="a finite number, True or False, or None for not applicable",
        )
