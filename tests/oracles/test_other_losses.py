"""Losses and KL estimators of verl, TRL and OpenRLHF against ours, gradients included.

To 1e-5, or the documented difference by its number: docs/equations.md lists them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recorded import Case, agree, differ

from scoreline.models.policy import token_logprobs
from scoreline.objectives.aggregates import Aggregate, FixedLength, TokenMean
from scoreline.objectives.divergences import KL, AdaptiveBeta, divergence
from scoreline.objectives.objective import Objective, PolicyOutput
from scoreline.objectives.ratios import Clip, TruncatedImportance
from scoreline.objectives.values import ValueLoss
from scoreline.objectives.zoo import dapo, grpo
from scoreline.types import Batch

BOTH = pytest.mark.parametrize("library", ["verl", "openrlhf"])


def weighted(losses: torch.Tensor, mask: torch.Tensor, aggregate: Aggregate) -> torch.Tensor:
    return (aggregate(mask) * losses).sum()


# --- surrogates
@pytest.mark.parametrize(
    ("library", "name"),
    [(library, name) for library in ("verl", "openrlhf") for name in ("policy", "policy_asymmetric", "policy_dual")]
    + [("openrlhf", "policy_corrected")],
)
def test_policy_loss(library, name):
    case = Case(library, name)
    logp = case["logp"].requires_grad_()
    clip = Clip(case.inputs["low"], case.inputs["high"], case.inputs["dual"])
    losses = clip(logp, case["logp_old"], case["advantages"]).loss
    if name == "policy_corrected":
        losses = TruncatedImportance(case.inputs["cap"])(case["logp_old"], case["logp_sampler"]) * losses
    loss = weighted(losses, case.mask, TokenMean())
    agree(loss, case("loss"))
    agree(torch.autograd.grad(loss, logp)[0], case("gradient"))


def test_dual_clip_is_difference_14():
    # On by default in verl with c = 3; here only where the objective says so.
    plain, dual = (Case("verl", name) for name in ("policy", "policy_dual"))
    assert Clip().dual is None
    differ(plain("loss"), dual("loss"))


@BOTH
@pytest.mark.parametrize("name", ["value", "value_unclipped"])
def test_value_loss(library, name):
    case = Case(library, name)
    value = case["values"].requires_grad_()
    losses = ValueLoss(clip=case.inputs["clip"])(value, case["values_old"], case["returns"])
    loss = weighted(losses, case.mask, TokenMean())
    agree(loss, case("loss"))  # both halve the square: difference 19 is elsewhere
    agree(torch.autograd.grad(loss, value)[0], case("gradient"))


# --- divergences
@BOTH
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_unbiased"])
def test_kl_values_and_gradients(library, estimator):
    case = Case(library, "kl")
    logp = case["logp"].requires_grad_()
    kl = divergence(logp, case["logp_ref"], estimator)
    agree(kl.detach(), torch.tensor(case.outputs[estimator]["value"]))
    agree(torch.autograd.grad(kl.sum(), logp)[0], torch.tensor(case.outputs[estimator]["gradient"]))


@BOTH
def test_the_cap_of_k3_is_difference_11(library):
    # x = -3: 16.09 here, with its gradient 1 - exp(3); 10 and no gradient there.
    case = Case(library, "kl_far")
    logp = case["logp"].requires_grad_()
    kl = divergence(logp, case["logp_ref"], "k3")
    assert kl[0, 0].item() == pytest.approx(16.085537, abs=1e-4)
    assert torch.autograd.grad(kl.sum(), logp)[0][0, 0].item() == pytest.approx(-19.085537, abs=1e-4)
    assert case.outputs["k3"]["value"][0][0] == 10.0
    assert case.outputs["k3"]["gradient"][0][0] == 0.0
    agree(kl[0, 1].detach(), torch.tensor(case.outputs["k3"]["value"][0][1]))


def test_adaptive_beta():
    case = Case("verl", "beta")
    control = AdaptiveBeta(target=case.inputs["target"], horizon=case.inputs["horizon"])
    beta, seen = case.inputs["beta"], []
    for kl, n in case.inputs["steps"]:
        beta = control.next(beta, kl, n)
        seen.append(beta)
    assert seen == pytest.approx(case.outputs["betas"])


# --- TRL's whole losses
def trl_loss(objective: Objective, case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Our loss of TRL's batch, and its gradient by log pi."""
    mask, n = case.mask, 6
    batch = Batch(
        prompts=torch.ones(n, 1, dtype=torch.long),
        prompt_length=torch.ones(n, dtype=torch.long),
        completions=torch.ones(n, 5, dtype=torch.long),
        length=mask.sum(1),
        mask=mask,
        group=torch.zeros(n, dtype=torch.long),
        rewards=torch.zeros(n, 5),
        rewarded=mask,
        truncated=torch.zeros(n, dtype=torch.bool),
        logp_sampler=case["logp_old"],
        logp_old=case["logp_old"],
        logp_ref=case["logp_ref"],
        advantages=case["advantages"][:, None] * mask,
        weights=objective.aggregate(mask),
    )
    logp = case["logp"].requires_grad_()
    loss = objective.loss(batch, PolicyOutput(logp)).total
    return loss, torch.autograd.grad(loss, logp)[0]


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("loss_grpo", replace(grpo, kl=None)),
        ("loss_bnpo", dapo),
        ("loss_dapo", dapo),
        ("loss_dr_grpo", replace(grpo, kl=None, aggregate=FixedLength(8))),
        ("loss_kl", grpo),
        ("loss_delta", replace(grpo, kl=None, surrogate=Clip(dual=3.0))),  # its `delta` is a dual clip
    ],
)
def test_trl_loss(name, objective):
    case = Case("trl", name)
    loss, gradient = trl_loss(objective, case)
    agree(loss, case("loss"))
    agree(gradient, case("gradient"))


def test_trl_weighs_k3_by_the_ratio_difference_12():
    # Its default multiplies k3 by pi / pi_old, gradient and all. Where the ratio is 1 that is our k3_unbiased; on
    # this batch, where it is not, it is neither of ours.
    case = Case("trl", "loss_kl_corrected")
    for estimator in ("k3", "k3_unbiased"):
        differ(trl_loss(replace(grpo, kl=KL(0.04, estimator)), case)[1] * 100, case("gradient") * 100)
    logp, ref = case["logp"].requires_grad_(), case["logp_ref"]
    corrected = divergence(logp, ref, "k3") * (logp - logp.detach()).exp()
    agree(
        torch.autograd.grad(corrected.sum(), logp)[0],
        torch.autograd.grad(divergence(logp, ref, "k3_unbiased").sum(), logp)[0],
    )


def test_log_probabilities_and_entropy():
    case = Case("trl", "logits")
    logp, entropy = token_logprobs(case["logits"].flatten(0, 1), case["index"].flatten())
    agree(logp, case("logp").flatten())
    agree(entropy, case("entropy").flatten())
