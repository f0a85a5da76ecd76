"""From what a recipe names as a reward to a function that can be called."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scoreline.environments import verify
from scoreline.environments.functions import Child, Direct, RewardCall, Threaded
from scoreline.environments.verify import BUILTINS, UNBOUNDED, RewardFunction
from scoreline.errors import RewardError, suggest

DOTTED = re.compile(r"\w+([.:]\w+)+")


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


def resolve(name: str, function: str | Callable[..., Any], judges: Mapping[str, RewardFunction]) -> RewardCall:
    if not isinstance(function, str):
        target = import_name(function)
        return Threaded(name, function) if target is None else Child(name, target)
    if function in judges:
        return Direct(name, judges[function])
    if function in BUILTINS:
        return _builtin(name, function)
    if function.endswith(".py"):
        raise RewardError("Which function of the file?", got=function, accepted=f"{function}:FUNCTION")
    if _is_file(function) and not Path(function.rpartition(":")[0]).is_file():
        raise RewardError(
            "The file of a reward function does not exist.",
            got=function,
            todo=f"check the path; relative paths start at {Path.cwd()}",
        )
    if not _is_file(function) and not DOTTED.fullmatch(function):
        raise RewardError(
            "Unknown reward function.",
            got=function,
            accepted="a built-in name, package.module.function, file.py:function, or a reward model's folder",
            todo=suggest(function, [*BUILTINS, *judges]),
        )
    return Child(name, function)


def _builtin(name: str, function: str) -> RewardCall:
    if function == "math_verify":
        verify.require_math_verify()
    return Child(name, f"{verify.__name__}.{function}") if function in UNBOUNDED else Direct(name, BUILTINS[function])


def import_name(function: Callable[..., Any]) -> str | None:
    """`module:qualname` when another process would find this very function there.

    None for lambdas and closures, and for a script's functions: to import those, another process would have to run it.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module) if module and module != "__main__" else None
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function else None
