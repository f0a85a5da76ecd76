"""The policy pi(o_t | q, o_<t): a causal language model, its states at the answer, its log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scoreline.errors import ModelError
from scoreline.models import adapters
from scoreline.models.adapters import Lora
from scoreline.models.attention import allow_packing, answer_states, check_padded
from scoreline.models.compiling import CompiledLayers
from scoreline.models.device import Precision, autocast, choose_device, keep_memory
from scoreline.models.lean import make_lean
from scoreline.models.likelihood import Readout, token_scores
from scoreline.models.linear import CastLinear, cast_on_use
from scoreline.models.loading import load_adapted, load_causal_lm, load_tokenizer
from scoreline.models.making import confirmed, placed
from scoreline.models.text import Text
from scoreline.types import Batch

CHUNK_ELEMENTS = 1 << 23
"""Logits held at once where the head is no plain linear layer: 32 MiB of fp32."""


@dataclass(frozen=True)
class Model:
    """Which model to train and how it computes.

    `path` is a Hugging Face folder, an id, or `tiny`, the embedded one. Weights and optimiser are fp32; `precision`
    "bf16" runs forward and backward passes in bf16. `compile` samples through compiled decoder layers: seconds to
    compile for each shape the first time, faster steps ever after. With `lora` the weights stay as they are and an
    adapter learns.
    """

    path: str = "tiny"
    device: str = "auto"
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = False
    trust_remote_code: bool = False
    chat_template: str | None = None
    lora: Lora | None = None


class Policy:
    """A causal language model with its tokenizer, on one device or, by and by, in rows on several."""

    def __init__(self, model: nn.Module, text: Text, device: torch.device, precision: Precision = "fp32") -> None:
        if device.type == "cpu":
            keep_memory()
        self.model: Any = placed(model, device)
        self.model.eval()  # dropout would make pi_old and pi differ without an update
        self.text = text
        self.device = device
        self.precision = precision
        self.head: Head = splittable_head(self.model)
        self.packs = allow_packing(self.model)
        if not self.packs:
            check_padded(self.model)
        self.caches: bool | None = None
        self.compiled: CompiledLayers | None = None
        if precision == "bf16":
            cast_on_use(self.model)
            make_lean(self.model)

    def compute(self) -> AbstractContextManager[object]:
        """The context in which its forward passes run."""
        return autocast(self.device, self.precision)

    @property
    def context(self) -> int:
        """Tokens that the model can attend to, question and answer together; 2^30 when its configuration says none."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    @property
    def unaccelerated(self) -> str | None:
        """Why this model takes the slower path, or None where it does not."""
        if self.packs:
            return None
        return (
            f"{type(self.model).__name__} is sampled through transformers' own cache and trained on padded rows, which "
            "is slower: its attention is not plain causal attention (windows, capped scores, or state of another kind)"
        )

    @property
    def vocabulary(self) -> int:
        """v: the logits that the model gives for each token."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def states(self, batch: Batch) -> Float[Tensor, "n s d"]:
        """The hidden states s_0 .. s_t before each answer token and after the last one: [n, t + 1, d]."""
        with recomputing(self.model):
            return answer_states(self.model.base_model, batch, packed=self.packs)

    def logprobs(
        self, states: Float[Tensor, "n s d"], batch: Batch, *, temperature: float, entropy_gradient: bool = False
    ) -> tuple[Float[Tensor, "n t"], Float[Tensor, "n t"]]:
        """Log pi(o_t) and the entropy H(pi) at temperature, nats, on the policy's own tokens; zero elsewhere.

        Logits exist only for own tokens and only in tiles: [n, t, v] is never made.
        """
        own = batch.mask
        logp, entropy = self._own_logprobs(states[:, :-1][own], batch.completions[own], temperature, entropy_gradient)
        spread = torch.zeros(own.shape, device=own.device)
        return spread.masked_scatter(own, logp), spread.masked_scatter(own, entropy)

    def logits(self, states: Float[Tensor, "m d"]) -> Float[Tensor, "m v"]:
        """Next-token logits in fp32."""
        logits: Tensor = self.head(states)
        return logits.float()

    def weights(self) -> dict[str, nn.Parameter]:
        """What training changes, by name: all weights, or the adapter's."""
        return adapters.weights(self.model)

    def merged_weights(self) -> Iterator[tuple[str, Tensor]]:
        """All weights under the names of the base model, an adapter added in, one at a time. Nothing is changed."""
        return adapters.merged_weights(self.model)

    def merged_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The shapes of `merged_weights`, without adding anything."""
        return ((name, tuple(weight.shape)) for name, weight, _ in adapters.plain(self.model))

    def frozen(self) -> Policy:
        """A copy that never learns: the reference model. Under an adapter it stands on the same weights."""
        model = adapters.apart(self.model)
        adapters.freeze(model)
        return Policy(model, self.text, self.device, self.precision)

    @torch.no_grad()
    def follow(self, leader: Mapping[str, Tensor], mix: float = 1.0) -> None:
        """w <- mix w_leader + (1 - mix) w, for a frozen policy and each of the `weights` of another."""
        for name, weight in self.weights().items():
            weight.lerp_(leader[name].to(weight.device), mix)
        adapters.freeze(self.model)

    def save(self, folder: Path) -> None:
        """An ordinary Hugging Face folder, which `AutoModelForCausalLM.from_pretrained` loads; under an adapter a PEFT
        folder. The tokenizer lies in it too.
        """
        if adapters.adapted_layers(self.model):
            adapters.save_adapter(self.model, folder)
        else:
            self.model.save_pretrained(folder, safe_serialization=True)
        self.text.tokenizer.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Exactly the weights that `save` wrote."""
        if adapters.adapted_layers(self.model):
            adapters.restore_adapter(self.model, folder)
        else:
            self.model.load_state_dict(load_causal_lm(str(folder)).state_dict())

    def _own_logprobs(
        self, states: Tensor, tokens: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        embedding = self.head.embedding
        if isinstance(embedding, nn.Linear) and type(embedding) in (nn.Linear, CastLinear):
            readout = Readout(self.head.scale, self.head.cap, temperature)
            return token_scores(states, tokens, embedding.weight, embedding.bias, readout, entropy_gradient)
        return self._chunked_logprobs(states, tokens, temperature, entropy_gradient)

    def _chunked_logprobs(
        self, states: Tensor, tokens: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        size = max(1, CHUNK_ELEMENTS // self.vocabulary)
        chunks = list(zip(states.split(size), tokens.split(size), strict=True))
        again = torch.is_grad_enabled() and len(chunks) > 1  # keep one chunk's logits at a time, compute them twice

        def scored(s: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
            return token_logprobs(self.logits(s) / temperature, o, entropy_gradient)

        parts = [checkpoint(scored, s, o, use_reentrant=False) if again else scored(s, o) for s, o in chunks]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def load_policy(config: Model, *, seed: int = 0) -> Policy:
    """The model that a recipe names, ready to train; `seed` is that of `tiny:init`."""
    device = choose_device(config.device)
    if config.lora is None:
        model = load_causal_lm(config.path, trust_remote_code=config.trust_remote_code, seed=seed)
    else:
        model = load_adapted(config.path, config.lora, trust_remote_code=config.trust_remote_code)
    tokenizer = load_tokenizer(config.path, trust_remote_code=config.trust_remote_code)
    if config.gradient_checkpointing:
        recompute_activations(model)
    text = Text(tokenizer, getattr(model, "generation_config", None), chat_template=config.chat_template)
    policy = Policy(model, text, device, config.precision)
    if config.compile and policy.packs:
        policy.compiled = CompiledLayers(policy.model, device)
    return policy


def recompute_activations(model: Any) -> None:
    """Gradient checkpointing: keep each layer's input only, and compute the layer again in the backward pass."""
    newer = getattr(model, "activation_checkpointing_enable", None)  # its name in newer releases
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Layers that checkpoint their activations are in training mode, for passes that will be differentiated.

    The library's layers recompute only in that mode, and refuse a cache then. All else stays in evaluation mode:
    dropout must stay off.
    """
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    for layer in layers if torch.is_grad_enabled() else []:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def token_logprobs(
    logits: Float[Tensor, "m v"], tokens: Int[Tensor, " m"], entropy_gradient: bool = False
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """log p_k = z_k - log sum exp z, and H = log sum exp z - sum p z, in nats."""
    normaliser = logits.logsumexp(-1)
    logp = logits.gather(-1, tokens[:, None]).squeeze(-1) - normaliser
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
    return logp, entropy if entropy_gradient else entropy.detach()


def splittable_head(model: Any) -> Head:
    """The function from last hidden states to logits.

    Most architectures apply the output embedding and nothing else; some scale or cap the result. A probe compares
    with the whole model, so that an architecture that does something else is refused and not trained wrongly.
    """
    embedding, config = model.get_output_embeddings(), model.config.get_text_config()
    head = Head(
        embedding,
        scale=1.0 / getattr(config, "logits_scaling", 1.0) * getattr(config, "logit_scale", 1.0),
        cap=getattr(config, "final_logit_softcapping", None),
    )
    if not confirmed(f"head of {type(model).__name__}", partial(splits, model, head)):
        raise ModelError(
            "This architecture computes its logits in a way that is not known here.",
            got=type(model).__name__,
            accepted="logits = cap(scale x (W h + b))",
            todo="choose another model, or report the architecture.",
        )
    return head


@torch.no_grad()
def splits(model: Any, head: Head) -> bool:
    """Whether the head, from the trunk's states, gives the logits of the whole model."""
    weight: Any = head.embedding.weight
    probe = torch.arange(4, device=weight.device)[None] % weight.shape[0]
    whole = model(input_ids=probe, use_cache=False).logits.float()
    split = head(model.base_model(input_ids=probe, use_cache=False).last_hidden_state).float()
    return torch.allclose(whole, split, atol=1e-3, rtol=1e-3)


class Head(nn.Module):
    """z = cap tanh( scale (W h + b) / cap ), or z = scale (W h + b) without a cap."""

    def __init__(self, embedding: nn.Module, scale: float, cap: float | None) -> None:
        super().__init__()
        self.embedding, self.scale, self.cap = embedding, scale, cap

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.embedding(states)
        logits = logits if self.scale == 1.0 else logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)
