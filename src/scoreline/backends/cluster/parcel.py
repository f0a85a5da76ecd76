"""Rows of a batch on their way between processes: without padding, which is most of a table with one long answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoreline.types import Batch

Array = NDArray[Any]
"""What Ray hands over without a copy."""

SAID = ("logp_old", "logp_ref", "values", "value_end")
"""The columns that annotating adds."""
A_ROW = ("value_end",)
"""Those of them that have one number a row; the others have one a token."""


@dataclass(frozen=True)
class Parcel:
    """Some rows of a batch: of columns [n, t] the answers' own tokens, side by side; the other columns as they are."""

    width: int
    tokens: dict[str, Array]
    others: dict[str, Array]


def packed(batch: Batch, rows: Tensor) -> Parcel:
    """These rows, as they travel. `unpacked` makes them again, with zeros where there is no token."""
    width, length = batch.completions.shape[1], batch.length[rows]
    there = {f.name: getattr(batch, f.name) for f in fields(batch) if getattr(batch, f.name) is not None}
    wide = {name for name, column in there.items() if column.dim() == 2 and name != "prompts"}
    own = places(length, width, rows)
    return Parcel(
        width,
        {name: there[name].reshape(-1)[own].numpy() for name in wide},
        {name: column[rows].numpy() for name, column in there.items() if name not in wide},
    )


def unpacked(parcel: Parcel) -> Batch:
    """The rows as a batch, in tables of the width that they came from."""
    others = {name: torch.from_numpy(column.copy()) for name, column in parcel.others.items()}
    tables = {name: table([column], others["length"], parcel.width) for name, column in parcel.tokens.items()}
    return Batch(**others, **tables)


def said(batch: Batch) -> dict[str, Array]:
    """What annotating added, as it travels."""
    there = {name: column for name in SAID if (column := getattr(batch, name)) is not None}
    return {
        name: column.cpu().numpy() if name in A_ROW else own_tokens(column, batch.length)
        for name, column in there.items()
    }


def own_tokens(column: Tensor, length: Tensor) -> Array:
    """The answers' own of a column [n, t], side by side."""
    return column.cpu().reshape(-1)[places(length, column.shape[1])].numpy()


def table(parts: Sequence[Array], length: Tensor, width: int, rows: Tensor | None = None) -> Tensor:
    """[n, t] with `tokens` of its rows, in this order of rows, and zeros elsewhere."""
    made = np.zeros(len(length) * width, parts[0].dtype)
    made[places(length if rows is None else length[rows], width, rows).numpy()] = np.concatenate(parts)
    return torch.from_numpy(made).view(len(length), width)


def places(length: Tensor, width: int, rows: Tensor | None = None) -> Tensor:
    """Where the first `length` tokens of these rows are in a table of this width, counted along its rows."""
    rows = torch.arange(len(length)) if rows is None else rows
    first = length.cumsum(0) - length
    return torch.repeat_interleave(rows * width - first, length) + torch.arange(int(length.sum()))
