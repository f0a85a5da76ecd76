"""The source of rollouts: prompts in a seeded order, a group of answers to each, scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from scoreline.rollout.engine import Engine, Foreseeing, Sampling
from scoreline.rollout.sampling import uniforms
from scoreline.types import Metrics, Prompt, Request, Reward, Rollout, Step

TRAIN, EVAL, LABEL, JUDGE, PROBE = 0, 1, 2, 3, 4
"""The second number of a stream's address: what samples for one purpose never shares random numbers with another."""

Segment = Callable[[Sequence[str], Sequence[Sequence[int]]], list[tuple[Step, ...]]]
"""Cuts answers (texts and token ids) into steps."""


class Scores(Protocol):
    """Whatever scores answers."""

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        steps: Sequence[Sequence[str]] = (),
    ) -> list[Reward]:
        """One reward an answer; `steps` are the texts of each answer's steps, where there are any to score."""
        ...


@dataclass(frozen=True)
class Encoded:
    """A prompt and its tokens."""

    prompt: Prompt
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Collection:
    """The rollouts of a step, where the data cursor is now, and what it took."""

    rollouts: list[Rollout]
    cursor: int
    sampled_tokens: int
    resampled_groups: int = 0
    seconds: Metrics = field(default_factory=dict)


class Sampler:
    """Answers to prompts, as text, cut into steps where `segment` says how, and scored."""

    def __init__(
        self, engine: Engine, scores: Scores, decode: Callable[[Sequence[int]], str], segment: Segment | None = None
    ) -> None:
        self.engine, self.scores, self.decode, self.segment = engine, scores, decode, segment
        self.seconds: Metrics = {"time/rollout": 0.0, "time/score": 0.0}

    def rollouts(
        self, prompts: Sequence[Encoded], streams: Sequence[tuple[int, ...]], answers: int, sampling: Sampling
    ) -> list[Rollout]:
        """`answers` scored answers to each prompt; answer j to prompt i draws from stream (*streams[i], j)."""
        started = time.perf_counter()
        completions = self.engine.generate(asked_for(prompts, streams, answers), sampling)
        texts = [self.decode(completion.token_ids) for completion in completions]
        generated = time.perf_counter()
        asked = [e for e in prompts for _ in range(answers)]
        rewards, steps = self._scored([e.prompt for e in asked], texts, [c.token_ids for c in completions])
        self.seconds["time/rollout"] += generated - started
        self.seconds["time/score"] += time.perf_counter() - generated
        rows = zip(asked, completions, texts, rewards, steps, strict=True)
        return [
            Rollout(e.prompt, e.ids, completion, text, reward, i // answers, cut)
            for i, (e, completion, text, reward, cut) in enumerate(rows)
        ]

    def rescored(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same answers with the scores of this sampler."""
        ids = [r.completion.token_ids for r in rollouts]
        rewards, steps = self._scored([r.prompt for r in rollouts], [r.text for r in rollouts], ids)
        return [replace(r, reward=new, steps=cut) for r, new, cut in zip(rollouts, rewards, steps, strict=True)]

    def _scored(
        self, prompts: Sequence[Prompt], texts: Sequence[str], ids: Sequence[Sequence[int]]
    ) -> tuple[list[Reward], list[tuple[Step, ...]]]:
        if self.segment is None:
            return self.scores.score(prompts, texts, ids), [()] * len(texts)
        steps = self.segment(texts, ids)
        return self.scores.score(prompts, texts, ids, [[step.text for step in cut] for cut in steps]), steps


def asked_for(prompts: Sequence[Encoded], streams: Sequence[tuple[int, ...]], answers: int) -> list[Request]:
    """The requests for so many answers to each prompt."""
    return [Request(e.ids, (*stream, j)) for e, stream in zip(prompts, streams, strict=True) for j in range(answers)]


class Collector:
    """Groups for the loop. The order of prompts is a seeded permutation for each epoch, a function of the cursor.

    With `foreseeing` this step's groups and those of the next `max_staleness` steps are begun before this step's are
    waited for: they are sampled while the learner learns, by a policy that is at most so many steps old when they are
    trained on. A step takes its groups in the order of the data, never those that happen to be ready first: short
    answers would come before long ones. Where groups are sampled again, a step takes those that were begun for the
    next: a place of the data is never used later than it was begun for, so the bound holds.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompts: Sequence[Encoded],
        sampling: Sampling,
        *,
        prompts_per_step: int,
        num_generations: int,
        seed: int,
        resample_rounds: int = 0,
        foreseeing: Foreseeing | None = None,
        max_staleness: int = 0,
    ) -> None:
        self.sampler, self.prompts, self.sampling = sampler, prompts, sampling
        self.prompts_per_step, self.num_generations = prompts_per_step, num_generations
        self.seed, self.resample_rounds = seed, resample_rounds
        self.foreseeing, self.max_staleness = foreseeing, max_staleness

    def collect(self, cursor: int, later: int = 0) -> Collection:
        """The next step's groups, starting at this place of the data; `later` steps will come after it."""
        self.sampler.seconds = dict.fromkeys(self.sampler.seconds, 0.0)
        self._begin(cursor, 1 + min(self.max_staleness, later))
        tokens, resampled = 0, 0
        telling: list[list[Rollout]] = []
        silent: list[list[Rollout]] = []
        for round_number in range(self.resample_rounds + 1):
            missing = self.prompts_per_step - len(telling)
            groups = self._groups(range(cursor, cursor + missing))
            cursor, tokens = cursor + missing, tokens + sum(len(r.completion.token_ids) for g in groups for r in g)
            telling += [group for group in groups if not self.resample_rounds or differ(group)]
            silent += [group for group in groups if self.resample_rounds and not differ(group)]
            resampled += missing if round_number else 0
            if len(telling) == self.prompts_per_step:
                break
        kept = (telling + silent)[: self.prompts_per_step]
        return Collection(numbered(kept), cursor, tokens, resampled, dict(self.sampler.seconds))

    def _begin(self, cursor: int, steps: int) -> None:
        """The groups of so many steps, one step after the other."""
        if self.foreseeing is None:
            return
        for start in range(cursor, cursor + steps * self.prompts_per_step, self.prompts_per_step):
            questions = self._questions(range(start, start + self.prompts_per_step))
            self.foreseeing.expect(asked_for(*questions, self.num_generations), self.sampling)

    def _questions(self, places: Sequence[int]) -> tuple[list[Encoded], list[tuple[int, ...]]]:
        return [self.prompts[self._index(place)] for place in places], [(self.seed, TRAIN, place) for place in places]

    def _groups(self, places: Sequence[int]) -> list[list[Rollout]]:
        answers = self.num_generations
        flat = self.sampler.rollouts(*self._questions(places), answers, self.sampling)
        return [flat[i : i + answers] for i in range(0, len(flat), answers)]

    def _index(self, place: int) -> int:
        epoch, offset = divmod(place, len(self.prompts))
        return int(order(self.seed, epoch, len(self.prompts))[offset])


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A permutation of `count` things that depends on (seed, epoch) alone."""
    return np.argsort(uniforms((seed, -1, epoch), count), kind="stable")


def differ(group: Sequence[Rollout]) -> bool:
    """Whether a group holds different rewards, on its answers or on their steps."""
    earned = {reward for rollout in group for reward in (rollout.reward.total, *rollout.reward.steps)}
    return len(earned - {None}) > 1


def numbered(groups: Sequence[Sequence[Rollout]]) -> list[Rollout]:
    """The rollouts of the groups in one list, `group` counting from 0."""
    return [replace(rollout, group=number) for number, group in enumerate(groups) for rollout in group]
