"""The arithmetic floor: what a step must multiply and read, at the rates at which this machine does both.

floor = sampling + prompts + training

    sampling   2 k n for each sampled token / rate; or, where that is more, all weights once for each token of the
               longest answer / bandwidth
    prompts    2 k n for each token of each distinct question, once a group, and 6 k n in training, / rate
    training   6 k n for each answer's token (forward, gradients of inputs, gradients of weights) / rate
    head       only where an answer's token is predicted
    attention  4 l d for each token of a layer, l the tokens before it; in training three times that

Rates are those of large products of the model's own shapes, and bandwidth that of reading as many bytes as its weights
have, in the same run, threads and precision. `products` is sampling again at the rate that torch's products reach with
as many rows as answers are in flight and a matrix of its own for each layer, as in decoding: what is left between it
and `sampling` is the library's. Nothing else is counted: no softmax, no norms, no optimiser, no Python.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from statistics import fmean, median
from typing import Any

import torch
from clock import now
from figures import Step
from torch import nn
from transformers import AutoModelForCausalLM
from workload import Precision, Setup

from scoreline.models.loading import TINY_INIT, load_causal_lm, load_config

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TRAINED_ROWS = 1024
"""Rows of a product in training; larger ones are hardly faster."""
CACHED = 1 << 27
"""Bytes of distinct weights in a measurement of decoding: more than processors cache."""

Shape = tuple[int, int]


@dataclass(frozen=True)
class Matrices:
    """The linear layers of a model by (inputs, outputs), its last one, and the width of attention times its layers."""

    body: Counter[Shape]
    head: Shape
    attended: int

    @property
    def shapes(self) -> list[Shape]:
        """Each shape once."""
        return [*self.body, self.head]

    @property
    def weights(self) -> int:
        """All of them, the head's included."""
        return sum(k * n * times for (k, n), times in self.body.items()) + self.head[0] * self.head[1]


@dataclass(frozen=True)
class Count:
    """What one step computes, in tokens. `asked` are those of the distinct questions, `past` those before a token,
    `longest` those of the longest answer.
    """

    rows: int
    sampled: float
    asked: float
    past: float
    longest: float


@dataclass(frozen=True)
class Rates:
    """FLOPs a second of products with few rows and with many, by shape; bytes a second."""

    decoding: dict[Shape, float]
    training: dict[Shape, float]
    reading: float


@dataclass(frozen=True)
class Floor:
    """Seconds of a step that no arrangement of the same arithmetic goes below on this machine, and what they are of."""

    sampling: float
    prompts: float
    training: float
    products: float
    gflop: float
    gflops_decoding: float
    gflops_training: float
    gigabytes_read: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.sampling + self.prompts + self.training

    def record(self) -> dict[str, float]:
        """For a file."""
        return {**asdict(self), "seconds": self.seconds}


def matrices(path: str) -> Matrices:
    """Read from the model's configuration; no weight is loaded."""
    with torch.device("meta"):
        model: Any = load_causal_lm(path) if path == TINY_INIT else _empty(path)
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    body = Counter(
        (m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear) and m is not head
    )
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return Matrices(body, (head.in_features, head.out_features), width * config.num_hidden_layers)


def _empty(path: str) -> Any:
    return AutoModelForCausalLM.from_config(load_config(path, trust_remote_code=False))


def count(setup: Setup, steps: Sequence[Step]) -> Count:
    """The mean over our timed steps."""
    asked = fmean(sum(map(len, step.prompts)) for step in steps)
    sampled = fmean(step.tokens for step in steps)
    prompt = asked / setup.workload.prompts
    longest = fmean(max(step.lengths) for step in steps)
    return Count(setup.workload.rows, sampled, asked, prompt + sampled / setup.workload.rows / 2, longest)


