"""An algorithm is a value: one slot for each symbol of the formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scoreline.errors import ObjectiveError
from scoreline.objectives.aggregates import Aggregate, FixedLength, SequenceMean, SequenceSum, TokenMean
from scoreline.objectives.divergences import KL, EntropyBonus, divergence
from scoreline.objectives.groups import GroupNorm, LeaveOneOut, group_constant
from scoreline.objectives.ratios import Clip, LogProb, Surrogate, Terms, TruncatedImportance
from scoreline.objectives.returns import GAE, ToGo, Total, Whiten
from scoreline.objectives.signal import Credit, Signal
from scoreline.objectives.values import ValueLoss
from scoreline.types import Batch

# The parts that a recipe can name. From Python any object that fits the protocol will do.
CreditPart = GroupNorm | LeaveOneOut | Total | ToGo | GAE | Whiten
SurrogatePart = LogProb | Clip
AggregatePart = TokenMean | SequenceMean | SequenceSum | FixedLength


@dataclass(frozen=True)
class Resample:
    """Groups whose rewards are all equal are sampled again with new prompts, at most `rounds` times a step.

    DAPO's dynamic sampling (2503.14476, section 3.2), with a bound: what is still silent after the last round stays
    and gets zero advantage.
    """

    rounds: int = 3

    formula: ClassVar[str] = "sample again while std(r) = 0, at most `rounds` times"
    source: ClassVar[str] = "DAPO, arXiv 2503.14476, section 3.2"


@dataclass(frozen=True)
class PolicyOutput:
    """What the learner's forward pass gives: log pi, and entropy and V where they are needed. All [n, t]."""

    logp: Float[Tensor, "n t"]
    entropy: Float[Tensor, "n t"] | None = None
    values: Float[Tensor, "n t"] | None = None


@dataclass(frozen=True)
class Loss:
    """The scalar to differentiate, its parts, and per-token facts summed over own tokens (divide by their number)."""

    total: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    sums: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    """Minimise  sum_it w_it [ c_it f(log pi, log pi_old, A)_it + beta KL_it + v (V - R)^2_it - e H_it ].

    `credit` turns rewards into A once a batch, `surrogate` is f, `aggregate` is w, `correction` is c. Tensors are
    [n, t]. `Objective(...).needs` tells the loop which passes to make, so the loop never asks which algorithm it runs.
    """

    credit: tuple[CreditPart | Credit, ...]
    surrogate: SurrogatePart | Surrogate
    aggregate: AggregatePart | Aggregate
    kl: KL | None = None
    value: ValueLoss | None = None
    correction: TruncatedImportance | None = None
    entropy: EntropyBonus | None = None
    resample: Resample | None = None

    def __post_init__(self) -> None:
        refuse_footguns(self)

    @property
    def needs(self) -> frozenset[str]:
        """The columns that the batch must have beyond sampling: a subset of logp_ref, values, logp_old."""
        return self.passes(updates=2)

    def passes(self, updates: int) -> frozenset[str]:
        """What `needs` leaves to compute when a batch is used for so many updates.

        In the first update pi_old is pi itself, so a batch that is used once needs no pass for log pi_old, unless the
        correction or a KL in the reward asks for it before the update.
        """
        early = self.correction is not None or (self.kl is not None and self.kl.into == "reward")
        wanted = {
            "logp_ref": self.kl is not None,
            "values": self.value is not None,
            "logp_old": early or (self.surrogate.ratios and updates > 1),
        }
        return frozenset(name for name, needed in wanted.items() if needed)

    @property
    def grouped(self) -> bool:
        """Whether the score line is other answers to the same question, so that one answer a question is not enough."""
        return any(getattr(part, "grouped", False) for part in self.credit)

    @torch.no_grad()
    def estimate(self, batch: Batch, beta: float | None = None) -> Batch:
        """The batch with advantages A and, where a critic learns, returns R. `beta` replaces the KL's own."""
        signal = Signal(
            rewards=batch.rewards,
            rewarded=batch.rewarded,
            mask=batch.mask,
            group=batch.group,
            penalty=self._penalty(batch, beta),
            values=batch.values,
            value_end=batch.value_end,
            truncated=batch.truncated,
        )
        returns = None if self.value is None else self.value.target(signal)
        for part in self.credit:
            signal = part(signal)
        scored = _scored(batch)
        return replace(batch, advantages=signal.rewards * (batch.mask & scored), returns=returns)

    def loss(self, batch: Batch, policy: PolicyOutput, beta: float | None = None) -> Loss:
        """The weighted sum over some rows of an optimiser step. Losses of disjoint rows add up to the step's loss."""
        assert batch.weights is not None
        assert batch.advantages is not None
        old = policy.logp.detach() if batch.logp_old is None else batch.logp_old
        terms = self.surrogate(policy.logp, old, batch.advantages)
        parts = {"policy": self._corrected(terms, batch, old)}
        if self.kl is not None and self.kl.into == "loss":
            assert batch.logp_ref is not None
            strength = self.kl.beta if beta is None else beta
            parts["kl"] = strength * divergence(policy.logp, batch.logp_ref, self.kl.estimator)
        if self.value is not None:
            assert policy.values is not None
            assert batch.values is not None
            assert batch.returns is not None
            parts["value"] = self.value(policy.values, batch.values, batch.returns) * _scored(batch)
        if self.entropy is not None:
            assert policy.entropy is not None
            parts["entropy"] = -self.entropy.coefficient * policy.entropy
        summed = {name: (batch.weights * part.where(batch.mask, 0.0)).sum() for name, part in parts.items()}
        return Loss(torch.stack(list(summed.values())).sum(), summed, self._sums(batch, policy, terms))

    def _penalty(self, batch: Batch, beta: float | None) -> Tensor | None:
        if self.kl is None or self.kl.into != "reward":
            return None
        assert batch.logp_old is not None
        assert batch.logp_ref is not None
        strength = self.kl.beta if beta is None else beta
        return strength * divergence(batch.logp_old, batch.logp_ref, self.kl.estimator) * (batch.mask & _scored(batch))

    def _corrected(self, terms: Terms, batch: Batch, old: Tensor) -> Tensor:
        return terms.loss if self.correction is None else self.correction(old, batch.logp_sampler) * terms.loss

    def _sums(self, batch: Batch, policy: PolicyOutput, terms: Terms) -> dict[str, Tensor]:
        facts = dict(terms.stats)
        if policy.entropy is not None:
            facts["entropy"] = policy.entropy
        if batch.logp_ref is not None:
            facts["kl"] = divergence(policy.logp, batch.logp_ref, "k3")
        if self.correction is not None and batch.logp_old is not None:
            facts["sampling/importance_ratio"] = self.correction(batch.logp_old, batch.logp_sampler)
        return {name: fact.detach().where(batch.mask, 0.0).sum() for name, fact in facts.items()}


