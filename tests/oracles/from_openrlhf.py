"""What OpenRLHF 0.11.2 answers: its losses and estimators, and the advantage methods of its experience maker.

Importing the package needs CUDA libraries. So its loss and utility modules load beside an empty stand-in for
deepspeed, and the methods of the experience maker are compiled from their source file.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inputs import (
    CRITIC,
    DIVERGENCE,
    EMPTY_ROW,
    FAR,
    GAE_PLAIN,
    GAE_TOOL,
    LOGP,
    LOGP_OLD,
    LOGP_REF,
    LOSSES,
    MASK,
    PLAIN,
    SCORES,
    SURROGATE,
    Case,
    case,
    gradient,
    tensor,
    wave,
)


def experience_maker(source: Path, compute_reward: Callable[..., Any]) -> dict[str, Any]:
    """The advantage methods of OpenRLHF's experience maker, compiled from its file without its imports."""
    wanted = {"compute_advantages_and_returns", "get_advantages_and_returns", "get_cumulative_returns"}
    found = [n for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.FunctionDef) and n.name in wanted]
    module = ast.fix_missing_locations(ast.Module(body=list(found), type_ignores=[]))
    scope: dict[str, Any] = {
        "torch": torch,
        "itertools": itertools,
        "compute_reward": compute_reward,
        "Experience": object,
    }
    scope |= {"Tuple": typing.Tuple, "List": typing.List, "apply_length_penalties": lambda *_: None}  # noqa: UP006
    exec(compile(module, str(source), "exec"), scope)
    return scope


root = Path(importlib.util.find_spec("openrlhf").submodule_search_locations[0])
sys.modules["deepspeed"] = types.ModuleType("deepspeed")
for name, folder in (("openrlhf", root), ("openrlhf.models", root / "models")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]
losses = importlib.import_module("openrlhf.models.loss")
utils = importlib.import_module("openrlhf.models.utils")
maker = experience_maker(root / "trainer/ppo_utils/experience_maker.py", utils.compute_reward)


def experience(estimator: str, scores: list[float], n: int, kl: torch.Tensor, **options: Any) -> Any:
    """One call of the library's own chain: reward shaping, per-token returns, normalisation."""
    size = len(scores)
    item = types.SimpleNamespace(
        rewards=torch.tensor(scores), index=list(range(size)), kl=kl, info={}, action_mask=options["mask"],
        values=options.get("values"), advantages=None, returns=None,
    )  # fmt: skip
    advantage = types.SimpleNamespace(estimator=estimator, gamma=1.0, lambd=options.get("lam", 1.0), no_std_norm=False)
    args = types.SimpleNamespace(
        rollout=types.SimpleNamespace(n_samples_per_prompt=n),
        algo=types.SimpleNamespace(advantage=advantage),
        reward=types.SimpleNamespace(clip_range=(-10, 10)),
    )
    me = types.SimpleNamespace(
        strategy=types.SimpleNamespace(args=args),
        kl_ctl=types.SimpleNamespace(value=options.get("beta", 0.0)),
        advantage_estimator=estimator,
    )
    for method in ("get_advantages_and_returns", "get_cumulative_returns"):
        setattr(me, method, types.MethodType(maker[method], me))
    return maker["compute_advantages_and_returns"](me, [item])[0]


def gae(inputs: Case) -> Case:
    rewards, values, mask = tensor(inputs, "rewards", "values", "mask")
    f = maker["get_advantages_and_returns"]
    advantages, returns = f(None, values, rewards, mask.long(), inputs["gamma"], inputs["lam"])
    return case(inputs, advantages=advantages * mask, returns=returns * mask)


def group(estimator: str) -> Case:
    inputs = {"scores": [*SCORES[:4], 2.0, -1.0, 0.25, 0.25], "group": [0] * 4 + [1] * 4, "mask": PLAIN + MASK[:1]}
    inputs["mask"] = [inputs["mask"][i % 4] for i in range(8)]
    (mask,) = tensor(inputs, "mask")
    made = experience(estimator, inputs["scores"], 4, torch.zeros_like(mask), mask=mask.long())
    return case(inputs, advantages=made.advantages * mask)


