"""JSON lines on disk: appends that survive a crash, reads that tolerate the one line that a crash tore."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scoreline.errors import CheckpointError

Row = dict[str, Any]


def finite(value: Any) -> Any:
    """The same value with null for NaN and infinity, which JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def encode(value: Any, *, indent: int | None = None) -> str:
    """Standard JSON. Text stays readable; a newline inside a string is escaped, so one value is one line."""
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into a `CheckpointError` that says what to do."""
    try:
        yield
    except OSError as error:
        todo = "make room or choose another folder, then continue with --resume"
        raise CheckpointError(f"cannot write {path}", got=error.strerror or error, todo=todo) from error


# A lone surrogate cannot be UTF-8; as a backslash escape it is valid JSON and reads back as itself.
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one line and closes the file, so that a killed process loses at most this line.

    Raises `CheckpointError` when the disk is full or the folder cannot be written.
    """
    with writing(path), path.open("a", **_TEXT) as file:
        file.write(encode(row) + "\n")


def replace(path: Path, content: str | bytes) -> None:
    """Writes the whole file or leaves the old one: a temporary neighbour, fsync, rename."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def read(path: Path) -> list[Row]:
    """The rows of a file, in order; none for a file that is not there.

    A last line without its newline was torn by a crash and is left out. Raises `CheckpointError` for any other line
    that is not a JSON object, with its number.
    """
    if not path.is_file():
        return []
    *lines, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_row(path, number, line) for number, line in enumerate(lines, start=1)]


def last(path: Path, longest: int = 1 << 16) -> Row | None:
    """The last whole row of a file that may be growing; None where there is none, or it is longer than `longest`."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - longest))
        lines = file.read().decode("utf-8", "replace").split("\n")[:-1]
    try:
        row = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _row(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if isinstance(row, dict):
        return row
    todo = "delete the line, or restore the file"
    raise CheckpointError(f"{path}, line {number}: broken", got=repr(line[:80]), accepted="one JSON object", todo=todo)


def keep(path: Path, wanted: Callable[[Row], bool]) -> None:
    """Rewrites the file with the wanted rows only, and without a torn last line."""
    if path.is_file():
        replace(path, "".join(encode(row) + "\n" for row in read(path) if wanted(row)))
