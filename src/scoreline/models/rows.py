"""Tensors in safetensors files that several processes wrote: each file has some of the rows, and all have the names.

`optimizer.safetensors` is one file with all rows. `optimizer-00001-of-00002.safetensors` is the first of two: a tensor
is the concatenation, in the order of the files, of what stands under its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from scoreline.errors import CheckpointError


def part_name(stem: str, rank: int, world: int) -> str:
    """The file of one of several writers, who count from 0."""
    return f"{stem}.safetensors" if world == 1 else f"{stem}-{rank + 1:05d}-of-{world:05d}.safetensors"


def part_files(folder: Path, stem: str) -> list[Path]:
    """The files that hold a table together, in order; empty where there are none. Raises for one that is missing."""
    whole = folder / f"{stem}.safetensors"
    if whole.is_file():
        return [whole]
    found = sorted(folder.glob(f"{stem}-?????-of-?????.safetensors"))
    if found and [file.name for file in found] != [part_name(stem, i, len(found)) for i in range(len(found))]:
        raise CheckpointError(
            f"Some of the files that hold {stem} together are missing.",
            got=f"{folder} with {', '.join(file.name for file in found)}",
            accepted="every part from 00001 to the number that their names end in",
            todo="copy the whole folder again, or resume from another checkpoint.",
        )
    return found


class Parts:
    """A table of tensors in its files. Nothing but the rows that are asked for is read."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem

    @cached_property
    def places(self) -> dict[str, list[Any]]:
        """By name, the files in which it has rows."""
        found: dict[str, list[Any]] = {}
        files = part_files(self.folder, self.stem)
        if not files:
            raise CheckpointError(f"The checkpoint has no {self.stem}.safetensors.", got=str(self.folder))
        for file in files:
            opened: Any = safe_open(file, framework="pt")
            for name in opened.keys():  # noqa: SIM118 - a file, not a mapping
                found.setdefault(name, []).append(opened)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        shapes = [tuple(file.get_slice(name).get_shape()) for file in self._files(name)]
        return shapes[0] if len(shapes) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """Some rows of a tensor, or all of it."""
        files = self._files(name)
        if rows == slice(None):
            tensors = [file.get_tensor(name) for file in files]
            return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        read, passed = [], 0
        for part in (file.get_slice(name) for file in files):
            count = part.get_shape()[0]
            read.append(part[min(max(rows.start - passed, 0), count) : min(max(rows.stop - passed, 0), count)])
            passed += count
        return torch.cat(read)

    def _files(self, name: str) -> list[Any]:
        if name not in self.places:
            raise CheckpointError(
                f"{name} is not in the checkpoint's {self.stem}.",
                got=f"{self.folder}, with {len(self.places)} other tensors",
                todo="resume with the model and the objective that the run began with.",
            )
        return self.places[name]