def shaped(estimator: str, beta: float) -> Case:
    mask, values = tensor({"mask": PLAIN, "values": wave(3, 5, 0.8, 0.5)}, "mask", "values")
    logp, ref = torch.tensor(LOGP[:3]), torch.tensor(LOGP_REF[:3])
    kl = utils.compute_approx_kl(logp, ref, kl_estimator="k1") * mask
    inputs = {"scores": [1.0, -0.5, 0.25], "mask": PLAIN, "values": values.tolist(), "beta": beta, "lam": 0.95}
    inputs |= {"logp": LOGP[:3], "logp_ref": LOGP_REF[:3]}
    made = experience(estimator, inputs["scores"], 1, kl, mask=mask.long(), values=values, beta=beta, lam=0.95)
    returns = made.returns * mask
    return case(inputs, advantages=made.advantages * mask, returns=returns)


def aggregate(inputs: Case) -> Case:
    matrix, mask = tensor(inputs, "losses", "mask")
    out = {name: float(losses.aggregate_loss(matrix, mask, flag)) for name, flag in (("token", True), ("seq", False))}
    return case(inputs, **out)


def policy(low: float, high: float, dual: float | None) -> Case:
    logp, old, advantages, mask = tensor(SURROGATE, "logp", "logp_old", "advantages", "mask")
    module = losses.PolicyLoss(low, high, dual)
    value, grad = gradient(lambda x: module(x, old, advantages, mask)[0], logp)
    return case({**SURROGATE, "low": low, "high": high, "dual": dual}, loss=value, gradient=grad)


def corrected(cap: float) -> Case:
    sampler = [[round(x - 0.9 + 0.4 * k, 3) for k, x in enumerate(row)] for row in LOGP_OLD]
    logp, old, advantages, mask = tensor(SURROGATE, "logp", "logp_old", "advantages", "mask")
    options = {"is_correction_level": "token", "is_correction_mode": "clip", "is_correction_threshold": [0.0, cap]}
    module = losses.PolicyLoss(0.2, 0.2, None, **options)
    value, grad = gradient(lambda x: module(x, old, advantages, mask, torch.tensor(sampler))[0], logp)
    inputs = {**SURROGATE, "logp_sampler": sampler, "cap": cap, "low": 0.2, "high": 0.2, "dual": None}
    return case(inputs, loss=value, gradient=grad)


def value(clip: float | None) -> Case:
    values, old, returns, mask = tensor(CRITIC, "values", "values_old", "returns", "mask")
    loss, grad = gradient(lambda x: losses.ValueLoss(clip)(x, old, returns, mask), values)
    return case({**CRITIC, "clip": clip}, loss=loss, gradient=grad)


def kl(inputs: Case) -> Case:
    logp, ref = tensor(inputs, "logp", "logp_ref")

    def estimate(name: str, unbiased: bool) -> dict[str, Any]:
        v, g = gradient(lambda x: utils.compute_approx_kl(x, ref, kl_estimator=name, unbiased_gradient=unbiased), logp)
        return {"value": v.tolist(), "gradient": g.tolist()}

    out = {name: estimate(name, False) for name in ("k1", "k2", "k3")}
    return case(inputs, **out, k3_unbiased=estimate("k3", True))


def cases() -> dict[str, Case]:
    return {
        "gae": gae(GAE_PLAIN),
        "gae_tool": gae(GAE_TOOL),
        "group_norm": group("group_norm"),
        "rloo": group("rloo"),
        "dr_grpo": group("dr_grpo"),
        "gae_whitened": shaped("gae", 0.05),
        "reinforce_whitened": shaped("reinforce", 0.05),
        "aggregate": aggregate(LOSSES),
        "aggregate_empty_row": aggregate(EMPTY_ROW),
        "policy": policy(0.2, 0.2, None),
        "policy_asymmetric": policy(0.2, 0.28, None),
        "policy_dual": policy(0.2, 0.2, 3.0),
        "policy_corrected": corrected(2.0),
        "value": value(0.2),
        "value_unclipped": value(None),
        "kl": kl(DIVERGENCE),
        "kl_far": kl(FAR),
    }
