"""Automatic step labels (Math-Shepherd, arXiv 2312.08935): a step is as good as the answers that it still leads to.

soft:  y_j = (1 / K) sum_k 1[answer k, sampled on from the end of step j, is right]
hard:  y_j = 1 if one of them is right, else 0

Nothing is sampled on from a step that ends the answer: its label is the answer's own outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scoreline.rollout.collect import Scores
from scoreline.rollout.engine import Engine, Sampling
from scoreline.types import Request, Rollout

Estimate = Literal["soft", "hard"]

SCORED_AT_ONCE = 256
"""Answers of one call of the checker, so that its time limit means about what it means in training."""

UNBOUNDED = 1 << 30


@dataclass(frozen=True)
class StepLabels:
    """One label in [0, 1] for each step of each answer, and the tokens that were sampled for them."""

    labels: list[tuple[float, ...]]
    sampled_tokens: int


@dataclass(frozen=True)
class Prefix:
    """An answer up to the end of one of its steps; continuation k draws from stream (*stream, k).

    `budget` are the tokens that the answer may still have.
    """

    rollout: Rollout
    ids: tuple[int, ...]
    stream: tuple[int, ...]
    budget: int

    @property
    def request_ids(self) -> tuple[int, ...]:
        """What the policy sees: the sampled tokens themselves, never tokenised again."""
        return (*self.rollout.prompt_ids, *self.ids)


@dataclass(frozen=True)
class Shepherd:
    """Labels steps by sampling on from where they end, with the engine's current policy and an outcome checker.

    An answer is right when its total is at least `right_at`; one that the checker cannot score is not. `context` is
    what the model can attend to, question and answer together.
    """

    engine: Engine
    checker: Scores
    decode: Callable[[Sequence[int]], str]
    sampling: Sampling
    continuations: int = 8
    labels: Estimate = "soft"
    right_at: float = 1.0
    context: int = UNBOUNDED

    def label(self, rollouts: Sequence[Rollout], streams: Sequence[tuple[int, ...]]) -> StepLabels:
        """Labels of the steps of checked answers. Continuation k of step j of answer i draws from (*streams[i], j, k).

        `rollouts` carry the outcome checker's reward and their steps.
        """
        places = [(i, j) for i, rollout in enumerate(rollouts) for j in open_steps(rollout)]
        prefixes = [self._prefix(rollouts[i], j, (*streams[i], j)) for i, j in places]
        continued = self._continued(prefixes)
        shares = dict(zip(places, self._estimates(prefixes, continued), strict=True))
        own = [float(self.right(rollout.reward.total)) for rollout in rollouts]
        labels = [
            tuple(shares.get((i, j), own[i]) for j in range(len(rollout.steps))) for i, rollout in enumerate(rollouts)
        ]
        return StepLabels(labels, sum(len(ids) for answers in continued for ids in answers))

    def right(self, total: float | None) -> bool:
        """Whether an answer with this total counts as right."""
        return total is not None and total >= self.right_at

    def _prefix(self, rollout: Rollout, step: int, stream: tuple[int, ...]) -> Prefix:
        ids = rollout.completion.token_ids[: rollout.steps[step].end + 1]
        return Prefix(rollout, ids, stream, max(1, self.sampling.max_completion_length - len(ids)))

    def _continued(self, prefixes: Sequence[Prefix]) -> list[list[tuple[int, ...]]]:
        """The tokens of the continuations of each prefix."""
        continued: list[list[tuple[int, ...]]] = [[] for _ in prefixes]
        for places, budget in flights(prefixes, self.context):
            chosen = [prefixes[place] for place in places]
            requests = [Request(p.request_ids, (*p.stream, k)) for p in chosen for k in range(self.continuations)]
            done = iter(self.engine.generate(requests, replace(self.sampling, max_completion_length=budget)))
            for place in places:
                continued[place] = [
                    self._ended(prefixes[place], next(done).token_ids) for _ in range(self.continuations)
                ]
        return continued

    def _ended(self, prefix: Prefix, ids: tuple[int, ...]) -> tuple[int, ...]:
        """A continuation, cut where the whole answer would have ended: at its budget, or at a stop string that began
        before the step's end.
        """
        ids, stop = ids[: prefix.budget], self.sampling.stop
        reach = max((len(text.encode()) for text in stop), default=0)  # a token holds at least one byte
        for n in range(1, min(reach, len(ids) + 1)):
            recent = self.decode((*prefix.ids[-reach:], *ids[:n]))
            if any(text in recent for text in stop):
                return ids[:n]
        return ids

    def _estimates(self, prefixes: Sequence[Prefix], continued: Sequence[Sequence[tuple[int, ...]]]) -> list[float]:
        """Soft or hard, of each prefix."""
        answers = [(p, (*p.ids, *ids)) for p, each in zip(prefixes, continued, strict=True) for ids in each]
        right: list[bool] = []
        for start in range(0, len(answers), SCORED_AT_ONCE):
            some = answers[start : start + SCORED_AT_ONCE]
            texts = [self.decode(ids) for _, ids in some]
            rewards = self.checker.score([p.rollout.prompt for p, _ in some], texts, [ids for _, ids in some])
            right += [self.right(reward.total) for reward in rewards]
        each = [right[i : i + self.continuations] for i in range(0, len(right), self.continuations)]
        return [float(any(of)) if self.labels == "hard" else sum(of) / len(of) for of in each]


def open_steps(rollout: Rollout) -> list[int]:
    """The steps behind which the answer goes on."""
    last = len(rollout.completion.token_ids) - 1
    return [number for number, step in enumerate(rollout.steps) if step.end < last]


def flights(prefixes: Sequence[Prefix], context: int) -> Iterator[tuple[list[int], int]]:
    """Places of prefixes to be continued together, and the most tokens that one of them may still have.

    Longest budgets first, so that those who may go on for long share their batches. Prefixes with less left get more
    than they may use, as long as that fits into the model's context.
    """
    places = sorted(range(len(prefixes)), key=lambda place: -prefixes[place].budget)
    while places:
        budget = prefixes[places[0]].budget
        fits = {place for place in places if len(prefixes[place].request_ids) + budget <= context} | {places[0]}
        yield [place for place in places if place in fits], budget
        places = [place for place in places if place not in fits]
