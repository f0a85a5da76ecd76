"""The critic V(s_t): the score line that a model predicts, as a model of its own or as a head on the policy's trunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoreline.errors import ConfigError
from scoreline.models.adapters import Lora, apart, attach
from scoreline.models.attention import allow_packing, answer_states
from scoreline.models.lean import make_lean
from scoreline.models.linear import cast_on_use
from scoreline.models.loading import load_causal_lm
from scoreline.models.making import placed
from scoreline.models.policy import Policy
from scoreline.types import Batch


@dataclass(frozen=True)
class CriticConfig:
    """The critic of a run whose objective has a value loss.

    `kind` "separate" is a model of its own, started from the policy or from `path`; "shared" is a linear head on the
    policy's trunk, whose value loss also trains the trunk. The policy is held still until the critic's explained
    variance passes `warmup_explained_variance`, for at most `warmup_steps` steps. After `freeze_after` steps the critic
    learns no more: its score line is that of the policy that was (a shared head still reads the trunk that learns on).
    """

    kind: Literal["separate", "shared"] = "separate"
    path: str | None = None
    learning_rate: float = 3e-4
    warmup_steps: int = 0
    warmup_explained_variance: float = 0.3
    freeze_after: int | None = None

    def __post_init__(self) -> None:
        if self.freeze_after is not None and self.freeze_after < max(1, self.warmup_steps):
            raise ConfigError(
                "A critic that is frozen learns before, and through its warm-up.",
                got=f"critic.freeze_after={self.freeze_after}, critic.warmup_steps={self.warmup_steps}",
                accepted='at least 1 and at least critic.warmup_steps, or "none"',
                todo=f"set critic.freeze_after={max(1, self.warmup_steps)} or more.",
            )


class Critic(nn.Module):
    """V(s) = w . h(s) + b, zero at the start, so that the first advantages are the rewards themselves.

    While it is `held` no gradient goes through its values, neither to its own weights nor to a trunk that it shares.
    """

    def __init__(self, trunk: nn.Module | None, width: int, *, packs: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.packs, self.held = packs, False
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, states: Float[Tensor, "n s d"] | None) -> Float[Tensor, "n s"]:
        """V before each token and after the last: [n, t + 1]. A critic without a trunk reads the policy's states."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            if self.trunk is not None:
                states = answer_states(self.trunk, batch, packed=self.packs)
            values: Tensor = self.head(states).squeeze(-1).float()
        return values

    def weights(self) -> dict[str, nn.Parameter]:
        """What training changes, by name: the head's weights, and the trunk's or their adapter's."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}


def make_critic(
    config: CriticConfig, policy: Policy, *, trust_remote_code: bool = False, lora: Lora | None = None
) -> Critic:
    """A critic for this policy, on its device. One that starts from an adapted policy has an adapter of its own on the
    policy's weights; one with a `path` is a model of its own, under an adapter where `lora` says so.
    """
    if config.kind == "shared":
        return placed(Critic(None, policy.model.config.get_text_config().hidden_size).float(), policy.device)
    given = config.path
    model: Any = policy.model if given is None else load_causal_lm(given, trust_remote_code=trust_remote_code)
    if given is not None and lora is not None:
        attach(model, lora)
    packs = policy.packs if given is None else allow_packing(model)
    if policy.precision == "bf16":
        cast_on_use(model)
        make_lean(model)
    trunk, width = apart(model.base_model), model.config.get_text_config().hidden_size
    return placed(Critic(trunk, width, packs=packs).float(), policy.device).eval()


def split_values(values: Float[Tensor, "n s"], batch: Batch) -> tuple[Float[Tensor, "n t"], Float[Tensor, " n"]]:
    """V before each own token, and V after the last token of each answer."""
    end = values.gather(1, batch.length[:, None]).squeeze(1)
    return values[:, :-1] * batch.mask, end
