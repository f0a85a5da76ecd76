"""GSM8K in its own format: `{"question": ..., "answer": "... <<48/2=24>>24 ... #### 72"}`, one object a line.

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems": the final answer stands after `####`.
"""

from __future__ import annotations

from pathlib import Path

from scoreline.environments.readers import Row, read
from scoreline.errors import DataError

SCHEME = "gsm8k:"


def rows(source: str, split: str) -> list[Row]:
    """Columns `prompt` and `question` (the same text), `solution` (worked) and `answer` (final, without commas).

    `source` is "gsm8k:FOLDER", which holds SPLIT.jsonl, or "gsm8k:FILE".
    """
    path = Path(source.removeprefix(SCHEME))
    return [_row(row) for row in read(str(path / f"{split}.jsonl" if path.is_dir() else path))]


def _row(row: Row) -> Row:
    question, solution = row.columns.get("question"), row.columns.get("answer")
    if not isinstance(question, str) or not isinstance(solution, str):
        raise DataError(
            f"{row.place}: not a GSM8K row.",
            got="columns " + ", ".join(row.columns),
            accepted="the texts `question` and `answer`",
        )
    _, marker, answer = solution.rpartition("####")
    if not marker or not answer.strip():
        raise DataError(
            f"{row.place}: the GSM8K solution has no final answer.",
            got=repr(solution[-60:]),
            accepted="a solution that ends in `#### NUMBER`",
        )
    answer = answer.strip().replace(",", "")
    return Row(row.place, {**row.columns, "prompt": question, "solution": solution, "answer": answer})
