"""Files and data sets to rows. A row knows its place, so that every later complaint can name the file and the line.

JSONL, JSON (one array of objects), CSV with a header, parquet, and Hugging Face ids. Text files are UTF-8.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreline.errors import DataError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Row:
    """`Row("train.jsonl, line 3", {"prompt": "3+8=", "answer": "11"})`."""

    place: str
    columns: Mapping[str, Any]


def read(source: str, *, split: str = "train", subset: str | None = None) -> list[Row]:
    """All rows of a file, or of `split` (and `subset`) of a Hugging Face data set. Never empty."""
    path = Path(source)
    if path.suffix in READERS:
        rows = READERS[path.suffix](path)
    elif path.exists() or not HUB_ID.fullmatch(source):
        raise DataError(
            "The data source is neither a file of a known kind nor the id of a data set.",
            got=source,
            accepted=f"arithmetic, gsm8k:FOLDER, a file that ends in {', '.join(READERS)}, or OWNER/NAME",
        )
    else:
        rows = read_hub(source, split, subset)
    if not rows:
        raise DataError(f"{source} is empty.", accepted="at least one row", todo="check the path and the file")
    return rows


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            "The data file does not exist.", got=path, todo=f"check the path; relative paths start at {Path.cwd()}"
        ) from None
    except OSError as error:
        raise DataError(f"The data file cannot be read: {error.strerror}.", got=path) from error


def read_text(path: Path) -> str:
    raw = read_bytes(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8.",
            got=f"byte 0x{raw[error.start]:02x} at offset {error.start}, line {line}",
            accepted="UTF-8 text",
            todo="save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from None


def read_jsonl(path: Path) -> list[Row]:
    """One JSON object a line; blank lines are skipped. Only a newline ends a line: U+2028 may stand inside a string."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [
        _object(f"{path}, line {number}", _parse(f"{path}, line {number}", line))
        for number, line in lines
        if line.strip()
    ]


def read_json(path: Path) -> list[Row]:
    """One array of objects."""
    text = read_text(path)
    rows = _parse(str(path), text) if text.strip() else []
    if not isinstance(rows, list):
        raise DataError(
            f"{path} is not an array of rows.",
            got=f"a JSON {type(rows).__name__}",
            accepted='[{"prompt": ...}, ...]',
            todo="for one object a line, name the file .jsonl",
        )
    return [_object(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _parse(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DataError(f"{place}: broken JSON: {error.msg} at {where}.", got=_shorten(text, error.pos)) from None
    except RecursionError:
        raise DataError(f"{place}: the JSON is nested too deeply.", got=_shorten(text, 0)) from None


def _shorten(text: str, position: int) -> str:
    start = max(0, position - 30)
    return repr(text[start : start + 60])


def _object(place: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{place}: a row must be a JSON object.", got=repr(row)[:80], accepted='{"prompt": "...", ...}')
    return Row(place, row)


def read_csv(path: Path) -> list[Row]:
    """Comma-separated, first line the column names, every value a string."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path}, line 1: two columns have the same name.", got=", ".join(header))
        return [_fields(f"{path}, line {reader.line_num}", header, fields) for fields in reader if fields]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: broken CSV: {error}.") from None


def _fields(place: str, header: list[str], fields: list[str]) -> Row:
    if len(fields) != len(header):
        raise DataError(
            f"{place}: the row does not fit the header.",
            got=f"{len(fields)} fields",
            accepted=f"{len(header)} fields: {', '.join(header)}",
            todo='put fields that contain a comma or a newline in "double quotes"',
        )
    return Row(place, dict(zip(header, fields, strict=True)))


def read_parquet(path: Path) -> list[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            "Reading parquet needs the [data] extra.", got=path, todo="pip install 'scoreline[data]'"
        ) from None
    raw = read_bytes(path)
    try:
        rows = pyarrow.parquet.read_table(pyarrow.BufferReader(raw)).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a parquet file.", got=str(error).splitlines()[0]) from error
    return [Row(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def read_hub(source: str, split: str, subset: str | None) -> list[Row]:
    """A Hugging Face data set by id. `datasets` takes slices such as `train[:500]` as a split."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            "The data source is no file, and reading a Hugging Face data set needs the [data] extra.",
            got=source,
            accepted=f"arithmetic, gsm8k:FOLDER, a file that ends in {', '.join(READERS)}, or OWNER/NAME",
            todo="correct the path, or pip install 'scoreline[data]'",
        ) from None
    try:
        table = datasets.load_dataset(source, subset, split=split)
    except (OSError, ValueError) as error:
        raise DataError(
            f"The data set {source!r} (split {split!r}) cannot be loaded.",
            got=f"{type(error).__name__}: {error}",
            todo="check the id, data.split and data.subset, and the connection",
        ) from error
    return [Row(f"{source}, split {split}, row {number}", dict(row)) for number, row in enumerate(table, start=1)]


READERS: Mapping[str, Callable[[Path], list[Row]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
