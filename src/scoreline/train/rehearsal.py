"""Parts of a step with the real parts: how long they take, and the largest step of all, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from scoreline.models.text import Text
from scoreline.rollout.collect import Collector, Encoded
from scoreline.rollout.engine import Sampling
from scoreline.train.collate import collate
from scoreline.train.estimate import Largest, Rates
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.loop import Parts, train
from scoreline.train.schedule import first_progress
from scoreline.types import Batch, Completion, Report, Request, Reward, Rollout

FEW, MORE = 2, 10
"""Tokens of the two short rounds of sampling whose difference is the time of the tokens between."""

REPEATED = 0.5
"""Seconds up to which a measurement is made again: short ones catch the hiccups of a machine that others use too."""


@dataclass(frozen=True)
class Rehearsal:
    """The parts of a run and the largest step that it can make; `prompts` are the longest ones."""

    parts: Parts
    learner: LocalLearner
    text: Text
    prompts: Sequence[Encoded]
    sampling: Sampling
    step: Largest

    def rates(self) -> Rates:
        """Measure: a few tokens of all answers and of half of them, one portion's passes, one portion's gradient."""
        flying, half = self.step.flying, max(1, self.step.flying // 2)
        prefill, token = self._sampled(flying)
        _, less = self._sampled(half)
        each = max(0.0, (token - less) / (flying - half)) if flying > half else 0.0
        batch, tokens = self._portion(self.step.at_once), self.step.tokens_at_once
        passes = self.parts.objective.passes(self.parts.plan.updates_per_step)
        self.learner.rehearse(self._portion(1))
        learn = clocked(lambda: self.learner.rehearse(batch))
        annotate = clocked(lambda: self.learner.annotate(batch, passes)) if passes else 0.0
        return Rates(
            prefill=prefill,
            fixed=token - each * flying,
            each=each,
            context=self.step.prompt + MORE // 2,
            annotate=annotate / tokens,
            learn=learn / tokens,
            optimiser=self._optimiser(),
        )

    def run(self) -> tuple[Report, float]:
        """The largest step once, updates and all; its report and its seconds."""
        step = self.step
        collector = Collector(
            self.parts.collector.sampler,
            self.prompts,
            self.sampling,
            prompts_per_step=step.prompts,
            num_generations=step.answers,
            seed=self.parts.seed,
        )
        parts = replace(self.parts, collector=collector)
        self.learner.update(self._portion(1), Update(lr_factor=0.0))  # the moments are there from the second step on
        with endless(self.text):
            started = time.perf_counter()
            report = next(train(parts, first_progress(parts.objective, parts.warmup)))
            return report, time.perf_counter() - started

    def _sampled(self, rows: int) -> tuple[float, float]:
        """Seconds of the prompts of one wave, and of one token of it."""
        asked = [Request(self.prompts[i // self.step.answers].ids, (self.parts.seed, i)) for i in range(rows)]
        most = self.sampling.max_completion_length
        few, more = min(FEW, most), min(MORE, most)

        def timed(tokens: int) -> float:
            told = replace(self.sampling, max_completion_length=tokens)
            return clocked(lambda: self.parts.engine.generate(asked, told))

        with endless(self.text):
            timed(few)  # whatever is made once, such as a compiled graph
            short, long = timed(few), timed(more)
        token = max(long - short, 0.0) / max(more - few, 1)
        return max(short - (few - 1) * token, 0.0), token

    def _portion(self, rows: int) -> Batch:
        """So many of the longest prompts with answers of the whole budget, ready to be learned from."""
        objective = self.parts.objective
        batch = collate([self._answer(i) for i in range(rows)], device=self.learner.device)
        batch = objective.estimate(self.learner.annotate(batch, objective.needs), self._beta)
        return replace(batch, weights=objective.aggregate(batch.mask))

    def _answer(self, row: int) -> Rollout:
        asked, budget = self.prompts[row // self.step.answers], self.step.answer
        ids = tuple(asked.ids[j % len(asked.ids)] for j in range(budget))
        done = Completion(ids, (-1.0,) * budget, "length")
        return Rollout(asked.prompt, asked.ids, done, "", Reward(float(row % 2)), row // self.step.answers)

    @property
    def _beta(self) -> float | None:
        return None if self.parts.objective.kl is None else self.parts.objective.kl.beta

    def _optimiser(self) -> float:
        """28 bytes a parameter: weight, gradient and two moments are read, all but the gradient written."""
        numbers = sum(p.numel() for group in self.learner.groups.values() for p in group)
        source = torch.empty(1 << 24, device=self.learner.device)
        target = torch.zeros_like(source)
        rate = 2 * 4 * source.numel() / clocked(lambda: target.copy_(source))
        return float(28 * numbers / rate)


def longest(prompts: Sequence[Encoded], count: int) -> list[Encoded]:
    """The longest prompts, again from the first where there are fewer than `count`."""
    found = sorted(prompts, key=lambda encoded: len(encoded.ids), reverse=True)
    return [found[i % len(found)] for i in range(count)]


@contextmanager
def endless(text: Text) -> Iterator[None]:
    """No token ends an answer."""
    ends, text.eos_ids = text.eos_ids, ()
    try:
        yield
    finally:
        text.eos_ids = ends


def clocked(work: Callable[[], object]) -> float:
    """Seconds that it takes, the device's own included: the least of up to three times, where they are short."""
    taken = [_once(work)]
    while len(taken) < 3 and sum(taken) < REPEATED:
        taken.append(_once(work))
    return min(taken)


def _once(work: Callable[[], object]) -> float:
    _wait()
    started = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
