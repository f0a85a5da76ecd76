"""What judges learn from: pairs of answers of which one is better, and answers whose steps are labelled.

A pair's row is `{"prompt": ..., "chosen": ..., "rejected": ...}`, or two conversations `chosen` and `rejected` that
differ in their last turn. A labelled row is
`{"prompt": ..., "completions": ["3+8=11;", "11+12=23"], "labels": [1, 1]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from scoreline.environments.messages import conversation, text_of
from scoreline.environments.prompts import HELD_OUT_SHARE, Data, prompt_of, rows_of
from scoreline.environments.readers import Row
from scoreline.environments.split import hold_out
from scoreline.errors import DataError
from scoreline.types import Prompt


@dataclass(frozen=True)
class Pair:
    """`Pair(Prompt("train:0", "3+8="), chosen="#11", rejected="#12")`."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Labelled:
    """An answer cut into steps, and for each step the probability, from 0 to 1, that it is right."""

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[float, ...]


T = TypeVar("T", Pair, Labelled)


def load_pairs(data: Data) -> tuple[Pair, ...]:
    """All preference pairs of `data.source`. Raises `DataError` for a row that prefers nothing."""
    rows = rows_of(data, data.source, data.split)
    return tuple(_pair(row, data, f"{data.split}:{index}") for index, row in enumerate(rows))


def load_labelled(data: Data, *, separator: str = "") -> tuple[Labelled, ...]:
    """All answers with labelled steps of `data.source`.

    `separator` goes behind each step but the last that does not end with it: some data sets leave the line end out.
    """
    rows = rows_of(data, data.source, data.split)
    return tuple(_labelled(row, data, f"{data.split}:{index}", separator) for index, row in enumerate(rows))


