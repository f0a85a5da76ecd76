"""Rates of devices that are not here: data sheets, and assumptions that are called so.

    decode_step = 2 P bytes / memory bandwidth         decode_row = 2 P / FLOP/s + cached bytes / memory bandwidth
    learn       = 6 P / FLOP/s                         annotate   = 2 P / FLOP/s for each pass without gradient

P counts parameters, in bf16 where they compute and travel; every FLOP/s and bandwidth is a sheet's times a share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaling_model import Rates


@dataclass(frozen=True)
class Device:
    """A data sheet: FLOP/s in dense bf16, bytes and bytes/s of its memory, bytes/s one way to its node and beyond."""

    name: str
    flops: float
    memory: float
    memory_speed: float
    within: float
    between: float
    node: int


@dataclass(frozen=True)
class Model:
    """A model: parameters, layers, bytes of keys and values that a token leaves in the cache, tensors of a layer."""

    name: str
    parameters: float
    layers: int
    cached: float
    tensors: int


@dataclass(frozen=True)
class Assumed:
    """Shares of the sheet's numbers that are reached, and times that no sheet has. None of it was measured here."""

    learning: float = 0.4
    sampling: float = 0.5
    reading: float = 0.6
    link: float = 0.7
    micro: float = 16384
    unit: float = 0.02
    update: float = 0.1
    skew: float = 0.0
    call: float = 0.05
    load: float = 0.2
    score: float = 0.001
    checkpoint: float = 30.0
    replace: float = 120.0
    restart: float = 600.0
    rows: int = 256


H100 = Device("H100 SXM", 989e12, 80e9, 3.35e12, 450e9, 50e9, 8)
SHEETS = {
    "flops": "NVIDIA H100 data sheet, SXM: 1,979 TFLOP/s bf16 with sparsity, half of it dense",
    "memory_speed": "NVIDIA H100 data sheet, SXM: 80 GB at 3.35 TB/s",
    "within": "NVIDIA H100 data sheet, SXM: NVLink 900 GB/s both ways together, 8 devices a node",
    "between": "NVIDIA ConnectX-7 data sheet: 400 Gb/s InfiniBand, one port a device",
}
SMALL = Model("1.5 B", 1.54e9, 28, 2 * 28 * 2 * 128 * 2, 12)
LARGE = Model("8 B", 8.03e9, 32, 2 * 32 * 8 * 128 * 2, 9)
"""Shapes as published for Qwen2.5-1.5B and Llama-3.1-8B: layers x key-value heads x width, keys and values, bf16. A
layer has nine weights, in the first also three biases.
"""

LEARNER_BYTES = 16
"""A learner's bytes a parameter: fp32 weight, gradient and AdamW's two moments. Activations get a fifth of memory."""


@dataclass(frozen=True)
class Ring:
    """What NCCL reckons with for a ring: seconds of an operation, of a hop by NVLink, of a hop by network."""

    base: float = 8.4e-6
    hop: float = 3.4e-6
    leap: float = 14.0e-6


RING = Ring()
TUNING = "NCCL's own model, src/graph/tuning.cc (commit b647562), ring, Simple"

NOT_HERE = ("control", "handle", "carry", "pad", "ask", "send", "passes", "turn", "crowd", "stall")
"""What is no device's: the loop's own process, see the study of it, and what a GPU's queue hides."""

FAILURES = (16384 * 54 * 86400 / 419, "arXiv 2407.21783: 419 unexpected interruptions in 54 days on 16,384 H100")


def stated(model: Model, context: float, device: Device = H100, assumed: Assumed | None = None) -> Rates:
    """The rates of a model on a device, when an answer's token looks back at `context` tokens on average."""
    a = assumed or Assumed()
    p, read = model.parameters, a.reading * device.memory_speed
    sample, learn = a.sampling * device.flops, a.learning * device.flops
    cache = 0.9 * device.memory - 2 * p
    return Rates(
        decode_step=2 * p / read,
        decode_row=2 * p / sample + model.cached * context / read,
        prefill=2 * p / sample,
        rows=max(1, min(a.rows, int(cache / (model.cached * context)))),
        unit=a.unit,
        annotate=2 * 2 * p / learn,
        learn=6 * p / learn,
        update=a.update,
        micro=a.micro,
        exchange=8 * p,
        collectives=3 * model.layers + 2,
        gathered=2 * 2 * p,
        gathers=2 * (model.layers + 1),
        tensors=model.tensors * model.layers + 3,
        join=RING.base,
        latency=RING.base,
        hop=RING.hop,
        leap=RING.leap,
        skew=a.skew,
        **dict.fromkeys(NOT_HERE, 0.0),
        within=a.link * device.within,
        between=a.link * device.between,
        node=device.node,
        weights=2 * p,
        call=a.call,
        load=a.load,
        score=a.score,
        checkpoint=a.checkpoint,
        mtbf=FAILURES[0],
        replace=a.replace,
        restart=a.restart,
        least=math.ceil(LEARNER_BYTES * p / (0.8 * device.memory)),
        sources=sources(a),
    )


def sources(a: Assumed) -> dict[str, str]:
    """Where each rate is from, in words."""
    flops, memory = SHEETS["flops"], SHEETS["memory_speed"]
    alone = dict.fromkeys(("unit", "update", "call", "load", "score", "checkpoint", "replace", "restart"), "assumed")
    return (
        alone
        | dict.fromkeys(NOT_HERE, "left out here, see The loop's own process")
        | {
            "decode_step": f"weights read once: {memory}; assumed: {a.reading:.0%} of it",
            "decode_row": f"{flops}; assumed: {a.sampling:.0%} of it. Cache read: as decode_step",
            "prefill": f"{flops}; assumed: {a.sampling:.0%} of it",
            "rows": f"{memory}; 90 % less the weights for the cache, assumed: at most {a.rows}",
            "annotate": f"{flops}; assumed: {a.learning:.0%} of it, two passes (old policy, reference)",
            "learn": f"{flops}; assumed: {a.learning:.0%} of it",
            "micro": "assumed",
            "exchange": "weights gathered twice in bf16, gradients scattered once in fp32",
            "collectives": "two gathers and a scatter a layer, one of each for what is outside of layers",
            "gathered": "weights of the policy and of the reference gathered once in bf16",
            "gathers": "one a layer and one for what is outside of layers, of both models",
            "tensors": "one gather each, as `Learner.whole_weights` does it",
            "join": TUNING,
            "latency": TUNING,
            "hop": f"{TUNING}, NVLink",
            "leap": f"{TUNING}, network",
            "skew": "assumed: devices of one kind keep step",
            "within": f"{SHEETS['within']}; assumed: {a.link:.0%} of it",
            "between": f"{SHEETS['between']}; assumed: {a.link:.0%} of it",
            "node": SHEETS["within"],
            "weights": "bf16",
            "mtbf": FAILURES[1],
            "least": f"fp32 weights, gradients and AdamW's moments in 80 % of {memory.split(': ')[1].split(' at')[0]}",
        }
    )
