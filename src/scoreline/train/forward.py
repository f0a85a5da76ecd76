"""What the models of a learner say of answers: log pi, H, V with a gradient, and the columns of a batch without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from scoreline.models.critic import Critic, split_values
from scoreline.models.policy import Policy
from scoreline.objectives.objective import PolicyOutput
from scoreline.train.collate import trim
from scoreline.train.portions import Portions
from scoreline.train.ranks import Outputs, Ranks, SumPrecision, Within
from scoreline.types import Batch


@dataclass(frozen=True)
class Forward:
    """The passes of policy, reference and critic at one temperature, over weights that the ranks may share."""

    policy: Policy
    reference: Policy | None
    critic: Critic | None
    temperature: float
    learning: Within
    """Computes with the weights of the policy and its critic."""
    judging: Within
    """Computes with those of the reference."""

    @classmethod
    def over(
        cls,
        ranks: Ranks,
        policy: Policy,
        reference: Policy | None,
        critic: Critic | None,
        temperature: float,
        sums: SumPrecision = "fp32",
    ) -> Forward:
        """The passes, with the models' weights dealt to the ranks."""
        learning = ranks.shard([policy.model] if critic is None else [policy.model, critic], sums)
        judging = learning if reference is None else ranks.shard([reference.model], sums)
        return cls(policy, reference, critic, temperature, learning, judging)

    def output(self, micro: Batch, *, entropy_gradient: bool, last: bool = True) -> PolicyOutput:
        """What the loss is made of; `last` where the gradient of this portion completes the sum of all."""

        def compute() -> Outputs:
            states = self.policy.states(micro)
            logp, entropy = self.policy.logprobs(
                states, micro, temperature=self.temperature, entropy_gradient=entropy_gradient
            )
            return logp, entropy, None if self.critic is None else split_values(self.critic(micro, states), micro)[0]

        logp, entropy, values = self.learning(compute, last)
        assert logp is not None
        return PolicyOutput(logp, entropy, values)

    def columns(self, micro: Batch, passes: frozenset[str]) -> dict[str, Tensor]:
        """`logp_old`, `logp_ref`, `values` and `value_end`, as far as `passes` asks for them."""
        found: dict[str, Tensor | None] = {}
        with self.policy.compute():
            if passes & {"logp_old", "values"}:
                said = self.learning(lambda: self._own(micro, passes))
                found |= dict(zip(("logp_old", "values", "value_end"), said, strict=True))
            if "logp_ref" in passes and self.reference is not None:
                (found["logp_ref"],) = self.judging(lambda: self._reference(micro))
        return {name: column for name, column in found.items() if column is not None}

    def _own(self, micro: Batch, passes: frozenset[str]) -> Outputs:
        logp = values = end = states = None
        shared = self.critic is not None and self.critic.trunk is None
        if "logp_old" in passes or shared:
            states = self.policy.states(micro)
        if "logp_old" in passes and states is not None:
            logp = self.policy.logprobs(states, micro, temperature=self.temperature)[0]
        if "values" in passes and self.critic is not None:
            values, end = split_values(self.critic(micro, states), micro)
        return logp, values, end

    def _reference(self, micro: Batch) -> Outputs:
        assert self.reference is not None
        return (self.reference.logprobs(self.reference.states(micro), micro, temperature=self.temperature)[0],)


def micro_batches(batch: Batch, portions: Portions, ranks: Ranks) -> Iterator[tuple[Tensor, Batch, bool]]:
    """The rows of each portion, those rows, and whether it is the last; then, where other ranks have more portions, no
    rows and an idle one.

    Every rank makes as many passes as the one with the most.
    """
    mine = list(portions.cut(batch))
    passes = ranks.most(len(mine))
    for number, rows in enumerate(mine, start=1):
        yield rows, trim(batch.rows(rows)), number == passes
    for number in range(len(mine) + 1, passes + 1):
        yield torch.arange(0, device=batch.length.device), idle(batch), number == passes


def idle(batch: Batch) -> Batch:
    """A row that weighs nothing, so that its gradient is zero: the shortest of the batch, or a token where it has none.

    Its facts count nowhere.
    """
    if len(batch):
        shortest = (batch.prompt_length + batch.length).argmin(keepdim=True)
        row = trim(batch.rows(shortest))
    else:
        columns = {f.name: getattr(batch, f.name) for f in fields(batch)}
        row = replace(
            batch, **{n: c.new_zeros(1, *(1 for _ in c.shape[1:])) for n, c in columns.items() if c is not None}
        )
        one = torch.ones_like(row.length)
        row = replace(row, prompt_length=one, length=one, mask=torch.ones_like(row.mask))
    return row if row.weights is None else replace(row, weights=torch.zeros_like(row.weights))
