"""What a step is measured by: TRL's names where the concept is the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from scoreline.objectives.objective import silent_groups
from scoreline.objectives.values import explained_variance
from scoreline.rollout.collect import Collection
from scoreline.train.schedule import Progress
from scoreline.types import Batch, Metrics, Rollout


def measure(gathered: Collection, batch: Batch, facts: Sequence[Metrics], progress: Progress) -> Metrics:
    """The metrics of one step. A name is absent where it does not apply, nan where nothing could be measured."""
    return {
        **rewards(gathered.rollouts),
        **steps(gathered.rollouts),
        "frac_reward_zero_std": silent_groups(batch),
        **lengths(gathered.rollouts),
        **averaged(facts),
        **sampler(batch, len(facts)),
        **critic(batch),
        **({} if progress.beta is None else {"beta": progress.beta}),
        "num_tokens": float(progress.tokens + gathered.sampled_tokens),
        "resampled_groups": float(gathered.resampled_groups),
        **gathered.seconds,
    }


def rewards(rollouts: Sequence[Rollout]) -> Metrics:
    """Mean and population std of the answers' scores and of each function's part; the share of answers that nothing
    could score, and of those that a function gave None.
    """
    scores = [r.reward.score for r in rollouts if r.reward.score is not None]
    each = [told(f"rewards/{name}", [r.reward.parts.get(name) for r in rollouts]) for name in rollouts[0].reward.parts]
    return {
        "reward": average(scores),
        "reward_std": deviation(scores),
        "frac_unscored": 1 - len(scores) / len(rollouts),
        **{name: value for one in each for name, value in one.items()},
    }


def told(name: str, parts: Sequence[float | None]) -> Metrics:
    """What a function gave: mean and std of its numbers, and how often it gave None."""
    known = [part for part in parts if part is not None]
    shares = {f"{name}/none": 1 - len(known) / len(parts)} if parts else {}
    return {f"{name}/mean": average(known), f"{name}/std": deviation(known), **shares}


def steps(rollouts: Sequence[Rollout]) -> Metrics:
    """Under process supervision: the mean reward of a step, what each function gave, steps an answer, and the share of
    answers without one.
    """
    names = {name for r in rollouts for name in r.reward.step_parts}
    if not names:
        return {}
    counts = [len(r.steps) for r in rollouts]
    parts = {name: [p for r in rollouts for p in r.reward.step_parts.get(name, ())] for name in sorted(names)}
    return {
        "step_reward": average(p for r in rollouts for p in r.reward.steps if p is not None),
        **{name: value for key in parts for name, value in told(f"step_rewards/{key}", parts[key]).items()},
        "steps/mean": fmean(counts),
        "steps/none": fmean(count == 0 for count in counts),
    }


def lengths(rollouts: Sequence[Rollout]) -> Metrics:
    """Tokens an answer, and the share of answers that the budget cut off."""
    counts = [len(r.completion.token_ids) for r in rollouts]
    return {
        "completions/mean_length": fmean(counts),
        "completions/min_length": float(min(counts)),
        "completions/max_length": float(max(counts)),
        "completions/clipped_ratio": fmean(r.completion.finish == "length" for r in rollouts),
    }


def averaged(facts: Sequence[Metrics]) -> Metrics:
    """The mean over the step's updates; skipped updates are summed."""
    means = {name: average(fact[name] for fact in facts) for name in facts[0]}
    summed = {name: sum(fact[name] for fact in facts) for name in means if name.startswith(("time/", "skipped"))}
    return means | summed


def sampler(batch: Batch, updates: int) -> Metrics:
    """|log pi_old - log pi_sampler| in nats and pi_old / pi_sampler (before any cap) over own tokens, TRL's names.

    Known where log pi_old was computed. Of a batch that was used for one update it is what that update saw, before its
    step; of several without a ratio it is not known.
    """
    old = batch.logp if batch.logp_old is None and updates == 1 else batch.logp_old
    if old is None or not bool(batch.mask.any()):
        return {}
    difference = (old - batch.logp_sampler)[batch.mask]
    ratio = difference.exp()
    return {
        "sampling/sampling_logp_difference/mean": float(difference.abs().mean()),
        "sampling/sampling_logp_difference/max": float(difference.abs().max()),
        "sampling/importance_sampling_ratio/min": float(ratio.min()),
        "sampling/importance_sampling_ratio/mean": float(ratio.mean()),
        "sampling/importance_sampling_ratio/max": float(ratio.max()),
        "rollout_train_kl": float(-difference.mean()),  # k1 of KL(pi_sampler || pi_old)
    }


def critic(batch: Batch) -> Metrics:
    """How much of the returns the critic foresaw."""
    if batch.values is None or batch.returns is None:
        return {}
    scored = batch.mask & batch.rewarded.any(1, keepdim=True)
    return {"value/explained_variance": explained_variance(batch.values, batch.returns, scored)}


def deviation(numbers: Sequence[float]) -> float:
    """The population standard deviation, nan of nothing."""
    mean = average(numbers)
    return math.sqrt(average((number - mean) ** 2 for number in numbers))


def average(numbers: Iterable[float]) -> float:
    """The mean, nan of nothing."""
    values = list(numbers)
    return fmean(values) if values else math.nan
