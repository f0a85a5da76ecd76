"""Compiled decoder layers: one graph, made once, that every layer of a model runs through."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoreline.errors import ModelError

GRAPHS = 256
"""Graphs that one process makes of a decoder layer; what comes then runs as it is. Rows are rounded up to powers of two
and their room to multiples of 64, so that a run stays far below: what is compiled must not depend on when a run was
resumed."""


def layers_of(model: Any) -> list[nn.Module]:
    """The decoder layers: the modules that the architecture names as never to be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


class CompiledLayers:
    """Runs a model's decoder layers compiled inside `on()`, as they are outside."""

    def __init__(self, model: Any, device: torch.device) -> None:
        check_compiler(device)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder()))
        self.calls = {layer: torch.compile(layer._call_impl, dynamic=False) for layer in layers_of(model)}

    @contextmanager
    def on(self) -> Iterator[None]:
        """The layers run compiled: a graph is made at the first call of each shape, at most `GRAPHS`, then eager."""
        for layer, call in self.calls.items():
            layer._compiled_call_impl = call
        try:
            with torch._dynamo.config.patch(recompile_limit=GRAPHS, accumulated_recompile_limit=4 * GRAPHS):
                yield
        finally:
            for layer in self.calls:
                layer._compiled_call_impl = None


def check_compiler(device: torch.device) -> None:
    """Refuse to compile where there is nothing to compile with, before any time is spent."""
    if device.type == "cpu":
        tried = (os.environ.get("CXX"), "g++", "clang++")
        found, wanted = any(name and shutil.which(name) for name in tried), "a C++ compiler: g++, clang++, or CXX"
    else:
        found, wanted = importlib.util.find_spec("triton") is not None, "the package triton"
    if not found:
        raise ModelError(
            "Compiled layers need a compiler.",
            got=f"model.compile = true on {device.type}, without one",
            accepted=wanted,
            todo="install it, or set model.compile = false: the tokens come from the same mathematics.",
        )


def cache_folder() -> Path:
    """Where compiled graphs stay from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scoreline" / "graphs"
