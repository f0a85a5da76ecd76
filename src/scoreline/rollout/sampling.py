"""Drawing tokens: one uniform number a token, from a counter-based stream that belongs to the request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoreline.rollout.engine import Sampling

ALMOST_ONE = 1.0 - 2.0**-24
"""The largest fp32 number below 1: a draw of exactly 1 would fall behind the last token."""


def uniforms(stream: Sequence[int], count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The first `count` numbers in [0, 1) of a request's own stream.

    Philox (Salmon et al. 2011) keyed by a hash of the stream's address: number i depends on the address and on i, not
    on the batch, the worker or what was drawn before.
    """
    address = ",".join(str(int(part)) for part in stream).encode()
    key = int.from_bytes(hashlib.blake2b(address, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def draw(
    logits: Float[Tensor, "n v"], uniform: Float[Tensor, " n"], sampling: Sampling
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Token ids by inverse CDF, and their log-probabilities at the temperature before any cut."""
    if sampling.temperature == 0.0:
        token = logits.argmax(-1)
        return token, logits.log_softmax(-1).gather(1, token[:, None]).squeeze(1)
    logits = logits / sampling.temperature
    probability = logits.softmax(-1)
    cumulative = cut(probability, sampling).cumsum(-1)
    target = uniform.to(logits).clamp(max=ALMOST_ONE)[:, None] * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    return token.squeeze(1), probability.gather(1, token).squeeze(1).log()


def cut(probability: Float[Tensor, "n v"], sampling: Sampling) -> Float[Tensor, "n v"]:
    """Zero all but the top-k tokens, then all but the smallest set whose mass reaches top-p; not renormalised."""
    if 0 < sampling.top_k < probability.shape[-1]:
        least = probability.topk(sampling.top_k, dim=-1).values[:, -1:]
        probability = probability.where(probability >= least, 0.0)
    if sampling.top_p < 1.0:
        ordered, index = probability.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        kept = ordered.where(before < sampling.top_p * ordered.sum(-1, keepdim=True), 0.0)
        probability = torch.zeros_like(probability).scatter(-1, index, kept)
    return probability
