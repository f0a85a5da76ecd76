"""The inputs on which the libraries answered, and how a case is written down."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Case = dict[str, Any]


def wave(n: int, t: int, scale: float, shift: float) -> list[list[float]]:
    """Numbers without a pattern that matters, the same on every machine."""
    return [[round(scale * math.sin(1.7 * i + 0.9 * j + shift), 3) for j in range(t)] for i in range(n)]


MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
PLAIN = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]  # no tool's tokens in the middle
GROUP = [0, 0, 0, 0, 1, 1]
SCORES = [1.0, 0.0, 0.0, 0.5, 2.0, -1.0]
LOGP_OLD = [[round(x - 1.5, 3) for x in row] for row in wave(6, 5, 0.8, 0.3)]
LOGP = [
    [round(a + b, 3) for a, b in zip(x, y, strict=True)] for x, y in zip(LOGP_OLD, wave(6, 5, 0.6, 2.0), strict=True)
]
LOGP[0][1] = round(LOGP_OLD[0][1] + 1.4, 3)  # ratio 4.06: beyond a dual clip of 3 where the advantage is negative
LOGP_REF = [
    [round(a + b, 3) for a, b in zip(x, y, strict=True)] for x, y in zip(LOGP, wave(6, 5, 0.4, 4.0), strict=True)
]
ADVANTAGES = wave(6, 5, 1.5, 3.5)
VALUES_OLD = wave(6, 5, 1.0, 0.0)
VALUES = wave(6, 5, 1.2, 0.4)
RETURNS = wave(6, 5, 1.4, 1.0)

GAE_PLAIN = {
    "rewards": [[0, 0.2, 0, 0, 1.0], [0, 0, -1.0, 0, 0], [0.1, 0, 0, 0.7, 0]],
    "values": wave(3, 5, 0.8, 0.5),
    "mask": PLAIN,
    "gamma": 0.98,
    "lam": 0.9,
}
GAE_TOOL = {
    "rewards": [[0.0, 0, 0, 0, 1.0]],
    "values": [[0.5, 0.6, 9.0, 9.0, 0.7]],
    "mask": [[1, 1, 0, 0, 1]],
    "gamma": 1.0,
    "lam": 0.95,
}
GROUPS = {"scores": SCORES, "group": GROUP, "mask": MASK}
LOSSES = {"losses": wave(6, 5, 1.0, 0.7), "mask": MASK}
EMPTY_ROW = {
    "losses": [[1.0, 1, 1, 1], [5.0, 0, 0, 0], [7.0, 7, 7, 7]],
    "mask": [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]],
}
SURROGATE = {"logp": LOGP, "logp_old": LOGP_OLD, "advantages": ADVANTAGES, "mask": MASK}
CRITIC = {"values": VALUES, "values_old": VALUES_OLD, "returns": RETURNS, "mask": MASK}
DIVERGENCE = {"logp": LOGP, "logp_ref": LOGP_REF}
FAR = {"logp": [[-4.0, -3.0]], "logp_ref": [[-1.0, -2.0]]}  # x = -3: exp(3) - 1 - 3 = 16.09


def tensor(inputs: Case, *names: str) -> list[torch.Tensor]:
    return [torch.tensor(inputs[name], dtype=torch.float32) for name in names]


def gradient(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f(x) and the gradient of its sum."""
    x = x.clone().requires_grad_()
    y = f(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), grad


def case(inputs: Case, **outputs: Any) -> Case:
    plain = {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in outputs.items()}
    return {"inputs": inputs, "outputs": plain}


def at_end(scores: list[float], mask: list[list[int]]) -> torch.Tensor:
    """Scores on each row's last own token."""
    out = torch.zeros(len(mask), len(mask[0]))
    for i, row in enumerate(mask):
        out[i, max(j for j, own in enumerate(row) if own)] = scores[i]
    return out
