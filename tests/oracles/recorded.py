"""Numbers that other libraries gave, as tensors. `make_numbers.py` made the JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
LIBRARIES = {name: json.loads((HERE / f"{name}.json").read_text()) for name in ("verl", "trl", "openrlhf")}


class Case:
    """One call of another library: its inputs as tensors, its outputs as tensors."""

    def __init__(self, library: str, name: str) -> None:
        case = LIBRARIES[library]["cases"][name]
        self.inputs: dict[str, Any] = case["inputs"]
        self.outputs: dict[str, Any] = case["outputs"]

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.tensor(self.inputs[name])

    def __call__(self, name: str) -> torch.Tensor:
        return torch.tensor(self.outputs[name])

    @property
    def mask(self) -> torch.Tensor:
        return self["mask"].bool()


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs.to(ours), atol=1e-5, rtol=1e-5)


def differ(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert not torch.allclose(ours, theirs.to(ours), atol=1e-3)
