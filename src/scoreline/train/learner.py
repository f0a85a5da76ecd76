"""theta <- theta - eta grad: the learner, alone or as one of several ranks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from scoreline.errors import ModelError
from scoreline.models.critic import Critic
from scoreline.models.footprint import Footprint, footprint
from scoreline.models.policy import Policy
from scoreline.objectives.objective import Loss, Objective
from scoreline.train.collate import untrim
from scoreline.train.forward import Forward, micro_batches
from scoreline.train.keeping import CRITIC, OPTIMIZER, REFERENCE, Keeper
from scoreline.train.optimizers import OptimizerName, make_optimizer
from scoreline.train.portions import Models, Portions
from scoreline.train.ranks import ALONE, Ranks, SumPrecision
from scoreline.train.sums import make_sums
from scoreline.train.supervised import state_tensors
from scoreline.types import Batch, Metrics


@dataclass(frozen=True)
class Update:
    """What one optimiser update is told: beta, the factor on the learning rates, and which models hold still."""

    beta: float | None = None
    lr_factor: float = 1.0
    hold_policy: bool = False
    hold_critic: bool = False

    @property
    def held(self) -> tuple[str, ...]:
        """The models that stay as they are."""
        return ("policy",) * self.hold_policy + ("critic",) * self.hold_critic


@dataclass(frozen=True)
class Updated:
    """What an update leaves: its metrics, and log pi of each token as the update saw it, before its step."""

    metrics: Metrics
    logp: Float[Tensor, "n t"]


class Learner(Protocol):
    """Annotate a batch with what its models say, update them, save and restore them."""

    @property
    def device(self) -> torch.device: ...

    @property
    def parameters(self) -> int: ...

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch: ...

    def update(self, batch: Batch, told: Update) -> Updated: ...

    def refresh(self, mix: float) -> None: ...

    def save(self, folder: Path) -> None: ...

    def restore(self, folder: Path) -> None: ...


class LocalLearner:
    """Policy, reference and critic in this process, with AdamW over fp32 master weights.

    One of several ranks is told of its own rows of a minibatch, or of none, with the weights of the whole minibatch.
    All ranks call the same methods in the same order; metrics are those of all of them together.
    """

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
        micro_batch_size: int | Literal["auto"] = "auto",
        temperature: float = 1.0,
        optimizer: OptimizerName = "adamw",
        gradient_sums: SumPrecision = "fp32",
        ranks: Ranks = ALONE,
    ) -> None:
        self.policy, self.objective, self.reference, self.critic = policy, objective, reference, critic
        self.temperature, self.max_grad_norm, self.ranks = temperature, max_grad_norm, ranks
        check_ranks(ranks, optimizer)
        sizes = self._sizes()
        self.forward = Forward.over(ranks, policy, reference, critic, temperature, gradient_sums)
        self.groups = {"policy": list(policy.weights().values())}
        rates = {"policy": learning_rate, "critic": critic_learning_rate}
        if critic is not None:
            self.groups["critic"] = list(critic.weights().values())
        self.rates = [rates[name] for name in self.groups]
        self.sums = make_sums(gradient_sums, self.groups.values(), ranks)
        params = [{"params": group, "lr": rates[name]} for name, group in self.groups.items()]
        self.optimizer = make_optimizer(optimizer, params, weight_decay=weight_decay, device=policy.device)
        self.device = policy.device
        self.refreshed = False
        self.portions = Portions(
            micro_batch_size, packed=policy.packs, device=self.device, models=Models(sizes, self._pending), ranks=ranks
        )

    @property
    def parameters(self) -> int:
        """How many learn, those of all ranks together."""
        return sum(parameter.numel() for group in self.groups.values() for parameter in group)

    def annotate(self, batch: Batch, passes: frozenset[str]) -> Batch:
        """The batch with `logp_old`, `logp_ref`, `values` and `value_end`, as far as `passes` asks for them."""
        return self.portions.retried(lambda: self._annotated(batch, passes), batch)

    @torch.no_grad()
    def _annotated(self, batch: Batch, passes: frozenset[str]) -> Batch:
        width = batch.completions.shape[1]
        columns: dict[str, Tensor] = {}
        for rows, micro, _ in self._micro_batches(batch):
            for name, column in self.forward.columns(micro, passes).items():
                whole = untrim(column, width) if column.dim() == 2 else column
                room = columns.setdefault(name, whole.new_zeros(len(batch), *whole.shape[1:]))
                room[rows] = whole[: len(rows)]
        return replace(batch, **columns)

    def update(self, batch: Batch, told: Update) -> Updated:
        """One optimiser update on one minibatch. Non-finite loss or gradient: no step, `skipped_updates` is 1."""
        started = time.perf_counter()
        self._hold_critic(told.hold_critic)
        facts, logp = self.portions.retried(lambda: self._backward(batch, told.beta), batch)
        for parameter in (p for name in told.held for p in self.groups.get(name, ())):
            parameter.grad = None
        norms = [self.sums.clip(group, self.max_grad_norm) for group in self.groups.values()]
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
            "micro_batch_size": float(self.ranks.most(self.portions.largest)),
            "time/update": time.perf_counter() - started,
        }
        return Updated(facts | dict(zip(names, norms, strict=True)) | noted, logp)

    def gradient(self, batch: Batch, beta: float | None = None) -> tuple[Tensor, ...]:
        """The gradient of a batch's loss by each of the policy's weights, before clipping; the value loss is left out.

        Neither weights nor the optimiser's moments change, and no gradient stays behind.
        """
        self._hold_critic(True)
        self.portions.retried(lambda: self._backward(batch, beta), batch)
        made = tuple(weight.grad for weight in self.groups["policy"] if weight.grad is not None)
        self.optimizer.zero_grad(set_to_none=True)
        self._hold_critic(False)
        return made

    def rehearse(self, batch: Batch) -> None:
        """The gradient of a batch, thrown away: an update without its step."""
        beta = None if self.objective.kl is None else self.objective.kl.beta
        self.portions.retried(lambda: self._backward(batch, beta), batch)
        self.optimizer.zero_grad(set_to_none=True)

    def refresh(self, mix: float = 1.0) -> None:
        """pi_ref <- mix pi_theta + (1 - mix) pi_ref.

        1 makes the policy its own reference (DeepSeekMath, 2402.03300, Algorithm 1); less is the soft update of TR-DPO
        (2404.09656). Under an adapter it is A and B that are mixed. Without a reference there is nothing to do.
        """
        if self.reference is not None:
            self.reference.follow(self.policy.weights(), mix)
            self.refreshed = True

    def whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        """What learns of the policy, by name: all rows of one weight at a time, on the CPU. All ranks call it."""
        for name, weight in self.policy.weights().items():
            yield name, self.ranks.whole(weight.detach()).cpu()

    def merged_weights(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """All weights of the policy, an adapter added in, by the names of the plain model: rounded to `dtype` first,
        then gathered, one at a time, on the learner's device. All ranks call it.
        """
        for name, weight in self.policy.merged_weights():
            yield name, self.ranks.whole(weight.detach().to(dtype))

    def save(self, folder: Path) -> None:
        """`hf/` (what `Policy.save` writes), `optimizer.safetensors`, `portion.json`; `critic.safetensors` and
        `reference.safetensors` where there is a critic, and a reference that is no longer the run's first model.

        Of several ranks each writes files of its own, `optimizer-00001-of-00002.safetensors`, into the one folder.
        """
        keeper = Keeper(folder, self.ranks, make=True)
        keeper.save_policy(self.policy)
        tables: dict[str, Mapping[str, Tensor]] = {OPTIMIZER: state_tensors(self.optimizer)}
        if self.critic is not None:
            tables[CRITIC] = self.critic.weights()
        if self.reference is not None and self.refreshed:
            tables[REFERENCE] = self.reference.weights()
        keeper.save_tables(tables, self.portions.save)

    def restore(self, folder: Path) -> None:
        """Exactly the state that `save` wrote, by as many ranks or by another number of them."""
        keeper = Keeper(folder, self.ranks)
        keeper.restore_policy(self.policy)
        if self.critic is not None:
            keeper.restore_weights(CRITIC, self.critic.weights())
        if self.reference is not None and keeper.has(REFERENCE):
            self.reference.follow(keeper.like(REFERENCE, self.reference.weights()))
            self.refreshed = True
        keeper.restore_state(self.optimizer)
        self.portions.restore(folder)

    def _hold_critic(self, held: bool) -> None:
        if self.critic is not None:
            self.critic.held = held

    def _backward(self, batch: Batch, beta: float | None) -> tuple[Metrics, Tensor]:
        """The gradient, in `grad` of all that learns; the metrics, and the log-probabilities."""
        self.sums.begin()  # without what a try that ran out of memory left
        totals: Counter[str] = Counter()
        logp = torch.zeros(batch.mask.shape, device=self.device)
        with self.policy.compute():
            for rows, micro, last in self._micro_batches(batch):
                output = self.forward.output(micro, entropy_gradient=self.objective.entropy is not None, last=last)
                loss = self.objective.loss(micro, output, beta)
                loss.total.backward()
                self.sums.portion()
                noted = self._noted(loss)
                totals.update(noted if len(rows) else dict.fromkeys(noted, 0.0))
                if len(rows):
                    logp[rows, : micro.mask.shape[1]] = output.logp.detach()
        self.sums.total()
        sums = self.ranks.total({**totals, "tokens": float(batch.mask.sum())})
        tokens = max(sums.pop("tokens"), 1.0)
        metrics = {name: value if name.startswith("loss") else value / tokens for name, value in sums.items()}
        return metrics, logp

    def _noted(self, loss: Loss) -> Metrics:
        parts = {f"loss/{name}": float(part.detach()) for name, part in loss.parts.items()}
        sums = {name: float(value) for name, value in loss.sums.items()}
        return {"loss": float(loss.total.detach())} | parts | sums

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Tensor, Batch, bool]]:
        return micro_batches(batch, self.portions, self.ranks)

    def _sizes(self) -> tuple[Footprint, ...]:
        learning = [footprint(self.policy.model, self.policy.precision)]
        if self.critic is not None and self.critic.trunk is not None:
            learning.append(replace(footprint(self.critic.trunk, self.policy.precision), vocabulary=0))
        return tuple(learning)

    def _pending(self) -> int:
        """4 bytes of gradient for every parameter that learns, and 8 of AdamW's moments where there are none yet.

        Sums in fp64 are asked for with a fixed portion, and this with an automatic one.
        """
        learning = [parameter for group in self.groups.values() for parameter in group]
        state: dict[Any, Any] = self.optimizer.state
        return sum(self.ranks.local(weight).numel() * (4 if state.get(weight) else 12) for weight in learning)


def check_ranks(ranks: Ranks, optimizer: OptimizerName) -> None:
    """Refuse what several ranks cannot do together."""
    if ranks.world > 1 and optimizer != "adamw":
        raise ModelError(
            "Moments in 8 bits are kept in blocks of weights, which rows on several ranks would cut.",
            got=f"train.optimizer={optimizer!r} with {ranks.world} learners",
            accepted="adamw: each rank holds the moments of its own rows alone",
            todo="set train.optimizer='adamw', or train with one learner.",
        )
