"""Where a run's parts live: all in one process, or on a Ray cluster. Only the table `[runtime]` says which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scoreline.errors import ConfigError
from scoreline.objectives.ratios import TruncatedImportance


@dataclass(frozen=True)
class Local:
    """Everything in this process: no server, no process group, no listening socket.

    `unit` questions are sampled together (left out: all that are asked for). Numbers of a model depend a little on what
    is computed beside them, so a run on a cluster with the same `unit` samples the very same tokens.
    """

    unit: int | None = None

    def __post_init__(self) -> None:
        at_least(1, "unit", self.unit)


@dataclass(frozen=True)
class Ray:
    """Learners and rollout workers as processes of a Ray cluster; the loop, the rewards and the small state stay here.

    `learners` ranks hold the model together (FSDP2), `rollouts` workers sample, `scorers` processes score the answers
    of training (0: the loop's own process does). A unit of `unit` questions is always sampled together, whoever does it
    (left out: a step's questions divided by the workers). A vLLM worker samples `at_once` units at a time: the next
    one fills the places that short answers of the last one leave. Then numbers depend on what else it is at.

    Answers may be sampled by a policy that is up to `max_staleness` steps old; 0 is synchronous. Such answers are
    weighed by `stale_correction`, which stands for `objective.correction` where that says nothing. With `in_flight` a
    worker takes new weights between two tokens of the answers that it is at, not after them: long answers end with
    younger tokens, and are as old as their oldest. `transfer` says how weights get there: "store" by Ray's object
    store, "stream" by vLLM's own transfer to all workers at once, between two units; "auto" streams where vLLM samples
    on GPUs, but not in flight.

    `address` is that of a cluster that runs ("auto" finds it); left out, a cluster of this machine alone, on loopback.
    `threads` are those of each process on a CPU (left out: the cores divided by the processes that compute at one
    time).

    A worker that dies, or says nothing for `timeout` seconds, is replaced; when more than `max_restarts` processes had
    to be replaced within an hour, or within 2 (max_restarts + 1) max(timeout, 600) seconds where that is longer, the
    run stops.
    """

    learners: int = 1
    rollouts: int = 1
    scorers: int = 0
    unit: int | None = None
    at_once: int = 1
    max_staleness: int = 0
    in_flight: bool = False
    transfer: Literal["auto", "store", "stream"] = "auto"
    stale_correction: TruncatedImportance | None = TruncatedImportance()  # noqa: RUF009 - frozen
    address: str | None = None
    threads: int | None = None
    timeout: float = 600.0
    max_restarts: int = 10

    def __post_init__(self) -> None:
        for name, least in (
            ("learners", 1),
            ("rollouts", 1),
            ("scorers", 0),
            ("unit", 1),
            ("at_once", 1),
            ("max_staleness", 0),
            ("threads", 1),
        ):
            at_least(least, name, getattr(self, name))
        at_least(0, "max_restarts", self.max_restarts)
        if self.in_flight and not self.max_staleness:
            raise ConfigError(
                "No answer is in flight while weights change where none may be stale.",
                got="runtime.in_flight=true with runtime.max_staleness=0",
                accepted="in_flight with max_staleness of at least 1",
                todo="raise runtime.max_staleness, or leave runtime.in_flight out.",
            )
        if not 0 < self.timeout < float("inf"):
            raise ConfigError("runtime.timeout is a time.", got=self.timeout, accepted="seconds, above 0")

    def counted(self) -> str:
        """`2 learners, 1 rollout worker on a cluster of this machine`."""
        roles = {"learner": self.learners, "rollout worker": self.rollouts, "scorer": self.scorers}
        told = ", ".join(f"{n} {role}{'s' * (n > 1)}" for role, n in roles.items() if n)
        named = {None: "a cluster of this machine", "auto": "the cluster that runs here"}
        return f"{told} on {named.get(self.address, f'the cluster at {self.address}')}"

    @property
    def correction(self) -> TruncatedImportance | None:
        """What weighs the answers: nothing where none is stale."""
        return self.stale_correction if self.max_staleness else None


def at_least(least: int, name: str, value: int | None) -> None:
    """Refuse a count that is too small."""
    if value is not None and value < least:
        raise ConfigError(f"runtime.{name} is too small.", got=value, accepted=f"at least {least}")
