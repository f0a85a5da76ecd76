"""Reward functions, of answers and of steps, as something to call with a deadline, wherever they run.

`Direct` runs here: built-ins, whose time is bounded, and judges, whose models live here. `Child` runs in a process
that is killed at the deadline: everything that can be imported. `Threaded` runs in a thread: a notebook's functions,
closures and lambdas; at the deadline the caller goes on with an error, but nothing can stop the thread itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from scoreline.environments.worker import Function, Outcome, Signature, invoke, signature_of
from scoreline.errors import RewardError

T = TypeVar("T")

START_TIMEOUT_S = 120.0
"""For a process to start and import the function's module, which may load large packages."""


@dataclass(frozen=True)
class Role:
    """What a function is for, in the words of its errors; `nested`: it answers with a list for each completion."""

    noun: str
    accepted: str
    deadline: str
    nested: bool = False


REWARD = Role(
    "reward function",
    "a built-in name, package.module.function, file.py:function, or a reward model's folder",
    "the reward's timeout_s",
)
STEP_REWARD = Role(
    "step reward function",
    "a built-in name, package.module.function, file.py:function, or a process reward model's folder",
    "the step reward's timeout_s",
    nested=True,
)
SPLITTER = Role(
    "step splitter", "package.module.function, or file.py:function", "the splitter's timeout_s", nested=True
)


class Direct:
    """A function that runs here, without a deadline."""

    def __init__(self, name: str, function: Function, role: Role = REWARD) -> None:
        self.name = name
        self.function = function
        self.role = role

    def signature(self) -> Signature:
        return signature_of(self.function)

    def call(self, arguments: Mapping[str, Any], timeout_s: float) -> Outcome:
        return invoke(self.function, arguments, nested=self.role.nested)

    def close(self) -> None:
        """Nothing to end."""


class Threaded(Direct):
    """A function that runs here in a thread, because no other process can import it."""

    def call(self, arguments: Mapping[str, Any], timeout_s: float) -> Outcome:
        try:
            return within(timeout_s, lambda: invoke(self.function, arguments, nested=self.role.nested))
        except TimeoutError:
            todo = f"make it faster, raise {self.role.deadline}, or move it into a file, where it can be killed"
            raise late(self, timeout_s, todo) from None


class Child:
    """A function that runs in its own process: started at first use, kept, killed at the deadline, started again.

    Calls come one after another. The process sees this one's import path, folder and environment, not its variables.
    """

    def __init__(self, name: str, target: str, role: Role = REWARD) -> None:
        self.name = name
        self.target = target
        self.role = role
        self._process: subprocess.Popen[str] | None = None
        self._signature: Signature | None = None

    def signature(self) -> Signature:
        """Start the process if need be, and ask it."""
        if self._signature is None or self._process is None:
            self.close()
            self._process = _start()
            self._signature = self._load()
        return self._signature

    def _load(self) -> Signature:
        todo = "look for an endless loop or a download where the module is imported"
        answer = self._ask(json.dumps({"load": self.target}), START_TIMEOUT_S, todo)
        if "error" in answer:
            self.close()
            raise RewardError(
                f"The {self.role.noun} {self.name!r} cannot be imported.",
                got="\n            ".join([answer["error"], *answer["where"]]),
                accepted=self.role.accepted,
                todo=f"check {self.target!r}; imports start at {os.getcwd()}",
            )
        return Signature(tuple(answer["required"]), tuple(answer["optional"]), answer["open"])

    def call(self, arguments: Mapping[str, Any], timeout_s: float) -> Outcome:
        line = self.encode(self.signature().pick(arguments))
        return self._ask(line, timeout_s, f"make it faster or raise {self.role.deadline}")

    def encode(self, arguments: Mapping[str, Any]) -> str:
        """The request's line. Another process gets values as JSON."""
        for name, value in arguments.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise RewardError(
                    f"The column {name!r} cannot be sent to the {self.role.noun} {self.name!r}.",
                    got=error,
                    accepted="texts, numbers, booleans, lists and objects of them",
                    todo="convert or drop the column in the data",
                ) from None
        return json.dumps({"arguments": arguments, "nested": self.role.nested})

    def _ask(self, line: str, timeout_s: float, todo: str) -> Outcome:
        process = self._process
        assert process is not None, "started by signature()"
        try:
            answer = within(timeout_s, lambda: _exchange(process, line))
        except TimeoutError:
            self.close()
            raise late(self, timeout_s, todo) from None
        except BaseException:  # an interrupt leaves an answer in the pipe that would be taken for the next one's
            self.close()
            raise
        if not answer:
            raise self._died(process)
        return json.loads(answer)  # type: ignore[no-any-return]

    def _died(self, process: subprocess.Popen[str]) -> RewardError:
        code = process.wait()
        self.close()
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return RewardError(
            f"The process of the {self.role.noun} {self.name!r} died.",
            got=reason,
            todo="call the function by hand on one answer; look for os._exit, memory use and native code",
        )

    def close(self) -> None:
        """Kill the process and the processes that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill() if sys.platform == "win32" else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


RewardCall = Direct | Threaded | Child


def _start() -> subprocess.Popen[str]:
    """A worker in a session of its own: Ctrl-C reaches the trainer alone, and a kill reaches the worker's children."""
    here = [os.path.abspath(entry) for entry in sys.path]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "scoreline.environments.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*here, os.getcwd()])},
        start_new_session=True,
    )


def _exchange(process: subprocess.Popen[str], line: str) -> str:
    """Write one line and read one; empty when the process is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except (BrokenPipeError, ValueError):  # ValueError: the pipe was closed by a kill
        return ""


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, or TimeoutError. The thread of a late `work` is left behind."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)


def late(call: RewardCall, timeout_s: float, todo: str) -> RewardError:
    return RewardError(f"The {call.role.noun} {call.name!r} did not answer within {timeout_s:g} s.", todo=todo)


def returned(call: RewardCall, outcome: Outcome) -> list[Any]:
    """What the function returned, one value for each completion if it keeps to it; or its error, raised."""
    if "error" in outcome:
        got = "\n            ".join([outcome["error"], *outcome["where"]])
        raise RewardError(f"The {call.role.noun} {call.name!r} raised an error.", got=got, todo="correct the function")
    return outcome["rewards"]  # type: ignore[no-any-return]
