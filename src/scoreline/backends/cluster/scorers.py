"""The scorer pool: processes that score answers, for rewards that take longer than sampling."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from scoreline.backends.cluster.beside import Beside, first
from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.process import (
    BEGINNING,
    Setting,
    cause,
    check_versions,
    silence,
    telling,
    unborn,
    versions,
)
from scoreline.rollout.collect import Scores
from scoreline.types import Prompt, Reward

MakeScores = Callable[[], Scores]


@telling
class ScoringProcess:
    """Reward functions and reward models, in a process of the cluster."""

    def __init__(self, make: MakeScores, setting: Setting) -> None:
        self.make = make
        setting.enter()

    def whereabouts(self) -> tuple[int, dict[str, str]]:
        """Process and versions, once it can score: an error of a constructor would lose its kind on the way."""
        self.scores = self.make()
        return os.getpid(), versions()

    def score(self, *rows: Any) -> list[Reward]:
        """One reward an answer."""
        return self.scores.score(*rows)


class ScorerPool:
    """`Scores` of several processes: the answers to one question are always scored together, in one of them.

    Others beside it are served while scores are waited for. A reward function that raises ends the run, as it does in
    one process, and so does a process that cannot make what it scores with. One that dies, or says nothing for
    `timeout` seconds, is replaced and its answers are scored again, as often as the budget allows.
    """

    def __init__(self, ray: Any, hire: Callable[[int], Any], count: int, timeout: float, budget: Budget) -> None:
        self.ray, self.hire, self.timeout, self.budget = ray, hire, timeout, budget
        self.beside: Beside | None = None
        self.processes: dict[int, Any] = {}
        self.starts: dict[int, Any] = {}
        for number in range(count):
            self._hire(number)

    def open(self) -> None:
        """Wait until all can score: each scores no answers."""
        nothing: tuple[Any, ...] = ((), (), ())
        for number in self.processes:
            self._answer(number, self._ask(number, nothing), nothing)

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        steps: Sequence[Sequence[str]] = (),
    ) -> list[Reward]:
        """One reward an answer, in the order of the answers."""
        columns = (prompts, completions, completion_ids, *([steps] if steps else []))
        parts = shares(prompts, len(self.processes))
        told = [tuple([column[i] for i in rows] for column in columns) for rows in parts]
        rewards: dict[int, Reward] = {}
        asked = [self._ask(number, rows) for number, rows in enumerate(told)]
        for number, rows in enumerate(parts):
            rewards.update(zip(rows, self._answer(number, asked[number], told[number]), strict=True))
        return [rewards[row] for row in range(len(prompts))]

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            self.ray.kill(process, no_restart=True)

    def _hire(self, number: int) -> None:
        self.processes[number] = self.hire(number)
        self.starts[number] = self.processes[number].whereabouts.remote()

    def _ask(self, number: int, rows: tuple[Any, ...]) -> Any:
        return self.processes[number].score.remote(*rows)

    def _answer(self, number: int, ref: Any, rows: tuple[Any, ...]) -> list[Reward]:
        """What this process says to what it was asked, or another one in its place."""
        while True:
            try:
                _, theirs = self._wait(self.starts[number], max(self.timeout, BEGINNING))
                check_versions(versions(), theirs, f"scorer-{number}")
                rewards: list[Reward] = self._wait(ref, self.timeout)
                return rewards
            except self.ray.exceptions.RayTaskError as error:
                raise cause(error, f"scorer-{number}") from None
            except self.ray.exceptions.RayError as error:  # it died, or took too long
                never = unborn(error)
                if never is not None:
                    raise never from None
                self._replace(number, str(error).splitlines()[0])
            ref = self._ask(number, rows)

    def _wait(self, ref: Any, patience: float) -> Any:
        if first(self.ray, [ref], self.beside, time.monotonic() + patience) is None:
            raise self.ray.exceptions.GetTimeoutError(silence(patience))
        return self.ray.get(ref)

    def _replace(self, number: int, why: str) -> None:
        self.budget.spend(f"scorer {number}: {why}")
        warnings.warn(f"scorer {number} is replaced: {why}", stacklevel=2)
        self.ray.kill(self.processes[number], no_restart=True)
        self._hire(number)


def shares(prompts: Sequence[Prompt], count: int) -> list[list[int]]:
    """The rows of each of `count` processes: whole questions, as many answers each as can be."""
    questions = [[row for row, _ in group] for _, group in groupby(enumerate(prompts), key=lambda pair: pair[1].id)]
    ends = [round(len(questions) * (i + 1) / count) for i in range(count)]
    parts = [questions[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    return [[row for question in part for row in question] for part in parts if part]
