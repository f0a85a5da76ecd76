"""theta <- theta - eta grad: the learner on one device."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scoreline.models.critic import Critic, split_values
from scoreline.models.loading import load_causal_lm
from scoreline.models.policy import Policy
from scoreline.objectives.objective import Loss, Objective, PolicyOutput
from scoreline.train.collate import trim, untrim
from scoreline.train.supervised import restore_state, save_state
from scoreline.types import Batch, Metrics

OPTIMIZER, REFERENCE = "optimizer.safetensors", "reference.safetensors"


@dataclass(frozen=True)
class Update:
    """What one optimiser update is told: beta, the factor on the learning rates, and whether the policy holds still."""

    beta: float | None = None
    lr_factor: float = 1.0
    hold_policy: bool = False


class Learner(Protocol):
    """Annotate a batch with what its models say, update them, save and restore them."""

    @property
    def device(self) -> torch.device: ...

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch: ...

    def update(self, batch: Batch, told: Update) -> Metrics: ...

    def refresh(self, mix: float) -> None: ...

    def save(self, folder: Path) -> None: ...

    def restore(self, folder: Path) -> None: ...


class LocalLearner:
    """Policy, reference and critic in this process, with AdamW over fp32 master weights."""

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        *,
        reference: Policy | None = None,
        critic: Critic | None = None,
        learning_rate: float = 1e-6,
        critic_learning_rate: float = 1e-5,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        micro_batch_size: int = 16,
        temperature: float = 1.0,
    ) -> None:
        self.policy, self.objective, self.reference, self.critic = policy, objective, reference, critic
        self.micro_batch_size, self.temperature, self.max_grad_norm = micro_batch_size, temperature, max_grad_norm
        self.groups = {"policy": list(policy.model.parameters())}
        rates = {"policy": learning_rate, "critic": critic_learning_rate}
        if critic is not None:
            self.groups["critic"] = list(critic.parameters())
        self.rates = [rates[name] for name in self.groups]
        params = [{"params": group, "lr": rates[name]} for name, group in self.groups.items()]
        self.optimizer = torch.optim.AdamW(params, weight_decay=weight_decay, fused=policy.device.type != "mps")
        self.device = policy.device
        self.refreshed = False

    @torch.no_grad()
    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch:
        """The batch with `logp_old`, `logp_ref`, `values` and `value_end`, as far as `passes` asks for them."""
        width = batch.completions.shape[1]
        columns: dict[str, Tensor] = {}
        for rows, micro in self._micro_batches(batch):
            for name, column in self._passes(micro, passes).items():
                whole = untrim(column, width) if column.dim() == 2 else column
                room = columns.setdefault(name, whole.new_zeros(len(batch), *whole.shape[1:]))
                room[rows] = whole
        return replace(batch, **columns)

    def update(self, batch: Batch, told: Update) -> Metrics:
        """One optimiser update on one minibatch. Non-finite loss or gradient: no step, `skipped_updates` is 1."""
        started = time.perf_counter()
        clear_gradients(self.groups.values())
        facts = self._backward(batch, told.beta)
        if told.hold_policy:
            for parameter in self.groups["policy"]:
                parameter.grad = None
        norms = [float(torch.nn.utils.clip_grad_norm_(group, self.max_grad_norm)) for group in self.groups.values()]
        finite = all(map(math.isfinite, [facts["loss"], *norms]))
        if finite:
            for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = base * told.lr_factor
            self.optimizer.step()
        if self.device.type != "cpu":
            self.optimizer.zero_grad(set_to_none=True)
        names = (f"grad_norm/{name}" if name != "policy" else "grad_norm" for name in self.groups)
        rate = self.rates[0] * told.lr_factor
        noted = {
            "learning_rate": rate,
            "skipped_updates": float(not finite),
            "time/update": time.perf_counter() - started,
        }
        return facts | dict(zip(names, norms, strict=True)) | noted

    @torch.no_grad()
    def refresh(self, mix: float = 1.0) -> None:
        """pi_ref <- mix pi_theta + (1 - mix) pi_ref.

        1 makes the policy its own reference (DeepSeekMath, 2402.03300, Algorithm 1); less is the soft update of TR-DPO
        (2404.09656). Without a reference there is nothing to do.
        """
        if self.reference is not None:
            for old, new in zip(self.reference.model.parameters(), self.policy.model.parameters(), strict=True):
                old.lerp_(new, mix)
            self.refreshed = True

    def save(self, folder: Path) -> None:
        """`hf/` (an ordinary model folder), `optimizer.safetensors`; `critic.safetensors` and `reference.safetensors`
        where there is a critic, and a reference that is no longer the model the run started from.
        """
        self.policy.save(folder / "hf")
        if self.critic is not None:
            self.critic.save(folder)
        if self.reference is not None and self.refreshed:
            save_file(dict(self.reference.model.named_parameters()), folder / REFERENCE)
        save_state(self.optimizer, folder / OPTIMIZER)

    def restore(self, folder: Path) -> None:
        """Exactly the state that `save` wrote."""
        self.policy.model.load_state_dict(load_causal_lm(str(folder / "hf")).state_dict())
        if self.critic is not None:
            self.critic.restore(folder)
        if self.reference is not None and (folder / REFERENCE).is_file():
            saved = load_file(folder / REFERENCE)
            for name, parameter in self.reference.model.named_parameters():
                parameter.data.copy_(saved[name])
            self.refreshed = True
        restore_state(self.optimizer, folder / OPTIMIZER)

    def _backward(self, batch: Batch, beta: float | None) -> Metrics:
        totals: Counter[str] = Counter()
        with self.policy.compute():
            for _, micro in self._micro_batches(batch):
                loss = self._loss(micro, beta)
                loss.total.backward()
                totals.update(self._noted(loss))
        tokens = max(int(batch.mask.sum()), 1)
        return {name: value if name.startswith("loss") else value / tokens for name, value in totals.items()}

    def _loss(self, micro: Batch, beta: float | None) -> Loss:
        states = self.policy.states(micro)
        wants_entropy = self.objective.entropy is not None
        logp, entropy = self.policy.logprobs(
            states, micro, temperature=self.temperature, entropy_gradient=wants_entropy
        )
        values = None if self.critic is None else split_values(self.critic(micro, states), micro)[0]
        return self.objective.loss(micro, PolicyOutput(logp, entropy, values), beta)

    def _noted(self, loss: Loss) -> Metrics:
        parts = {f"loss/{name}": float(part.detach()) for name, part in loss.parts.items()}
        sums = {name: float(value) for name, value in loss.sums.items()}
        return {"loss": float(loss.total.detach())} | parts | sums

    def _passes(self, micro: Batch, passes: frozenset[str]) -> dict[str, Tensor]:
        columns: dict[str, Tensor] = {}
        shared = self.critic is not None and self.critic.trunk is None
        with self.policy.compute():
            states = self.policy.states(micro) if "logp_old" in passes or ("values" in passes and shared) else None
            if "logp_old" in passes and states is not None:
                columns["logp_old"] = self.policy.logprobs(states, micro, temperature=self.temperature)[0]
            if "logp_ref" in passes and self.reference is not None:
                seen = self.reference.states(micro)
                columns["logp_ref"] = self.reference.logprobs(seen, micro, temperature=self.temperature)[0]
            if "values" in passes and self.critic is not None:
                columns["values"], columns["value_end"] = split_values(self.critic(micro, states), micro)
        return columns

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
        order = torch.arange(len(batch), device=self.device)  # groups stay together: a prompt is computed once
        if not self.policy.packs:
            order = (batch.prompt_length + batch.length).argsort(stable=True)  # rows alike in length: less padding
        for rows in order.split(self.micro_batch_size):
            yield rows, trim(batch.rows(rows))


def clear_gradients(groups: Iterable[Sequence[Tensor]]) -> None:
    """A zero sum for every parameter that learns, before there are activations between which it would be laid.

    On a CPU the sums stay where they are from update to update: the memory of a step is the same each time.
    """
    for parameter in (p for group in groups for p in group if p.requires_grad):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad.zero_()
