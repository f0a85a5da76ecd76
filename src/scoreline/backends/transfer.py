"""How weights get from the learner to those that sample. A version counts the learner's steps.

    W_v  --sent-->  what travels  --received-->  W_v

Only what learns travels: all weights of a model, or A and B of an adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from scoreline.models.policy import Policy

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


class WeightTransfer(Protocol):
    """Two ends of one way. What `sent` returns goes into the cluster's object store, or is small enough to travel."""

    def sent(self, weights: Iterable[tuple[str, Tensor]]) -> Any:
        """At the learner, on every rank: the weights, by name, one at a time; what is handed to the workers."""
        ...

    def received(self, sent: Any, policy: Policy) -> None:
        """At a worker: the policy's weights are those that were sent."""
        ...


class WholeTensors:
    """Whole fp32 tensors through Ray's object store: once to each node, and from its shared memory to every process."""

    def sent(self, weights: Iterable[tuple[str, Tensor]]) -> Arrays:
        """Arrays by name, in memory of their own."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in weights}

    @torch.no_grad()
    def received(self, sent: Mapping[str, Any], policy: Policy) -> None:
        """Copied into the policy's weights. A name that one side lacks is a `KeyError`: it must be the same model."""
        own = policy.weights()
        if sent.keys() != own.keys():
            raise KeyError(f"other weights than the policy's: {sorted(sent.keys() ^ own.keys())[:4]}")
        for name, weight in own.items():
            weight.copy_(torch.from_numpy(sent[name]))
