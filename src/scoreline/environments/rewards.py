"""Answers and steps to rewards: several functions, their weights, and what goes wrong before it costs a step.

total_i  = sum_f (weight_f part_f,i + offset_f)     over the functions whose part is a number; None when there is none
step_i,j = sum_f (weight_f part_f,i,j + offset_f)   the same for each step j of answer i
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, TypeVar

from scoreline.environments.functions import REWARD, STEP_REWARD, Child, RewardCall, Role
from scoreline.environments.resolve import distinct, name_of, resolve
from scoreline.environments.step_checks import STEP_BUILTINS
from scoreline.environments.validity import validated, validated_steps
from scoreline.environments.verify import BUILTINS, RewardFunction
from scoreline.environments.worker import HOOKS, Outcome, Signature
from scoreline.errors import ConfigError, RewardError, suggest
from scoreline.types import Prompt, Reward

T = TypeVar("T")

GIVEN = ("prompts", "completions", "completion_ids", *HOOKS)
"""What every function may ask for besides the data's columns and its own options; one of steps also for `steps`."""
LARGEST = 1e30
"""A reward: groups of such are added up in fp32, which ends at 3.4e38."""


@dataclass(frozen=True)
class RewardSpec:
    """One reward function: weight r + offset. `RewardSpec("rewards.py:polite", weight=0.2)`.

    Weight 30 and offset 60 make marks out of 100 of right and wrong: 90 and 60. What is measured of one function, in
    `Reward.parts` and in the metrics, stays r.
    """

    function: str | Callable[..., Any]
    """A built-in name, "package.module.function", "file.py:function", a callable, or a reward model's folder."""
    weight: float = 1.0
    timeout_s: float = 30.0
    """Seconds for one call, which scores all answers of a step. A function that can be imported is killed then."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments, such as {"pattern": "^#\\\\d+$"} for format_match."""
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and math.isfinite(self.offset)):
            got = f"weight={self.weight}, offset={self.offset}"
            raise ConfigError("A reward's weight and offset must be finite.", got=got)
        if not self.timeout_s > 0:
            raise ConfigError("A reward's timeout_s must be above 0 seconds.", got=self.timeout_s)


class Scorer:
    """Scores answers and their steps. A context manager: it owns the processes of the reward functions.

    `judges` are functions that run here, by the name that a spec gives as its function: reward models. The state of a
    function that can be imported lives in its own process, not here; of a lambda, a closure or a notebook's function it
    lives here, and such a one cannot be killed. `logged` and `extra` hold what the functions gave to log_metric and
    log_extra in the last call of `score`, and `without_steps` how many of its answers had no step.

    `none` says what happens to such an answer when `steps` are scored: "outcome", it has the rewards of the whole
    answer only, and a warning says so the first time; or "error".
    """

    def __init__(
        self,
        specs: Sequence[RewardSpec],
        *,
        judges: Mapping[str, RewardFunction] | None = None,
        steps: Sequence[RewardSpec] = (),
        none: Literal["outcome", "error"] = "outcome",
    ) -> None:
        if not specs and not steps:
            known = ", ".join(BUILTINS)
            todo = f"built in: {known}; of steps: {', '.join(STEP_BUILTINS)}"
            raise ConfigError("There is no reward.", accepted="at least one [[reward]] or [[step_reward]]", todo=todo)
        self.logged: dict[str, float] = {}
        self.extra: dict[str, list[Any]] = {}
        self.without_steps = 0
        self._none, self._warned = none, False
        self._rewards = _calls(specs, judges or {}, REWARD)
        self._step_rewards = _calls(steps, judges or {}, STEP_REWARD)

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of `Reward.parts`, in the order of the specs."""
        return tuple(call.name for _, call in self._rewards)

    @property
    def step_names(self) -> tuple[str, ...]:
        """The keys of `Reward.step_parts`, in the order of the specs."""
        return tuple(call.name for _, call in self._step_rewards)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Before the first step: every function can be imported, and gets all that it asks for."""
        for spec, call in (*self._rewards, *self._step_rewards):
            signature = call.signature()
            _check_options(call, signature, spec.options)
            _check_columns(call, signature, spec.options, prompts)
            if isinstance(call, Child):
                call.encode(signature.pick({**_columns(prompts), **spec.options}))

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        steps: Sequence[Sequence[str]] = (),
    ) -> list[Reward]:
        """One reward for each completion; `prompts[i]` is what `completions[i]` answers, in `steps[i]`."""
        self.without_steps = 0
        if not completions:
            return []
        self.logged, self.extra = {}, {}
        arguments = {
            **_columns(prompts),
            **_texts(prompts, completions),
            "completion_ids": list(map(list, completion_ids)),
        }
        parts = {call.name: validated(call, self._ask(spec, call, arguments), prompts) for spec, call in self._rewards}
        specs = {call.name: spec for spec, call in self._rewards}
        whole = [Reward(total(row, specs), row) for row in _rows(parts, len(prompts))]
        if not self._step_rewards:
            return whole
        self._count(prompts, completions, steps)
        stepwise = self._stepwise({**arguments, "steps": list(map(list, steps))}, prompts, steps)
        return [replace(reward, **more) for reward, more in zip(whole, stepwise, strict=True)]

    def _ask(self, spec: RewardSpec, call: RewardCall, arguments: Mapping[str, Any]) -> Outcome:
        outcome = call.call({**arguments, **spec.options}, spec.timeout_s)
        self.logged |= outcome.get("metrics", {})
        self.extra |= outcome.get("extra", {})
        return outcome

    def _stepwise(
        self, arguments: Mapping[str, Any], prompts: Sequence[Prompt], steps: Sequence[Sequence[str]]
    ) -> list[dict[str, Any]]:
        """`Reward.steps` and `Reward.step_parts` of each answer. Where none has a step, no function is asked."""
        specs = {call.name: spec for spec, call in self._step_rewards}
        parts: dict[str, list[tuple[float | None, ...]]] = {name: [()] * len(prompts) for name in specs}
        for spec, call in self._step_rewards if any(steps) else ():
            parts[call.name] = validated_steps(call, self._ask(spec, call, arguments), prompts, steps)
        rows = zip(_rows(parts, len(prompts)), map(len, steps), strict=True)
        return [
            {"steps": tuple(total(step, specs) for step in _rows(row, count)), "step_parts": row} for row, count in rows
        ]

    def _count(self, prompts: Sequence[Prompt], completions: Sequence[str], steps: Sequence[Sequence[str]]) -> None:
        """Answers without a step: counted, and warned of once, or refused."""
        rows = [row for row, (_, cut) in enumerate(zip(completions, steps, strict=True)) if not cut]
        self.without_steps = len(rows)
        if rows and self._none == "error":
            raise RewardError(
                f"The answer of row {rows[0]} (prompt {prompts[rows[0]].id!r}) has no step.",
                got=clipped(completions[rows[0]]),
                todo='let [steps] cut such answers, or set steps.none = "outcome" for their outcome reward only',
            )
        if rows and not self._warned:
            self._warned = True
            left = "their outcome reward only" if self._rewards else "no reward"
            first = f"row {rows[0]} (prompt {prompts[rows[0]].id!r}): {clipped(completions[rows[0]])}"
            warnings.warn(
                f"{len(rows)} of {len(completions)} answers have no step; they get {left}. The first is {first}",
                stacklevel=3,
            )

    def close(self) -> None:
        """End the processes. A later call starts them again."""
        for _, call in (*self._rewards, *self._step_rewards):
            call.close()


