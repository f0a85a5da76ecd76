"""The loop on a real engine: what it yields, dynamic sampling, adaptive beta, the critic's warm-up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from scoreline.objectives.divergences import KL, AdaptiveBeta
from scoreline.objectives.objective import Objective, Resample
from scoreline.objectives.zoo import ZOO, dapo, grpo, ppo
from scoreline.rollout.collect import Collector, Encoded, Sampler, order
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train import loop
from scoreline.train.learner import LocalLearner
from scoreline.train.loop import Parts, train
from scoreline.train.plan import Plan
from scoreline.train.schedule import Progress, Warmup, first_progress
from scoreline.types import Prompt, Report, Reward
from tests import parts
from tests.parts import Policy

Score = Callable[[Prompt, str], float | None]


class Scores:
    """A reward function in this process."""

    def __init__(self, score: Score) -> None:
        self.of = score

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], completion_ids: Sequence[Sequence[int]]
    ) -> list[Reward]:
        values = [self.of(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        return [Reward(value, {"of": value}) for value in values]


def digits(prompt: Prompt, text: str) -> float:
    return sum(c.isdigit() for c in text) / 8


def assembled(objective: Objective, *, score: Score = digits, warmup: Warmup | None = None, **plan: int) -> Parts:
    actor = parts.policy()
    engine = LocalEngine(actor)
    shape = Plan(**{"steps": 3, "prompts_per_step": 4, "num_generations": 4, "minibatches": 2, **plan})  # type: ignore[arg-type]
    collector = Collector(
        Sampler(engine, Scores(score), actor.text.decode),
        [Encoded(prompt, actor.text.encode(prompt)) for prompt in parts.prompts(10)],
        Sampling(max_completion_length=8),
        prompts_per_step=shape.prompts_per_step,
        num_generations=shape.num_generations,
        seed=0,
        resample_rounds=objective.resample.rounds if objective.resample else 0,
    )
    return Parts(shape, objective, collector, learner(actor, objective), engine, warmup or Warmup(), 0)


def learner(actor: Policy, objective: Objective) -> LocalLearner:
    from scoreline.models.critic import CriticConfig, make_critic

    critic = make_critic(CriticConfig(), actor) if objective.value else None
    reference = actor.frozen() if objective.kl else None
    return LocalLearner(actor, objective, reference=reference, critic=critic, learning_rate=1e-3)


def run(made: Parts) -> list[Report]:
    return list(train(made, first_progress(made.objective, made.warmup)))


@pytest.mark.parametrize("name", [n for n in ZOO if n != "dr_grpo"])
def test_every_algorithm_runs_through_the_one_loop(name: str) -> None:
    reports = run(assembled(ZOO[name]))
    assert [r.step for r in reports] == [1, 2, 3]
    for report in reports:
        assert report.metrics["skipped_updates"] == 0
        assert len(report.rollouts) == 16
        assert report.state == asdict(Progress(**report.state))
    assert reports[-1].state["updates"] == 6
    assert ("kl" in reports[0].metrics) == (ZOO[name].kl is not None)
    assert ("value/explained_variance" in reports[0].metrics) == (ZOO[name].value is not None)


@pytest.mark.parametrize("name", [n for n in ZOO if n != "dr_grpo"])
def test_one_update_a_batch_tells_sampler_from_learner_without_a_pass_of_its_own(name: str) -> None:
    """The engine is the learner's own model: what they differ by is rounding, after updates too."""
    made = assembled(ZOO[name], minibatches=1)
    assert ("logp_old" in made.objective.passes(updates=1)) == (name in ("ppo", "rloo")), "for the KL in the reward"
    for report in run(made):
        assert (report.batch.logp_old is not None) == (name in ("ppo", "rloo"))
        assert report.metrics["sampling/sampling_logp_difference/max"] < 1e-4
        assert report.metrics["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-5)


def test_the_loop_is_short_and_does_not_log() -> None:
    lines = inspect.getsource(train).splitlines()
    assert len(lines) <= 60
    assert not [line for line in lines if "print" in line or "log" in line.replace("logp", "")]
    assert "print(" not in inspect.getsource(loop)


def test_started_again_from_its_state_it_goes_on_the_same() -> None:
    whole = run(assembled(grpo))
    made = assembled(grpo)
    first = next(train(made, first_progress(made.objective, made.warmup)))
    rest = list(train(made, Progress(**first.state)))
    assert [r.metrics["reward"] for r in rest] == [r.metrics["reward"] for r in whole[1:]]
    assert [r.text for r in rest[-1].rollouts] == [r.text for r in whole[-1].rollouts]


def test_an_epoch_shows_every_prompt_once() -> None:
    made = assembled(grpo, steps=5, prompts_per_step=4)
    seen = [r.prompt.id for report in run(made) for r in report.rollouts[:: made.plan.num_generations]]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == sorted(p.id for p in parts.prompts(10))
    assert list(order(0, 0, 10)) != list(order(0, 1, 10))


def test_silent_groups_are_sampled_again_within_the_bound() -> None:
    """Prompts with an even answer pay everybody the same; the others pay by digits."""

    def score(prompt: Prompt, text: str) -> float:
        return 1.0 if int(prompt.columns["answer"]) % 2 == 0 else digits(prompt, text)

    reports = run(assembled(replace(dapo, resample=Resample(rounds=8)), score=score))
    assert all(report.metrics["frac_reward_zero_std"] == 0 for report in reports)
    assert sum(report.metrics["resampled_groups"] for report in reports) > 0
    without = run(assembled(replace(dapo, resample=None), score=score))
    assert max(report.metrics["frac_reward_zero_std"] for report in without) > 0


def test_resampling_gives_up_after_its_bound_and_says_so() -> None:
    made = assembled(replace(dapo, resample=Resample(rounds=2)), score=lambda prompt, text: 1.0)
    before = [p.detach().clone() for p in made.learner.policy.model.parameters()]  # type: ignore[attr-defined]
    report = run(made)[0]
    assert report.metrics["frac_reward_zero_std"] == 1.0
    assert report.metrics["resampled_groups"] == 8
    assert report.state["cursor"] == 12
    after = list(made.learner.policy.model.parameters())  # type: ignore[attr-defined]
    assert all((a == b).all() for a, b in zip(after, before, strict=True)), "no signal, no KL: nothing moves"


def test_rows_that_nothing_can_score_teach_nothing() -> None:
    report = run(assembled(grpo, score=lambda prompt, text: None))[0]
    assert report.batch.advantages is not None
    assert not report.batch.advantages.any()
    assert report.metrics["reward"] != report.metrics["reward"], "nan: there is no mean of no rewards"


def test_beta_adapts_towards_its_target() -> None:
    far = KL(beta=0.1, estimator="k3", into="loss", adapt=AdaptiveBeta(target=1e-6, horizon=16))
    reports = run(assembled(replace(grpo, kl=far)))
    betas = [report.metrics["beta"] for report in reports]
    assert betas == sorted(betas)
    assert betas[-1] > betas[0]


def test_beta_follows_its_schedule() -> None:
    made = assembled(grpo)
    made = replace(made, plan=replace(made.plan, beta_schedule="linear"))
    assert [r.metrics["beta"] for r in run(made)] == pytest.approx([0.04, 0.04 * 2 / 3, 0.04 / 3])


def test_the_policy_is_held_while_the_critic_warms_up() -> None:
    reports = run(assembled(ppo, warmup=Warmup(steps=2, explained_variance=2.0), steps=4))
    assert [report.state["holding"] for report in reports] == [True, False, False, False]
    assert reports[1].metrics["kl"] == pytest.approx(0.0, abs=1e-9)
    assert reports[3].metrics["kl"] > 1e-6


def test_a_good_critic_ends_the_warm_up_early() -> None:
    reports = run(assembled(ppo, warmup=Warmup(steps=3, explained_variance=-100.0), steps=2))
    assert not reports[0].state["holding"]


def test_a_report_has_what_the_last_update_of_each_row_saw() -> None:
    made = assembled(grpo, steps=1, num_iterations=2)
    batch = run(made)[0].batch
    assert batch.logp is not None
    assert batch.logp_old is not None
    assert batch.weights is not None
    assert float(batch.weights.sum()) == pytest.approx(2.0), "two updates a pass, of weight one each"
    assert not batch.logp[~batch.mask].any()
    moved = (batch.logp - batch.logp_old).abs().sum(1)
    assert float(moved.min()) > 0, "every row was used twice, the second time after the weights had moved"
    single = assembled(grpo, steps=1)
    once = run(single)[0].batch
    *_, (last, mini) = single.plan.updates(once, grpo.aggregate, seed=0, step=0)
    assert once.logp is not None
    assert once.logp_old is not None
    first = once.mask.index_fill(0, last, False)
    assert len(mini) == int(len(once) / 2)
    assert (once.logp - once.logp_old)[first].abs().max() < 1e-5, "nothing had moved yet"
    assert (once.logp - once.logp_old)[last].abs().max() > 1e-4


def test_a_budget_of_tokens_ends_after_the_step_that_spends_it() -> None:
    whole = run(assembled(grpo, steps=6))
    tokens = [int(report.metrics["num_tokens"]) for report in whole]
    short = run(assembled(grpo, steps=6, max_tokens=tokens[2]))
    assert [report.metrics["num_tokens"] for report in short] == tokens[:3]
    just_more = run(assembled(grpo, steps=6, max_tokens=tokens[2] + 1))
    assert len(just_more) == 4


def test_under_a_budget_of_tokens_it_goes_on_from_its_state_the_same() -> None:
    told = {"steps": 50, "max_tokens": 400}
    whole = run(assembled(grpo, **told))
    made = assembled(grpo, **told)
    assert len(whole) > 2
    first = next(train(made, first_progress(made.objective, made.warmup)))
    rest = list(train(made, Progress(**first.state)))
    assert [r.metrics["reward"] for r in rest] == [r.metrics["reward"] for r in whole[1:]]
    assert list(train(made, Progress(**rest[-1].state))) == [], "what is spent stays spent"


def test_a_critic_is_frozen_after_its_steps_and_the_policy_moves_on() -> None:
    made = assembled(ppo, warmup=Warmup(freeze_after=2), steps=4)
    actor, critic = made.learner.policy, made.learner.critic  # type: ignore[attr-defined]
    heads, policies = [], []
    for _ in train(made, first_progress(made.objective, made.warmup)):
        heads.append(critic.head.weight.detach().clone())
        policies.append(next(actor.model.parameters()).detach().clone())
    assert [bool((a != b).any()) for a, b in pairwise(heads)] == [True, False, False]
    assert [bool((a != b).any()) for a, b in pairwise(policies)] == [True, True, True]


def test_a_resumed_run_knows_that_its_critic_is_frozen() -> None:
    made = assembled(ppo, warmup=Warmup(freeze_after=1), steps=4)
    reports = train(made, first_progress(made.objective, made.warmup))
    progress = Progress(**[next(reports), next(reports)][-1].state)
    before = made.learner.critic.head.weight.detach().clone()  # type: ignore[attr-defined]
    next(train(made, progress))
    assert bool((made.learner.critic.head.weight == before).all())  # type: ignore[attr-defined]
