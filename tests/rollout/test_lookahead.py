"""Sampling ahead, without a cluster: an engine that answers what is expected at once, so that answers are oldest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from scoreline.backends.cluster.backlog import Backlog
from scoreline.objectives.objective import Objective
from scoreline.objectives.ratios import TruncatedImportance
from scoreline.objectives.zoo import dapo, grpo
from scoreline.rollout.collect import JUDGE, Collector, Encoded, Sampler
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.iterate import Reference, Rounds, iterate
from scoreline.train.learner import LocalLearner
from scoreline.train.loop import Parts, train
from scoreline.train.plan import Plan
from scoreline.train.schedule import Progress, Warmup, first_progress
from scoreline.types import Completion, Metrics, Prompt, Report, Request, Reward
from tests import parts

PLAN = Plan(steps=5, prompts_per_step=4, num_generations=4, minibatches=2)


class Eager:
    """Answers what is expected with the weights of that moment. `most` is the most that was ever outstanding."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine, self.backlog, self.most, self.expected = engine, Backlog(2), 0, 0

    def expect(self, requests: Sequence[Request], sampling: Sampling) -> None:
        self.expected += 1
        self.backlog.expect(requests, sampling)
        self._work()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.backlog.ask(requests, sampling)
        self._work()
        return self.backlog.take(requests)

    def load(self, version: int) -> None:
        self.engine.load(version)

    def facts(self) -> Metrics:
        return {}

    def _work(self) -> None:
        while (unit := self.backlog.next()) is not None:
            self.backlog.answered(unit, self.engine.generate(unit.requests, unit.sampling))
        self.most = max(self.most, len(self.backlog.promised))


class Scores:
    """Digits are good; a few questions earn nothing whatever is said."""

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], completion_ids: Sequence[Sequence[int]]
    ) -> list[Reward]:
        totals = [
            0.0 if int(prompt.id.split(":")[1]) % 3 == 0 else sum(c.isdigit() for c in text) / 8
            for prompt, text in zip(prompts, completions, strict=True)
        ]
        return [Reward(total) for total in totals]


def assembled(objective: Objective, bound: int | None, plan: Plan = PLAN) -> tuple[Parts, Eager]:
    """With a bound, through `expect`; without, the engine alone."""
    actor = parts.policy()
    eager = Eager(LocalEngine(actor))
    collector = Collector(
        Sampler(eager, Scores(), actor.text.decode),
        [Encoded(prompt, actor.text.encode(prompt)) for prompt in parts.prompts(200)],
        Sampling(max_completion_length=8),
        prompts_per_step=plan.prompts_per_step,
        num_generations=plan.num_generations,
        seed=0,
        resample_rounds=objective.resample.rounds if objective.resample else 0,
        foreseeing=None if bound is None else eager,
        max_staleness=bound or 0,
    )
    reference = actor.frozen() if objective.kl else None
    learner = LocalLearner(actor, objective, reference=reference, learning_rate=1e-3)
    return Parts(plan, objective, collector, learner, eager, Warmup(), 0), eager


def run(made: Parts) -> list[Report]:
    return list(train(made, first_progress(made.objective, made.warmup)))


def weights(made: Parts) -> list[torch.Tensor]:
    assert isinstance(made.learner, LocalLearner)
    return [weight.detach() for weight in made.learner.policy.weights().values()]


def age(report: Report) -> int:
    """Of the oldest token that the step was trained on."""
    return report.step - 1 - min(rollout.completion.version for rollout in report.rollouts)


@pytest.mark.parametrize("objective", [grpo, dapo])
def test_expecting_the_step_itself_changes_nothing(objective: Objective) -> None:
    plain, _ = assembled(objective, None)
    ahead, eager = assembled(objective, 0)
    one, other = run(plain), run(ahead)
    assert eager.expected == PLAN.steps
    assert [r.text for a in one for r in a.rollouts] == [r.text for a in other for r in a.rollouts]
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(ahead), strict=True))
    assert {age(report) for report in other} == {0}


@pytest.mark.parametrize("bound", [1, 2, 4])
@pytest.mark.parametrize("objective", [grpo, dapo])
def test_no_answer_is_older_and_no_more_is_begun_than_allowed(objective: Objective, bound: int) -> None:
    made, eager = assembled(objective, bound, replace(PLAN, steps=8))
    reports = run(made)
    if objective is dapo:
        assert any(report.metrics["resampled_groups"] for report in reports)
    oldest = max(age(report) for report in reports)
    assert oldest == bound if objective is grpo else 1 <= oldest <= bound
    assert eager.most == (bound + 1) * PLAN.prompts_per_step * PLAN.num_generations


def test_a_run_that_ends_has_begun_nothing_more() -> None:
    made, eager = assembled(grpo, 4)
    run(made)
    assert not eager.backlog.promised


def test_questions_come_in_the_order_of_the_data_whoever_is_ahead() -> None:
    orders = [
        [r.prompt.id for report in run(assembled(grpo, bound)[0]) for r in report.rollouts] for bound in (None, 3)
    ]
    assert orders[0] == orders[1]


def test_started_again_it_loses_no_question_and_uses_none_twice() -> None:
    first, _ = assembled(grpo, 1)
    before = list(train(first, first_progress(grpo, first.warmup), until=3))
    again, _ = assembled(grpo, 1)
    rest = list(train(again, Progress(**before[-1].state)))
    used = Counter(r.prompt.id for report in (*before, *rest) for r in report.rollouts)
    whole = Counter(r.prompt.id for report in run(assembled(grpo, None)[0]) for r in report.rollouts)
    assert used == whole
    assert set(used.values()) == {PLAN.num_generations}


def test_rounds_keep_the_bound_and_their_judge_sees_fresh_answers() -> None:
    made, eager = assembled(grpo, 2, replace(PLAN, steps=6))
    seen: list[int] = []

    class Student:
        def learn(self, number: int) -> Metrics:
            asked = [Request((5, 6), (0, JUDGE, number, j)) for j in range(4)]
            seen.extend(done.version for done in eager.generate(asked, Sampling(max_completion_length=4)))
            return {}

    events = iterate(made, first_progress(grpo, made.warmup), Rounds(2), Reference(), Student())
    ages = [age(event) for event in events if isinstance(event, Report)]
    assert ages == [0, 1, 2, 2, 2, 2], "what was begun before a round's end is used after it"
    assert seen == [3] * 4 + [6] * 4


def test_stale_answers_are_weighed_and_their_distance_is_measured() -> None:
    """KL(pi_sampler || pi_old) = E log pi_sampler - log pi_old, on tokens that pi_sampler drew."""
    made, _ = assembled(replace(grpo, correction=TruncatedImportance()), 2)
    reports = run(made)
    for report in reports:
        batch = report.batch
        assert batch.logp_old is not None
        far = float((batch.logp_sampler - batch.logp_old)[batch.mask].mean())
        assert report.metrics["rollout_train_kl"] == pytest.approx(far, abs=1e-6)
        assert "sampling/importance_ratio" in report.metrics
    assert abs(reports[0].metrics["rollout_train_kl"]) < 1e-4
    assert reports[-1].metrics["rollout_train_kl"] > 1e-3
