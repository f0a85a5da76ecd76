"""What a judge can learn from the policy's own answers to some questions: preference pairs, or steps with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scoreline.environments.pairing import pairs
from scoreline.environments.preferences import Labelled, Pair
from scoreline.errors import RewardError
from scoreline.rollout.collect import Encoded, Sampler
from scoreline.rollout.continuations import Shepherd
from scoreline.rollout.engine import Sampling
from scoreline.types import Rollout


@dataclass(frozen=True)
class Taught:
    """Rows to learn from, and counts of answers: sampled, scored, right, without a step, with a step without label."""

    rows: Sequence[Pair | Labelled]
    answers: int
    scored: int
    right: int
    without_steps: int
    unlabelled: int
    sampled_tokens: int


class Teacher(Protocol):
    """Answers questions and makes rows of the answers."""

    def __call__(self, prompts: Sequence[Encoded], streams: Sequence[tuple[int, ...]]) -> Taught:
        """Rows in the order of the prompts; what is sampled for prompt i draws from streams that begin with
        `streams[i]`, and from no others.
        """
        ...


@dataclass(frozen=True)
class PairTeacher:
    """Right answers over wrong ones to the same question, by the sampler's totals."""

    sampler: Sampler
    sampling: Sampling
    num_generations: int
    right_at: float = 1.0
    most: int = 4
    seed: int = 0

    def __call__(self, prompts: Sequence[Encoded], streams: Sequence[tuple[int, ...]]) -> Taught:
        """At most `most` pairs a question."""
        rollouts = self.sampler.rollouts(prompts, streams, self.num_generations, self.sampling)
        made = pairs(rollouts, right_at=self.right_at, most=self.most, seed=self.seed)
        return taught(made, rollouts, self.right_at)


@dataclass(frozen=True)
class StepTeacher:
    """The steps of each distinct answer with their labels: from `shepherd`, or the sampler's own step rewards.

    An answer without a step teaches nothing; with `none` "error" it stops the run.
    """

    sampler: Sampler
    sampling: Sampling
    num_generations: int
    shepherd: Shepherd | None = None
    right_at: float = 1.0
    none: Literal["outcome", "error"] = "outcome"

    def __call__(self, prompts: Sequence[Encoded], streams: Sequence[tuple[int, ...]]) -> Taught:
        """One row for each distinct answer that has a label for every step."""
        rollouts = self.sampler.rollouts(prompts, streams, self.num_generations, self.sampling)
        each = [(*stream, j) for stream in streams for j in range(self.num_generations)]
        if self.none == "error":
            refuse_stepless(rollouts)
        kept = distinct(rollouts)
        labels, tokens = self._labels([rollouts[i] for i in kept], [each[i] for i in kept])
        made = [labelled(rollouts[i], given) for i, given in zip(kept, labels, strict=True)]
        rows = [row for row in made if row is not None]
        lacking = sum(not rollout.steps for rollout in rollouts), len(made) - len(rows)
        return taught(rows, rollouts, self.right_at, tokens, *lacking)

    def _labels(
        self, rollouts: Sequence[Rollout], streams: Sequence[tuple[int, ...]]
    ) -> tuple[Sequence[Sequence[float | None]], int]:
        """Labels of each answer's steps, and tokens sampled. The shepherd passes over answers that nothing scored."""
        if self.shepherd is None:
            return [rollout.reward.steps for rollout in rollouts], 0
        scored = [i for i, rollout in enumerate(rollouts) if rollout.reward.total is not None]
        found = self.shepherd.label([rollouts[i] for i in scored], [streams[i] for i in scored])
        known = dict(zip(scored, found.labels, strict=True))
        return [known.get(i, ()) for i in range(len(rollouts))], found.sampled_tokens


def refuse_stepless(rollouts: Sequence[Rollout]) -> None:
    """Raises `RewardError` for an answer without a step."""
    without = [rollout for rollout in rollouts if not rollout.steps]
    if without:
        raise RewardError(
            f"{len(without)} of {len(rollouts)} answers have no step, first one to prompt {without[0].prompt.id!r}.",
            got=repr(without[0].text[:80]),
            todo='let [steps] say where their steps end, or pass over such answers with steps.none = "outcome".',
        )


def distinct(rollouts: Sequence[Rollout]) -> list[int]:
    """The first of the answers with the same text to the same question, of those that have steps."""
    first: dict[tuple[str, str], int] = {}
    for i, rollout in enumerate(rollouts):
        if rollout.steps:
            first.setdefault((rollout.prompt.id, rollout.text), i)
    return list(first.values())


def labelled(rollout: Rollout, labels: Sequence[float | None]) -> Labelled | None:
    """The answer's steps with these labels; None when one of them has none."""
    known = [label for label in labels if label is not None]
    if len(known) < len(rollout.steps):
        return None
    for number, label in enumerate(known, start=1):
        if not 0 <= label <= 1:
            raise RewardError(
                f"The reward of step {number} of an answer to prompt {rollout.prompt.id} is no label.",
                got=label,
                accepted="0 to 1",
                todo="give the step rewards weights that add up to at most 1, and leave out those below 0",
            )
    return Labelled(rollout.prompt, tuple(step.text for step in rollout.steps), tuple(known))


def taught(
    rows: Sequence[Pair | Labelled],
    rollouts: Sequence[Rollout],
    right_at: float,
    tokens: int = 0,
    without_steps: int = 0,
    unlabelled: int = 0,
) -> Taught:
    """Rows and what they were made of; `tokens` are those sampled beside the answers."""
    totals = [r.reward.total for r in rollouts if r.reward.total is not None]
    right = sum(total >= right_at for total in totals)
    sampled = tokens + sum(len(r.completion.token_ids) for r in rollouts)
    return Taught(rows, len(rollouts), len(totals), right, without_steps, unlabelled, sampled)
