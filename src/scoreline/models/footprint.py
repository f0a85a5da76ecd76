"""What a model needs, from its configuration alone: bytes of weights, of activations, of keys and values.

Symbols: P parameters, L layers, d width of a hidden state, f width of the feed-forward part, k width of a layer's keys,
v vocabulary, m tokens that go through the model at once, b bytes of a number where the layers compute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from scoreline.errors import MemoryLimitError
from scoreline.models.adapters import base_of, is_adapter, weights
from scoreline.models.device import Precision, choose_device
from scoreline.models.loading import TINY_INIT, load_config, resolve
from scoreline.models.memory import GIB, capacity
from scoreline.models.policy import CHUNK_ELEMENTS, Model

FP32 = 4
LOGIT_COPIES = 3
"""Arrays as large as the logits of a chunk that live at once: the logits, their softmax, their gradient."""


@dataclass(frozen=True)
class Footprint:
    """The sizes of one model, and the bytes that follow from them. `learned` parameters learn; None is all of them."""

    parameters: int
    layers: int
    width: int
    inner: int
    keys: int
    vocabulary: int
    precision: Precision = "fp32"
    recomputed: bool = False
    learned: int | None = None

    @property
    def weights(self) -> int:
        """4 P: fp32."""
        return FP32 * self.parameters

    @property
    def gradients(self) -> int:
        """4 bytes for each parameter that learns. AdamW's two moments are twice as large."""
        return FP32 * (self.parameters if self.learned is None else self.learned)

    @property
    def working_copy(self) -> int:
        """2 P under bf16: the weights as the layers read them while answers are sampled."""
        return 2 * self.parameters if self.precision == "bf16" else 0

    def activations(self, tokens: int) -> int:
        """m L (32 d + b (8 d + 4 f)), under bf16 m L (8 d + b (4 d + 3 f)): what m tokens keep for the backward pass.

        Norms and the residual stream are fp32, about 8 d numbers a layer; the rest has b bytes: the inputs of the
        projections, queries, keys and values gathered for attention, and the feed-forward part's four arrays. The
        layers that stand in for the library's under bf16 keep less. With recomputing, every layer keeps its input
        alone, and one layer at a time has the rest: m (4 L d + one layer).
        """
        layer = 8 * FP32 * self.width + self.number * (8 * self.width + 4 * self.inner)
        if self.precision == "bf16":
            layer = 2 * FP32 * self.width + self.number * (4 * self.width + 3 * self.inner)
        if self.recomputed:
            return tokens * (self.layers * FP32 * self.width + layer)
        return tokens * self.layers * layer

    def logits(self, tokens: int) -> int:
        """3 x 4 c v with c = min(m, what fits into a chunk): the logits that are held at once in training."""
        return LOGIT_COPIES * FP32 * min(tokens * self.vocabulary, max(CHUNK_ELEMENTS, self.vocabulary))

    def drawing(self, rows: int) -> int:
        """4 x 4 n v: the next token's logits of n answers, their softmax, its cumulative sum, a temporary."""
        return 4 * FP32 * rows * self.vocabulary

    def cache(self, rows: int, length: int) -> int:
        """2 b L k n l: keys and values of n answers of l tokens, prompts included."""
        return 2 * self.number * self.layers * self.keys * rows * length

    def operations(self, tokens: int, context: int) -> float:
        """2 P m + 4 L d m l: floating-point operations of a forward pass over m tokens that each see l others."""
        return 2.0 * self.parameters * tokens + 4.0 * self.layers * self.width * tokens * context

    def halved(self) -> Footprint:
        """A model of half as many parameters: half of the layers, and half of the vocabulary."""
        sizes = {name: getattr(self, name) // 2 for name in ("parameters", "layers", "vocabulary")}
        return replace(self, **sizes)

    @property
    def number(self) -> int:
        """b: bytes of a number where the layers compute."""
        return 2 if self.precision == "bf16" else FP32


def footprint(model: Any, precision: Precision = "fp32") -> Footprint:
    """The footprint of a model that is loaded, or on the meta device."""
    text = model.config.get_text_config()
    heads = int(getattr(text, "num_attention_heads", 1))
    total = sum(parameter.numel() for parameter in model.parameters())
    learned = sum(parameter.numel() for parameter in weights(model).values())
    head = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    return Footprint(
        parameters=total,
        layers=int(text.num_hidden_layers),
        width=int(text.hidden_size),
        inner=int(getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size),
        keys=head * int(getattr(text, "num_key_value_heads", None) or heads),
        vocabulary=int(text.vocab_size),
        precision=precision,
        recomputed=any(getattr(module, "gradient_checkpointing", False) for module in model.modules()),
        learned=None if learned == total else learned,
    )


def sketch(config: Model, *, headless: bool = False) -> Footprint | None:
    """The footprint of a model that is not loaded, from its config.json; None where it would run code of its own.

    Without its output head, unless that is tied to the embedding, it is what a critic has of it.
    """
    if config.path == TINY_INIT or config.trust_remote_code:
        return None
    source = resolve(config.path)
    found = load_config(resolve(base_of(source)) if is_adapter(source) else source, trust_remote_code=False)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(found)
    except (ValueError, RuntimeError, AttributeError):  # no causal model: loading says what is wrong with it
        return None
    sizes = footprint(model.base_model if headless else model, config.precision)
    return replace(sizes, recomputed=config.gradient_checkpointing)


def refuse_too_large(
    config: Model, copies: float, whose: str = "", todo: str = "choose a smaller model or a larger machine"
) -> None:
    """Raise `MemoryLimitError` before loading, when `copies` x 4 P is more than the whole device has.

    `copies` counts arrays as large as the fp32 weights that the run cannot do without: 4 for weights, gradient and
    AdamW's moments, and 1 more for a reference model. `whose` they are is said where there are several processes.
    """
    device = choose_device(config.device)
    sizes, room = sketch(config), capacity(device)
    if sizes is None or room is None or copies * sizes.weights <= room:
        return
    share = sizes.vocabulary * sizes.width / sizes.parameters
    raise MemoryLimitError(
        "The model cannot fit: its weights and what goes with each of them are more than this machine's memory.",
        got=f"{config.path}: {sizes.parameters:,} parameters x 4 bytes x {copies:g}{f' ({whose})' if whose else ''}"
        f" = {copies * sizes.weights / GIB:.1f} GiB ({share:.0%} of them an embedding of {sizes.vocabulary:,} words)",
        accepted=f"at most {room / GIB:.1f} GiB on {device}",
        todo=todo,
    )
