"""A process of the cluster: how it is made, what it finds when it starts, and how its errors come back."""

from __future__ import annotations

import functools
import inspect
import io
import logging
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

from scoreline.backends.cluster.doors import HOME, TOKEN_PATH
from scoreline.errors import ClusterError, ScorelineError
from scoreline.secret import known_secrets, masked

WORKERS = "workers"
"""The folder, in that of a run, with what its processes print."""
BEGINNING = 600.0
"""Seconds that a process may take to load its model, at least."""
PACKAGES = ("scoreline", "torch", "transformers", "safetensors", "numpy")
PASSED = ("HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "PYTHONPATH")
"""Of this process's environment, what every process of the run is given. Nothing else of it travels to a cluster that
was there before; in one that Scoreline starts processes inherit the whole.
"""


NEWS, UNITS = "news", "units"
"""Threads of a worker: one that takes in new weights while others sample, and those that wait for a unit each."""


@dataclass(frozen=True)
class Setting:
    """What a process is told of where it runs: its name, the device and the threads it computes with, the seed, the
    run's folder.
    """

    name: str
    device: str
    threads: int
    seed: int
    folder: str

    def enter(self) -> None:
        """Take the threads and the seed; write what is printed into the run's folder, where it is shared."""
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        warnings.filterwarnings("ignore", message=".*The given NumPy array is not writable.*")
        if Path(self.folder).is_dir():
            collect_output(Path(self.folder) / WORKERS / f"{self.name}.log")
            print(f"{self.name}: process {os.getpid()} on {where()}", flush=True)


def where() -> str:
    """Address and node of this process, as Ray knows them."""
    ray: Any = import_module("ray")
    return f"{ray.util.get_node_ip_address()}, node {ray.get_runtime_context().get_node_id()}"


def collect_output(file: Path) -> None:
    """Whatever this process prints, and its libraries in C, goes to the end of this file. What Python prints has its
    secrets masked.
    """
    file.parent.mkdir(exist_ok=True)
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    os.close(log)
    known = known_secrets(os.environ, Path(os.environ.get(TOKEN_PATH) or HOME).expanduser())
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, Masking(stream.fileno(), known))
        hand_over(stream, getattr(sys, name))


def hand_over(stream: Any, to: Any) -> None:
    """What libraries log to one stream goes to the other."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.getLogger().manager.loggerDict))]
    for handler in (handler for logger in loggers for handler in logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            handler.setStream(to)


class Masking(io.TextIOWrapper):
    """A stream of text into a file that is open, line by line, without secrets."""

    def __init__(self, descriptor: int, known: Collection[str]) -> None:
        binary = os.fdopen(descriptor, "wb", closefd=False)
        super().__init__(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.known = known

    def write(self, text: str) -> int:
        """As many characters as were given."""
        super().write(masked(text, self.known))
        return len(text)


def versions() -> dict[str, str]:
    """Of Python and of the libraries that compute."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def check_versions(here: dict[str, str], there: dict[str, str], name: str) -> None:
    """Refuse a process whose libraries are others: the same numbers could not be promised."""
    other = [key for key in here if here[key] != there.get(key)]
    if other:
        raise ClusterError(
            "The nodes of the cluster do not run the same versions.",
            got=", ".join(f"{key} {there.get(key)} in {name}, {here[key]} here" for key in other),
            accepted="the same versions of Python, scoreline, torch, transformers, safetensors and numpy everywhere",
            todo="install from one constraints file on every node.",
        )


def spawn(
    ray: Any,
    kind: type,
    bundle: Any,
    *,
    gpus: float,
    threads: int,
    arguments: Sequence[Any],
    groups: dict[str, int] | None = None,
) -> Any:
    """A process of this kind in one bundle of a placement group; so many more threads of it take calls of each of these
    `groups`. It is never restarted behind our back: a process that Ray restarts comes back with the state of its
    constructor, silently.
    """
    group, index = bundle
    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=index
    )
    given = {name: os.environ[name] for name in PASSED if name in os.environ}
    options = {
        "num_cpus": 1,
        "num_gpus": gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 1,
        "scheduling_strategy": strategy,
        "runtime_env": {"env_vars": given | {"OMP_NUM_THREADS": str(threads)}},
    }
    return ray.remote(**options, **({"concurrency_groups": groups} if groups else {}))(kind).remote(*arguments)


def places(ray: Any, count: int, strategy: str, gpus: float, timeout: float) -> Any:
    """Room for so many processes of one role: PACK puts them on as few nodes as can be, SPREAD on as many."""
    bundle = {"CPU": 1.0} | ({"GPU": gpus} if gpus else {})
    group = ray.util.placement_group([bundle] * count, strategy=strategy)
    ready, _ = ray.wait([group.ready()], timeout=timeout)
    if not ready:
        raise ClusterError(
            "The cluster has no room for the run's processes now.",
            got=f"{count} times {bundle}, none of it free within {timeout:g} s",
            todo="wait until other work on the cluster has ended, or lower runtime.learners, runtime.rollouts or"
            " runtime.scorers.",
        )
    return group


def nodes(ray: Any, group: Any) -> list[str]:
    """The node of each place."""
    table: dict[int, str] = ray.util.placement_group_table(group)["bundles_to_node_id"]
    return [table[place] for place in sorted(table)]


def cause(error: BaseException, logs: str) -> BaseException:
    """What was raised inside the process: a `ScorelineError` as it is, anything else with where to read on."""
    inner = getattr(error, "cause", None)
    if isinstance(inner, ScorelineError):
        return inner
    return ClusterError(
        "A process of the run failed with an error that is not its user's.",
        got=f"{type(inner or error).__name__}: {inner or error}",
        todo=see(logs, "with the traceback"),
    )


def unborn(error: Any) -> ClusterError | None:
    """What to say of a process that could not start at all: another one in its place could not either."""
    if not getattr(error, "actor_init_failed", False):
        return None
    return ClusterError(
        "A process of the run could not start.",
        got=str(error).strip().splitlines()[-1],
        todo="install the same packages on every node, and give a folder that the processes may write.",
    )


def silence(seconds: float) -> str:
    """What is said of a process that was waited for so long."""
    return f"said nothing for {seconds:g} s, which is runtime.timeout (for a start {BEGINNING:g} s at least)"


def see(logs: str, why: str) -> str:
    """Where to read what processes printed."""
    return f"read {WORKERS}/{logs}.log in the run's folder, {why}."


T = TypeVar("T", bound=type)


def telling(kind: T) -> T:
    """A class whose methods print the traceback of an error that leaves them: it then lies in the process's log."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, told(method))
    return kind


def told(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, and the traceback of its errors on the standard error stream."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except BaseException:
            traceback.print_exc()
            raise

    return wrapped