def rate(rows: int, shape: Shape, precision: Precision, device: str, *, cold: bool, repetitions: int = 5) -> float:
    """FLOPs a second of products [rows, k] x [k, n]; `cold`: each with another weight matrix."""
    k, n = shape
    kind = TYPES[precision]
    number = max(2, CACHED // (k * n * kind.itemsize)) if cold else 1
    inputs = torch.randn(rows, k, device=device).to(kind)
    weights = [torch.randn(n, k, device=device).to(kind) for _ in range(min(number, 64))]
    products = max(len(weights), int(2e9 / (2 * rows * k * n)))
    taken = [_seconds(inputs, list(islice(cycle(weights), products)), device) for _ in range(repetitions + 1)]
    return 2 * rows * k * n * products / median(taken[1:])


@torch.no_grad()
def _seconds(inputs: torch.Tensor, weights: Sequence[torch.Tensor], device: str) -> float:
    started = now(device)
    for weight in weights:
        nn.functional.linear(inputs, weight)
    return now(device) - started


@torch.no_grad()
def reading(size: int, device: str, repetitions: int = 5) -> float:
    """Bytes a second of reading so many, again and again: from the cache where they fit into it."""
    numbers = torch.ones(size // 4, device=device)
    times, taken = max(1, (1 << 28) // size), []
    for _ in range(repetitions + 1):
        started = now(device)
        for _ in range(times):
            numbers.sum()
        taken.append(now(device) - started)
    return 4 * len(numbers) * times / median(taken[1:])


def floor(setup: Setup, steps: Sequence[Step]) -> Floor:
    """Measure the rates, count what the steps computed, divide."""
    shapes, told = matrices(setup.workload.model), count(setup, steps)
    width, precision, device = TYPES[setup.precision].itemsize, setup.precision, setup.device
    rates = Rates(
        decoding={s: rate(told.rows, s, precision, device, cold=True) for s in shapes.shapes},
        training={s: rate(TRAINED_ROWS, s, precision, device, cold=False) for s in shapes.shapes},
        reading=reading(shapes.weights * width, device),
    )
    return divided(shapes, told, rates, width)


def divided(shapes: Matrices, told: Count, rates: Rates, width: int) -> Floor:
    """FLOPs and bytes by rates; a weight has `width` bytes."""
    attention = 4 * shapes.attended * told.past / max(rates.training.values())
    body, head = token_seconds(shapes, rates.training), head_seconds(shapes, rates.training)
    small = token_seconds(shapes, rates.decoding) + head_seconds(shapes, rates.decoding)
    flops, in_head = 2 * shapes.weights, 2 * shapes.head[0] * shapes.head[1]
    return Floor(
        sampling=max(told.sampled * (body + head + attention), told.longest * shapes.weights * width / rates.reading),
        prompts=told.asked * body * (1 + 3),
        training=told.sampled * 3 * (body + head + attention),
        products=told.sampled * (small + attention),
        gflop=(told.sampled * 4 * flops + told.asked * 4 * (flops - in_head)) / 1e9,
        gflops_decoding=flops / small / 1e9,
        gflops_training=flops / (body + head) / 1e9,
        gigabytes_read=rates.reading / 1e9,
    )


def token_seconds(shapes: Matrices, rates: dict[Shape, float]) -> float:
    """Seconds of one token in all layers, without the head."""
    return sum(2 * k * n * times / rates[k, n] for (k, n), times in shapes.body.items())


def head_seconds(shapes: Matrices, rates: dict[Shape, float]) -> float:
    """Seconds of the logits of one token."""
    k, n = shapes.head
    return 2 * k * n / rates[k, n]


def floor_line(found: Floor, ours: float, trl: float) -> str:
    """For a person."""
    return (
        f"Arithmetic floor {found.seconds:.3f} s: sampling {found.sampling:.3f} (with torch's products of so few rows "
        f"{found.products:.3f}), prompts {found.prompts:.3f}, training {found.training:.3f}. {found.gflop:.0f} GFLOP; "
        f"{found.gflops_decoding:.0f} GFLOP/s decoding, {found.gflops_training:.0f} training, "
        f"{found.gigabytes_read:.0f} GB/s. Scoreline {ours / found.seconds:.2f}, "
        f"TRL {trl / found.seconds:.2f} times it."
    )
