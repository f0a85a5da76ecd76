"""From what a recipe names as a reward, of an answer or of steps, to a function that can be called."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scoreline.environments import verify
from scoreline.environments.functions import REWARD, STEP_REWARD, Child, Direct, RewardCall, Role, Threaded
from scoreline.environments.step_checks import STEP_BUILTINS
from scoreline.environments.verify import BUILTINS, UNBOUNDED, RewardFunction
from scoreline.errors import RewardError, suggest

DOTTED = re.compile(r"\w+([.:]\w+)+")

BUILT_IN: Mapping[Role, Mapping[str, RewardFunction]] = {REWARD: BUILTINS, STEP_REWARD: STEP_BUILTINS}


def name_of(function: str | Callable[..., Any]) -> str:
    """`correct` for "rewards.py:correct", "package.rewards.correct", the built-in and the callable; a folder's name."""
    if not isinstance(function, str):
        return getattr(function, "__name__", type(function).__name__)
    if _is_file(function) or DOTTED.fullmatch(function):
        return re.split("[.:]", function)[-1]
    return Path(function).resolve().name


def _is_file(function: str) -> bool:
    return function.rpartition(":")[0].endswith(".py")


def distinct(names: list[str]) -> list[str]:
    """The second `format_match` becomes `format_match-2`."""
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if count == 1 else f"{name}-{count}" for name, count in zip(names, counts, strict=True)]


def resolve(
    name: str, function: str | Callable[..., Any], judges: Mapping[str, RewardFunction], role: Role = REWARD
) -> RewardCall:
    """Where the function runs: here if it is a judge or a built-in, else where it can be left or killed."""
    if not isinstance(function, str):
        target = import_name(function)
        return Threaded(name, function, role) if target is None else Child(name, target, role)
    if function in judges:
        return Direct(name, judges[function], role)
    if function in BUILT_IN.get(role, {}):
        return _builtin(name, function, role)
    if function.endswith(".py"):
        raise RewardError("Which function of the file?", got=function, accepted=f"{function}:FUNCTION")
    if _is_file(function) and not Path(function.rpartition(":")[0]).is_file():
        raise RewardError(
            f"The file of a {role.noun} does not exist.",
            got=function,
            todo=f"check the path; relative paths start at {Path.cwd()}",
        )
    if not _is_file(function) and not DOTTED.fullmatch(function):
        raise _unknown(function, judges, role)
    return Child(name, function, role)


def _unknown(function: str, judges: Mapping[str, RewardFunction], role: Role) -> RewardError:
    known = [*BUILT_IN.get(role, {}), *judges]
    other = next((other for other, names in BUILT_IN.items() if function in names), None)
    return RewardError(
        f"Unknown {role.noun}.",
        got=f"{function}, which is a {other.noun}" if other else function,
        accepted=role.accepted,
        todo=suggest(function, known) if known else "",
    )


def _builtin(name: str, function: str, role: Role) -> RewardCall:
    if function == "math_verify":
        verify.require_math_verify()
    if function in UNBOUNDED:
        return Child(name, f"{verify.__name__}.{function}", role)
    return Direct(name, BUILT_IN[role][function], role)


def import_name(function: Callable[..., Any]) -> str | None:
    """`module:qualname` when another process would find this very function there.

    None for lambdas and closures, and for a script's functions: to import those, another process would have to run it.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module) if module and module != "__main__" else None
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function else None