def silent_groups(batch: Batch) -> float:
    """The share of groups whose rewards are all equal: they teach nothing (TRL's `frac_reward_zero_std`)."""
    constant = group_constant(batch.rewards, batch.rewarded, batch.group)
    seen = torch.zeros(int(batch.group.max()) + 1).index_fill(0, batch.group.cpu(), 1.0)
    return float(torch.zeros_like(seen).index_fill(0, batch.group[constant].cpu(), 1.0).sum() / seen.sum())


def _scored(batch: Batch) -> Tensor:
    """Rows that some function could score; the others teach nothing, whatever the critic or the KL say of them."""
    return batch.rewarded.any(1, keepdim=True)


def refuse_footguns(objective: Objective) -> None:
    """Combinations that run and learn something else than their names say."""
    kl, credit = objective.kl, objective.credit
    if kl is not None and kl.into == "loss" and kl.estimator == "k1":
        raise ObjectiveError(
            "KL estimator k1 in the loss carries no KL signal: grad log pi has mean zero, so beta would do nothing.",
            got="kl = KL(estimator='k1', into='loss')",
            accepted="k2, k3 or k3_unbiased in the loss; k1 in the reward",
            todo="set objective.kl.estimator='k3', or objective.kl.into='reward'.",
        )
    if objective.value is None and any(isinstance(part, GAE) for part in credit):
        raise ObjectiveError(
            "GAE needs a critic, and nothing trains one.",
            got="credit with GAE, value = None",
            accepted="GAE together with value = ValueLoss(...)",
            todo="add a value loss, or use ToGo() or a group baseline as credit.",
        )
    group = next((i for i, part in enumerate(credit) if getattr(part, "grouped", False)), None)
    total = next((i for i, part in enumerate(credit) if isinstance(part, Total)), None)
    if group is not None and kl is not None and kl.into == "reward" and (total is None or total > group):
        raise ObjectiveError(
            "A KL in the reward sits on every token, so the group baseline would not see it.",
            got="kl.into='reward' with a group baseline",
            accepted="Total() in front of the group baseline, or the KL in the loss",
            todo="set objective.kl.into='loss', or credit = (Total(), LeaveOneOut(), ToGo()).",
        )