def _calls(
    specs: Sequence[RewardSpec], judges: Mapping[str, RewardFunction], role: Role
) -> list[tuple[RewardSpec, RewardCall]]:
    names = distinct([name_of(spec.function) for spec in specs])
    return [(spec, resolve(name, spec.function, judges, role)) for name, spec in zip(names, specs, strict=True)]


def _rows(parts: Mapping[str, Sequence[T]], count: int) -> list[dict[str, T]]:
    """Columns by name to one row for each answer, or for each step."""
    return [{name: values[row] for name, values in parts.items()} for row in range(count)]


def clipped(text: str, longest: int = 60) -> str:
    """The text in quotes, without its middle when it is long."""
    return repr(text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 2 :]}")


def total(parts: Mapping[str, float | None], specs: Mapping[str, RewardSpec]) -> float | None:
    """sum_f (weight_f part_f + offset_f) over the parts that are numbers; None when none is. Raises `RewardError` where
    that is beyond `LARGEST`.
    """
    scored = [specs[name].weight * part + specs[name].offset for name, part in parts.items() if part is not None]
    summed = sum(scored) if scored else None
    if summed is not None and not abs(summed) <= LARGEST:
        raise RewardError(
            "A reward is too large to be added up with others.",
            got=f"{summed:g}, of {', '.join(f'{name} = {part:g}' for name, part in parts.items() if part is not None)}",
            accepted=f"-{LARGEST:g} to {LARGEST:g}, weight and offset included",
            todo="let the function return smaller numbers, or give it a smaller weight.",
        )
    return summed


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


def _check_options(call: RewardCall, signature: Signature, options: Mapping[str, Any]) -> None:
    for option in options:
        if not signature.accepts(option):
            known = [known for known in (*signature.required, *signature.optional) if known not in _given(call)]
            raise RewardError(
                f"The {call.role.noun} {call.name!r} has no option {option!r}.",
                accepted=", ".join(known) or "no options",
                todo=suggest(option, known) if known else "remove it",
            )


def _check_columns(
    call: RewardCall, signature: Signature, options: Mapping[str, Any], prompts: Sequence[Prompt]
) -> None:
    if call.role is STEP_REWARD and not signature.accepts("steps"):
        raise RewardError(
            f"The step reward function {call.name!r} takes no steps.",
            got=", ".join((*signature.required, *signature.optional)) or "no arguments",
            accepted="f(prompts, steps, **columns) -> a list of numbers for each answer",
            todo="give it the argument `steps`, or make it a reward of the whole answer",
        )
    for column in signature.required:
        lacking = next((prompt for prompt in prompts if column not in prompt.columns), None)
        if lacking is not None and column not in options and column not in _given(call):
            raise RewardError(
                f"The {call.role.noun} {call.name!r} wants {column!r}, and prompt {lacking.id!r} has no such column.",
                accepted=f"the prompt's columns: {', '.join(lacking.columns) or 'none'}",
                todo=f'add the column, rename one with data.columns = {{old = "{column}"}}, or set it in the options',
            )


def _given(call: RewardCall) -> tuple[str, ...]:
    return (*GIVEN, "steps") if call.role is STEP_REWARD else GIVEN
