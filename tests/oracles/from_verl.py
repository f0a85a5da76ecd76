"""What verl 0.9.1 answers: `verl.trainer.ppo.core_algos`, called as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from inputs import (
    CRITIC,
    DIVERGENCE,
    EMPTY_ROW,
    FAR,
    GAE_PLAIN,
    GAE_TOOL,
    GROUPS,
    LOSSES,
    SURROGATE,
    Case,
    at_end,
    case,
    gradient,
    tensor,
)
from verl.trainer.ppo import core_algos as c
from verl.utils.torch_functional import masked_whiten
from verl.workers.config import ActorConfig


def gae(inputs: Case) -> Case:
    rewards, values, mask = tensor(inputs, "rewards", "values", "mask")
    white, returns = c.compute_gae_advantage_return(rewards, values, mask, inputs["gamma"], inputs["lam"])
    return case(inputs, advantages=(returns - values) * mask, whitened=white * mask, returns=returns * mask)


def group(f: Callable[..., Any], inputs: Case, **options: Any) -> Case:
    (mask,) = tensor(inputs, "mask")
    index = np.array(inputs["group"])
    advantages, _ = f(at_end(inputs["scores"], inputs["mask"]), mask, index=index, **options)
    return case({**inputs, **options}, advantages=advantages)


def aggregate(inputs: Case) -> Case:
    losses, mask = tensor(inputs, "losses", "mask")
    modes = ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
    out = {mode: float(c.agg_loss(losses, mask, mode)) for mode in modes}
    out["seq-mean-token-sum-norm, 512"] = float(c.agg_loss(losses, mask, modes[3], loss_scale_factor=512))
    return case(inputs, **out)


def policy(low: float, high: float, dual: float) -> Case:
    batch = {"strategy": "fsdp", "rollout_n": 1, "ppo_micro_batch_size_per_gpu": 1, "ppo_mini_batch_size": 2}
    config = ActorConfig(clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=dual, **batch)
    logp, old, advantages, mask = tensor(SURROGATE, "logp", "logp_old", "advantages", "mask")
    vanilla = c.compute_policy_loss_vanilla
    loss, grad = gradient(lambda x: vanilla(old, x, advantages, mask, "token-mean", config)[0], logp)
    return case({**SURROGATE, "low": low, "high": high, "dual": dual}, loss=loss, gradient=grad)


def value(clip: float) -> Case:
    values, old, returns, mask = tensor(CRITIC, "values", "values_old", "returns", "mask")
    loss, grad = gradient(lambda x: c.compute_value_loss(x, returns, old, mask, clip)[0], values)
    return case({**CRITIC, "clip": clip}, loss=loss, gradient=grad)


def kl(inputs: Case) -> Case:
    logp, ref = tensor(inputs, "logp", "logp_ref")
    named = {"k1": "k1", "k2": "k2", "k3": "k3", "k3_unbiased": "k3+"}
    pairs = {ours: gradient(lambda x, k=theirs: c.kl_penalty(x, ref, k), logp) for ours, theirs in named.items()}
    return case(inputs, **{k: {"value": v.tolist(), "gradient": g.tolist()} for k, (v, g) in pairs.items()})


def beta() -> Case:
    inputs = {"beta": 0.2, "target": 6.0, "horizon": 10_000, "steps": [[3.0, 256], [5.5, 256], [6.0, 64], [40.0, 512]]}
    control = c.AdaptiveKLController(inputs["beta"], inputs["target"], inputs["horizon"])
    seen = []
    for current, n in inputs["steps"]:
        control.update(current, n)
        seen.append(float(control.value))
    return case(inputs, betas=seen)


def cases() -> dict[str, Case]:
    values, mask = tensor(LOSSES, "losses", "mask")
    alone = {"scores": [0.7], "group": [0], "mask": [[1, 1]]}
    winner = {"scores": [1.0, 0.0, 0.0, 0.0], "group": [0] * 4, "mask": [[1]] * 4}
    constant = {"scores": [0.1] * 8, "group": [0] * 8, "mask": [[1]] * 8}
    return {
        "gae": gae(GAE_PLAIN),
        "gae_tool": gae(GAE_TOOL),
        "whiten": case(LOSSES, whitened=masked_whiten(values, mask) * mask),
        "group_std": group(c.compute_grpo_outcome_advantage, GROUPS, epsilon=1e-6),
        "group_std_winner": group(c.compute_grpo_outcome_advantage, winner, epsilon=1e-6),
        "group_std_alone": group(c.compute_grpo_outcome_advantage, alone, epsilon=1e-6),
        "group_std_constant": group(c.compute_grpo_outcome_advantage, constant, epsilon=1e-6),
        "group_mean": group(c.compute_grpo_outcome_advantage, GROUPS, norm_adv_by_std_in_grpo=False),
        "leave_one_out": group(c.compute_rloo_outcome_advantage, GROUPS),
        "leave_one_out_alone": group(c.compute_rloo_outcome_advantage, alone),
        "aggregate": aggregate(LOSSES),
        "aggregate_empty_row": aggregate(EMPTY_ROW),
        "policy": policy(0.2, 0.2, 100.0),
        "policy_asymmetric": policy(0.2, 0.28, 100.0),
        "policy_dual": policy(0.2, 0.2, 3.0),
        "value": value(0.2),
        "value_unclipped": value(1e9),
        "kl": kl(DIVERGENCE),
        "kl_far": kl(FAR),
        "beta": beta(),
    }
