"""How a reward function is called, and the process in which it can be killed.

`python -m scoreline.environments.worker` reads one JSON object a line from its standard input and answers with one:

    {"load": "rewards.py:score"}          -> {"required": [...], "optional": [...], "open": false}
    {"arguments": {"completions": [...]}} -> {"rewards": [...], "metrics": {...}, "extra": {...}}
    {..., "nested": true}                 -> {"rewards": [[...], ...], ...}: a list for each completion, for its steps
    any of them                           -> {"error": "ValueError: ...", "where": ["rewards.py:3 in score: ..."]}

What the function prints, itself or through programs that it starts, goes to standard error. The process ends when its
input closes, so it never outlives its parent, whatever the function is doing.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from scoreline.errors import suggest

Function = Callable[..., Any]
Outcome = dict[str, Any]

HOOKS = ("log_metric", "log_extra")
"""TRL's: `log_metric(name, value)` and `log_extra(column, values)`."""


@dataclass(frozen=True)
class Signature:
    """What a function takes by name: `open` means that it has `**columns`."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    open: bool

    def pick(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that the function accepts."""
        return {name: value for name, value in arguments.items() if self.accepts(name)}

    def accepts(self, name: str) -> bool:
        return self.open or name in self.required or name in self.optional


def signature_of(function: Function) -> Signature:
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Signature(
        required=tuple(p.name for p in named if p.default is p.empty),
        optional=tuple(p.name for p in named if p.default is not p.empty),
        open=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def load(target: str) -> Function:
    """The function of "pkg.module.function", "pkg.module:Class.function" or "file.py:function"."""
    place, colon, name = target.rpartition(":")
    if not colon:
        place, _, name = target.rpartition(".")
    found: Any = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            raise LookupError(f"{place} has no {part!r}; {suggest(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise LookupError(f"{target} is no function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _import_file(path: Path) -> ModuleType:
    """Run the file as a module. Its folder joins the import path, so that it can import its neighbours."""
    sys.path.append(str(path.resolve().parent))
    name = f"reward_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LookupError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def invoke(function: Function, arguments: Mapping[str, Any], *, nested: bool = False) -> Outcome:
    """Call the function with the arguments and hooks that it accepts. Never raises: an error is an outcome."""
    metrics: dict[str, float] = {}
    extra: dict[str, list[Any]] = {}

    def log_metric(name: str, value: float) -> None:
        metrics[name] = float(value)

    def log_extra(column: str, values: Iterable[Any]) -> None:
        extra[column] = list(values)

    hooks = {"log_metric": log_metric, "log_extra": log_extra}
    try:
        result = function(**signature_of(function).pick({**arguments, **hooks}))
        result = asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result
        return {"rewards": _rewards(result, _row if nested else _number), "metrics": metrics, "extra": extra}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the caller raises it with the function's name
        return failure(error)


async def _awaited(result: Any) -> Any:
    return await result


def _rewards(result: Any, each: Callable[[Any], Any]) -> list[Any] | str:
    """Numbers as floats, None as None, all else as its description: the caller names the row that it is in."""
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        return describe(result)
    return [each(value) for value in result]


def _row(value: Any) -> list[Any] | str:
    return _rewards(value, _number)


def _number(value: Any) -> float | str | None:
    if value is None:
        return None
    try:
        return float(value) if hasattr(type(value), "__float__") else describe(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # such as an array of several numbers
        return describe(value)


def describe(value: object) -> str:
    return f"{type(value).__name__} {value!r}"[:120]


def failure(error: BaseException) -> Outcome:
    """The error's own words, and the last two lines of the user's code that it passed through."""
    not_theirs = (__file__, "<frozen", os.path.dirname(os.__file__) + os.sep)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(not_theirs)]
    where = [f"{f.filename}:{f.lineno} in {f.name}: {f.line}" for f in frames]
    return {"error": "".join(traceback.format_exception_only(error)).strip(), "where": where[-2:]}


def serve(lines: Iterable[str], answers: TextIO) -> None:
    """Answer each request until there are no more."""
    function: Function | None = None
    for line in lines:
        request = json.loads(line)
        if "load" in request:
            try:
                function = load(request["load"])
                answer: Outcome = asdict(signature_of(function))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the parent raises it
                answer = failure(error)
        else:
            assert function is not None, "load comes first"
            answer = invoke(function, request["arguments"], nested=request["nested"])
        answers.write(json.dumps(answer, default=describe) + "\n")
        answers.flush()


def _lines(source: TextIO) -> Iterable[str]:
    """The lines of `source`, read by a thread, so that the end of input ends the process even inside a hanging call."""
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            arrived.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield arrived.get()


def main() -> None:
    """Keep the two pipes for the protocol, and give user code an empty input and standard error as output."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    serve(_lines(requests), answers)


if __name__ == "__main__":
    main()
