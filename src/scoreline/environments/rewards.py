"""Answers to rewards: several functions, their weights, and what goes wrong with them before it costs a step.

total_i = sum_f weight_f part_f,i        over the functions whose part is a number; None when there is none
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from scoreline.environments.functions import Child, RewardCall
from scoreline.environments.resolve import distinct, name_of, resolve
from scoreline.environments.verify import BUILTINS, RewardFunction
from scoreline.environments.worker import HOOKS, Outcome, Signature
from scoreline.errors import ConfigError, RewardError, suggest
from scoreline.types import Prompt, Reward

GIVEN = ("prompts", "completions", "completion_ids", *HOOKS)
"""What every function may ask for besides the data's columns and its own options."""


@dataclass(frozen=True)
class RewardSpec:
    """One reward function. `RewardSpec("rewards.py:polite", weight=0.2)`."""

    function: str | Callable[..., Any]
    """A built-in name, "package.module.function", "file.py:function", a callable, or a reward model's folder."""
    weight: float = 1.0
    timeout_s: float = 30.0
    """Seconds for one call, which scores all answers of a step. A function that can be imported is killed then."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments, such as {"pattern": "^#\\\\d+$"} for format_match."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ConfigError("A reward's weight must be finite.", got=self.weight)
        if not self.timeout_s > 0:
            raise ConfigError("A reward's timeout_s must be above 0 seconds.", got=self.timeout_s)


class Scorer:
    """Scores answers. A context manager: it owns the processes of the reward functions.

    `judges` are functions that run here, by the name that a spec gives as its function: reward models. The state of a
    function that can be imported lives in its own process, not here; of a lambda, a closure or a notebook's function it
    lives here, and such a one cannot be killed. `logged` and `extra` hold what the functions gave to log_metric and
    log_extra in the last call of `score`.
    """

    def __init__(self, specs: Sequence[RewardSpec], *, judges: Mapping[str, RewardFunction] | None = None) -> None:
        if not specs:
            raise ConfigError(
                "There is no reward.", accepted="at least one [[reward]]", todo=f"built in: {', '.join(BUILTINS)}"
            )
        self.logged: dict[str, float] = {}
        self.extra: dict[str, list[Any]] = {}
        names = distinct([name_of(spec.function) for spec in specs])
        calls = [resolve(name, spec.function, judges or {}) for name, spec in zip(names, specs, strict=True)]
        self._rewards = list(zip(specs, calls, strict=True))

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of `Reward.parts`, in the order of the specs."""
        return tuple(call.name for _, call in self._rewards)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Before the first step: every function can be imported, and gets all that it asks for."""
        for spec, call in self._rewards:
            signature = call.signature()
            _check_options(call.name, signature, spec.options)
            _check_columns(call.name, signature, spec.options, prompts)
            if isinstance(call, Child):
                call.encode(signature.pick({**_columns(prompts), **spec.options}))

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], completion_ids: Sequence[Sequence[int]]
    ) -> list[Reward]:
        """One reward for each completion; `prompts[i]` is what `completions[i]` answers."""
        if not completions:
            return []
        self.logged, self.extra = {}, {}
        arguments = {
            **_columns(prompts),
            **_texts(prompts, completions),
            "completion_ids": list(map(list, completion_ids)),
        }
        parts = {call.name: self._part(spec, call, arguments, prompts) for spec, call in self._rewards}
        weights = {call.name: spec.weight for spec, call in self._rewards}
        rows = ({name: values[row] for name, values in parts.items()} for row in range(len(prompts)))
        return [Reward(total(row, weights), row) for row in rows]

    def _part(
        self, spec: RewardSpec, call: RewardCall, arguments: Mapping[str, Any], prompts: Sequence[Prompt]
    ) -> list[float | None]:
        outcome = call.call({**arguments, **spec.options}, spec.timeout_s)
        values = validated(call.name, outcome, prompts)
        self.logged |= outcome["metrics"]
        self.extra |= outcome["extra"]
        return values

    def close(self) -> None:
        """End the processes. A later call starts them again."""
        for _, call in self._rewards:
            call.close()


def total(parts: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """sum_f weight_f part_f over the parts that are numbers; None when none is."""
    scored = [weights[name] * part for name, part in parts.items() if part is not None]
    return sum(scored) if scored else None


def validated(name: str, outcome: Outcome, prompts: Sequence[Prompt]) -> list[float | None]:
    """The function's values, one finite number or None for each prompt; or an error that names function and row."""
    if "error" in outcome:
        got = "\n            ".join([outcome["error"], *outcome["where"]])
        raise RewardError(f"The reward function {name!r} raised an error.", got=got, todo="correct the function")
    values = outcome["rewards"]
    if isinstance(values, str) or len(values) != len(prompts):
        raise RewardError(
            f"The reward function {name!r} must return a list with one value for each completion.",
            got=values if isinstance(values, str) else f"{len(values)} values for {len(prompts)} completions",
        )
    for row, value in enumerate(values):
        if value is not None and (isinstance(value, str) or not math.isfinite(value)):
            raise RewardError(
                f"The reward function {name!r} returned no number for row {row} (prompt {prompts[row].id!r}).",
                got=value,
                accepted="a finite number, True or False, or None for not applicable",
            )
    return list(values)


def _columns(prompts: Sequence[Prompt]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for prompt in prompts for name in prompt.columns)
    return {name: [prompt.columns.get(name) for prompt in prompts] for name in names}


def _texts(prompts: Sequence[Prompt], completions: Sequence[str]) -> dict[str, list[Any]]:
    """TRL's form: texts for text prompts, lists of messages for message prompts."""
    pairs = list(zip(prompts, completions, strict=True))
    return {
        "prompts": [p.content if isinstance(p.content, str) else [dict(turn) for turn in p.content] for p in prompts],
        "completions": [
            text if isinstance(prompt.content, str) else [{"role": "assistant", "content": text}]
            for prompt, text in pairs
        ],
    }


def _check_options(name: str, signature: Signature, options: Mapping[str, Any]) -> None:
    for option in options:
        if not signature.accepts(option):
            known = [known for known in (*signature.required, *signature.optional) if known not in GIVEN]
            raise RewardError(
                f"The reward function {name!r} has no option {option!r}.",
                accepted=", ".join(known) or "no options",
                todo=suggest(option, known) if known else "remove it",
            )


def _check_columns(name: str, signature: Signature, options: Mapping[str, Any], prompts: Sequence[Prompt]) -> None:
    for column in signature.required:
        lacking = next((prompt for prompt in prompts if column not in prompt.columns), None)
        if lacking is not None and column not in options and column not in GIVEN:
            raise RewardError(
                f"The reward function {name!r} wants {column!r}, and prompt {lacking.id!r} has no such column.",
                accepted=f"the prompt's columns: {', '.join(lacking.columns) or 'none'}",
                todo=f'add the column, rename one with data.columns = {{old = "{column}"}}, or set it in the options',
            )
