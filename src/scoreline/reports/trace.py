"""The tensors of a step's kept answers: every column of their batch, exactly as the loop left it.

`completions/step-000010.safetensors` holds each column by its name; its rows are the lines of `step-000010.jsonl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scoreline.errors import CheckpointError
from scoreline.reports import jsonl
from scoreline.types import Batch, Rollout

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


def whole_groups(rollouts: Sequence[Rollout], limit: int | Literal["all"]) -> int:
    """How many of the first answers make whole groups and are at most `limit`; the first group, however large."""
    groups = [rollout.group for rollout in rollouts]
    ends = [end for end in range(1, len(groups) + 1) if end == len(groups) or groups[end] != groups[end - 1]]
    if limit == "all" or not ends:
        return len(groups)
    return max((end for end in ends if end <= limit), default=ends[0])


def write_trace(path: Path, batch: Batch) -> None:
    """Writes the columns that the batch has, without the padding that none of its rows uses: the file is whole or not
    there. Raises `CheckpointError` when it cannot be written.
    """
    from safetensors.torch import save

    from scoreline.train.collate import trim

    narrow = trim(batch)
    columns = {field.name: getattr(narrow, field.name) for field in fields(Batch)}
    kept = {name: column.detach().cpu().contiguous() for name, column in columns.items() if column is not None}
    jsonl.replace(path, save(kept))


def read_trace(path: Path) -> Batch:
    """The batch that `write_trace` wrote. Raises `CheckpointError` for a file that is missing, broken, or not one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        columns = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    if fault := _fault(columns):
        raise _unreadable(path, fault)
    return Batch(**columns)


def _fault(columns: dict[str, Tensor]) -> str | None:
    """What does not make a batch."""
    known = {field.name: field.default is MISSING for field in fields(Batch)}
    missing = sorted(name for name, required in known.items() if required and name not in columns)
    if missing:
        return f"no column {', '.join(missing)}"
    if unknown := sorted(columns.keys() - known.keys()):
        return f"columns that this version does not know: {', '.join(unknown)}"
    rows = sorted({int(column.shape[0]) if column.dim() else 0 for column in columns.values()})
    return f"columns of {' and '.join(map(str, rows))} rows" if len(rows) > 1 else None


def _unreadable(path: Path, reason: object) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as the tensors of a step.",
        got=reason,
        accepted="the file that `scoreline train` wrote beside the step's answers",
        todo="restore the file, look at another step, or go on without it: only `inspect` reads it.",
    )
