"""Shapes and types of the objectives are checked while the tests run; every test starts from the same seed, and
properties are tried on the same examples.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# The same examples every time, however long one takes; `--hypothesis-profile=default` looks for others.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

# The files of formulas. Not objective.py: its fields name the parts a recipe knows, and from Python any part fits.
FORMULAS = ("aggregates", "divergences", "groups", "ratios", "returns", "signal", "values")
install_import_hook([f"scoreline.objectives.{name}" for name in FORMULAS], "beartype.beartype")

from scoreline.objectives.signal import Signal  # noqa: E402
from scoreline.types import Batch  # noqa: E402

Rows = list[list[float]]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def signal() -> Callable[..., Signal]:
    """A signal from nested lists. Unless told, all tokens are own, all own tokens rewarded, all rows one group."""

    def make(rewards: Rows, mask: Any = None, rewarded: Any = None, group: Any = None, **more: Any) -> Signal:
        r = torch.tensor(rewards)
        own = torch.ones_like(r, dtype=torch.bool) if mask is None else torch.tensor(mask).bool()
        where = own if rewarded is None else torch.tensor(rewarded).bool()
        same = torch.zeros(len(r), dtype=torch.long) if group is None else torch.tensor(group)
        return Signal(r, where, own, same, **{k: torch.tensor(v) for k, v in more.items()})

    return make


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """A batch from nested lists: rewards where `rewarded` says (else on each row's last own token), one group."""

    def make(rewards: Rows, mask: Any, rewarded: Any = None, group: Any = None, **more: Any) -> Batch:
        r, own = torch.tensor(rewards), torch.tensor(mask).bool()
        n, t = own.shape
        last = torch.where(own, torch.arange(t), -1).amax(1, keepdim=True)
        where = torch.arange(t) == last if rewarded is None else torch.tensor(rewarded).bool()
        columns = {k: torch.tensor(v) for k, v in more.items()}
        return Batch(
            prompts=torch.ones(n, 1, dtype=torch.long),
            prompt_length=torch.ones(n, dtype=torch.long),
            completions=torch.ones(n, t, dtype=torch.long),
            length=last[:, 0] + 1,
            mask=own,
            group=torch.zeros(n, dtype=torch.long) if group is None else torch.tensor(group),
            rewards=r,
            rewarded=where,
            **{"truncated": torch.zeros(n, dtype=torch.bool), "logp_sampler": torch.zeros(n, t), **columns},
        )

    return make
