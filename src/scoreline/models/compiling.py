"""Compiled decoder layers: one graph, made once, that every layer of a model runs through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

GRAPHS = 32
"""Graphs that one process makes of a decoder layer; other shapes run as they are."""


def layers_of(model: Any) -> list[nn.Module]:
    """The decoder layers: the modules that the architecture names as never to be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


class CompiledLayers:
    """Runs a model's decoder layers compiled inside `on()`, as they are outside."""

    def __init__(self, model: Any) -> None:
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