def hold_out_rows(data: Data, load: Callable[[Data], tuple[T, ...]]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Rows to train on and rows to measure on, as `data` says. No prompt is on both sides."""
    rows = load(data)
    if data.held_out_source is None and data.held_out_split is None:
        amount = HELD_OUT_SHARE if data.held_out is None else data.held_out
        held = set(map(text_of, hold_out([row.prompt for row in rows], amount, data.seed).held_out))
        measured = tuple(row for row in rows if text_of(row.prompt) in held)
    else:
        source, split = data.held_out_source or data.source, data.held_out_split or "test"
        measured = _first(load(replace(data, source=source, split=split)), data.held_out)
        held = {text_of(row.prompt) for row in measured}
    return _others(rows, held), measured


def _first(rows: tuple[T, ...], amount: int | float | None) -> tuple[T, ...]:
    count = len(rows) if amount is None else round(amount * len(rows)) if isinstance(amount, float) else amount
    if amount and not count:
        raise DataError("No row would be held out.", got=f"data.held_out = {amount} of {len(rows)} rows")
    return rows[:count]


def _others(rows: Sequence[T], held: set[str]) -> tuple[T, ...]:
    train = tuple(row for row in rows if text_of(row.prompt) not in held)
    if not train:
        raise DataError(
            "Nothing would be left to train on: every prompt is held out.",
            got=f"{len(rows)} rows with {len(held)} held-out prompts",
            todo="give data.held_out_source other questions, or lower data.held_out",
        )
    return train


def _pair(row: Row, data: Data, id: str) -> Pair:
    _check_columns(row, ("chosen", "rejected"), data.template is not None or _implicit(row))
    if data.template is None and _implicit(row):
        row = _split(row)
    prompt = prompt_of(row, data, id)
    chosen, rejected = _answer(row, "chosen"), _answer(row, "rejected")
    if chosen == rejected:
        raise DataError(
            f"{row.place}: chosen and rejected are the same, so the row prefers nothing.",
            got=repr(chosen[:80]),
            todo="remove the row",
        )
    return Pair(_without(prompt, ("chosen", "rejected")), chosen, rejected)


def _check_columns(row: Row, names: Sequence[str], prompted: bool) -> None:
    missing = [name for name in (*([] if prompted else ["prompt"]), *names) if name not in row.columns]
    if missing:
        raise DataError(
            f"{row.place}: no `{missing[0]}` column.",
            got=f"columns {', '.join(row.columns)}",
            accepted=", ".join(["prompt", *names]),
            todo=f'rename one with data.columns, such as {{old = "{missing[0]}"}}',
        )


def _implicit(row: Row) -> bool:
    """Whether the prompt stands inside of the two conversations."""
    return "prompt" not in row.columns and isinstance(row.columns.get("chosen"), list)


def _split(row: Row) -> Row:
    """Two conversations to the prompt that they share and the two last turns."""
    *before, _ = conversation(row.columns["chosen"], f"{row.place}, chosen")
    *other, _ = conversation(row.columns["rejected"], f"{row.place}, rejected")
    if before != other or not before:
        raise DataError(
            f"{row.place}: chosen and rejected must be answers to the same turns, and these differ before the last.",
            got=f"{len(before)} turns before the chosen answer, {len(other)} before the rejected one",
            accepted="conversations that differ in their last turn alone, or a column `prompt`",
        )
    last = {name: row.columns[name][-1:] for name in ("chosen", "rejected")}
    return Row(row.place, {**row.columns, **last, "prompt": before})


def _answer(row: Row, name: str) -> str:
    value = row.columns[name]
    if isinstance(value, list) and len(value) == 1 and conversation(value, f"{row.place}, {name}"):
        value = value[0]["content"] if value[0]["role"] == "assistant" else value
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{row.place}: `{name}` must be an answer that is not empty.",
            got=f"{type(value).__name__} {value!r}"[:80],
            accepted="a text, or one message of the assistant",
            todo="remove the row, or fill the column",
        )
    return value


def _labelled(row: Row, data: Data, id: str, separator: str) -> Labelled:
    _check_columns(row, ("completions", "labels"), data.template is not None)
    prompt = _without(prompt_of(row, data, id), ("completions", "labels"))
    steps, labels = _list(row, "completions"), _list(row, "labels")
    if len(steps) != len(labels):
        raise DataError(
            f"{row.place}: steps and labels differ in number.",
            got=f"{len(steps)} completions and {len(labels)} labels",
            accepted="one label for each step",
            todo="correct or remove the row",
        )
    checked = [_step(row.place, step) for step in steps]
    joined = [step if step.endswith(separator) else step + separator for step in checked[:-1]]
    return Labelled(
        prompt, (*joined, checked[-1]), tuple(_label(row.place, *one) for one in enumerate(labels, start=1))
    )


def _list(row: Row, name: str) -> list[object]:
    value = row.columns[name]
    if not isinstance(value, list | tuple) or not value:
        raise DataError(
            f"{row.place}: `{name}` must be a list that is not empty.",
            got=f"{type(value).__name__} {value!r}"[:80],
            accepted='completions such as ["3+8=11;", "11+12=23#23"] with labels such as [1, 1]',
            todo="remove the row, or correct the column",
        )
    return list(value)


def _step(place: str, step: object) -> str:
    if not isinstance(step, str) or not step.strip():
        got = f"{type(step).__name__} {step!r}"[:80]
        raise DataError(f"{place}: a step must be a text that is not empty.", got=got)
    return step


def _label(place: str, number: int, label: object) -> float:
    if not isinstance(label, bool | int | float) or not 0 <= label <= 1:
        raise DataError(
            f"{place}: the label of step {number} is not a share.",
            got=f"{type(label).__name__} {label!r}"[:80],
            accepted="true or false, or a number from 0 (wrong) to 1 (right)",
            todo="for labels -1 and 1 write 0 and 1",
        )
    return float(label)


def _without(prompt: Prompt, names: Sequence[str]) -> Prompt:
    return replace(prompt, columns={name: value for name, value in prompt.columns.items() if name not in names})
