"""Prompts from data: the table `[data]` of a recipe, and how a row becomes a prompt.

A row needs a `prompt` column (a text or a list of messages); every other column goes to the reward functions by name.
"""

from __future__ import annotations

import string
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scoreline.environments import arithmetic, gsm8k
from scoreline.environments.arithmetic import Habits
from scoreline.environments.messages import content, text_of
from scoreline.environments.readers import Row, read
from scoreline.environments.split import PromptSet, hold_out
from scoreline.errors import ConfigError, DataError, suggest
from scoreline.types import Prompt

__all__ = ["Data", "PromptSet", "load", "prompt_of", "rows_of"]

HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Data:
    """Where questions come from. `Data("gsm8k:data/gsm8k", held_out_split="test", chat=True)`."""

    source: str = "arithmetic"
    """"arithmetic", "arithmetic-demonstrations" (fine-tuning only), "gsm8k:FOLDER" or "gsm8k:FILE", a .jsonl, .json,
    .csv or .parquet file, or the id of a Hugging Face data set."""
    split: str = "train"
    """The split of a Hugging Face data set or of a GSM8K folder; it also names the rows: `train:17`."""
    subset: str | None = None
    """The configuration of a Hugging Face data set, such as "main"."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Old name to new: {"question": "prompt", "label": "answer"}. A column that had the new name is replaced."""
    template: str | None = None
    """Builds the prompt from columns: "Question: {question}\\nAnswer:"."""
    chat: bool = False
    """Makes a text prompt one user message, so that the model's chat template is used."""
    system: str | None = None
    """A system message before the others; a row's own system message wins."""
    limit: int | None = None
    """Only the first rows."""
    held_out: int | float | None = None
    """Rows to measure on: a count, or a share below 1; 0 for none. Without it a tenth of the rows, or the whole of the
    held-out source."""
    held_out_source: str | None = None
    """Measure on this source instead of holding rows out. Training rows with a text that stands in it are dropped."""
    held_out_split: str | None = None
    """Measure on this split ("test" when only the source is given)."""
    seed: int = 0
    """Of the generated sums and of the held-out split. Not the run's seed: runs with other seeds see the same data."""
    level: int = 2
    """Arithmetic: 1 is two terms up to 9, 2 three up to 20, 3 four up to 50, 4 three up to 20 with + and -."""
    size: int | None = None
    """Arithmetic: distinct questions in all. Without it 2,000, or all that the level has."""
    habits: Habits = field(default_factory=Habits)
    """Arithmetic demonstrations: the mixture."""

    def __post_init__(self) -> None:
        if self.level not in arithmetic.LEVELS:
            raise ConfigError("Unknown data.level.", got=self.level, accepted=", ".join(map(str, arithmetic.LEVELS)))
        for name in ("limit", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.{name} is a number of rows.", got=value, accepted="at least 1")
        amount = self.held_out
        if amount is not None and (amount < 0 or (isinstance(amount, float) and amount >= 1)):
            raise ConfigError(
                "data.held_out is a count or a share.",
                got=amount,
                accepted="a whole number, or a share from 0.0 to below 1.0",
            )
        if self.system is not None and not self.system.strip():
            raise ConfigError("data.system is empty.", todo="write the message, or leave the key out")


def load(data: Data) -> PromptSet:
    """Prompts to train on and prompts to measure on, which never share a text. Order is the source's."""
    prompts = _prompts(data, data.source, data.split, data.split)
    _warn_of_duplicates(prompts)
    if data.held_out_source is None and data.held_out_split is None:
        return hold_out(prompts, HELD_OUT_SHARE if data.held_out is None else data.held_out, data.seed)
    held = _prompts(data, data.held_out_source or data.source, data.held_out_split or "test", "held_out")
    return _without_overlap(prompts, _first(held, data.held_out))


def rows_of(data: Data, source: str, split: str) -> list[Row]:
    """The rows of one source, columns renamed, the first `data.limit` of them."""
    return [_renamed(row, data.columns) for row in _source(data, source, split)[: data.limit]]


def _source(data: Data, source: str, split: str) -> list[Row]:
    if source == "arithmetic":
        generated = arithmetic.sums(data.level, data.size, data.seed)
        return [Row(f"{source}, question {number}", question.columns) for number, question in enumerate(generated, 1)]
    if source == "arithmetic-demonstrations":
        raise DataError(
            "arithmetic-demonstrations are for supervised fine-tuning.", got=source, todo='use "arithmetic"'
        )
    if source.startswith(gsm8k.SCHEME):
        return gsm8k.rows(source, split)
    return read(source, split=split, subset=data.subset)


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    missing = [old for old in names if old not in row.columns]
    if missing:
        raise DataError(
            f"{row.place}: data.columns renames a column that the row does not have.",
            got=missing[0],
            accepted=f"the row's columns: {', '.join(row.columns)}",
            todo=suggest(missing[0], row.columns),
        )
    kept = {name: value for name, value in row.columns.items() if name not in names}
    return Row(row.place, {**kept, **{new: row.columns[old] for old, new in names.items()}})


def _prompts(data: Data, source: str, split: str, prefix: str) -> tuple[Prompt, ...]:
    rows = rows_of(data, source, split)
    return tuple(prompt_of(row, data, f"{prefix}:{index}") for index, row in enumerate(rows))


def prompt_of(row: Row, data: Data, id: str) -> Prompt:
    """One checked prompt: the template or the `prompt` column, with the row's other columns."""
    value = row.columns.get("prompt") if data.template is None else _fill(data.template, row)
    if data.template is None and "prompt" not in row.columns:
        raise DataError(
            f"{row.place}: no `prompt` column.",
            got=f"columns {', '.join(row.columns)}",
            accepted="a column `prompt`: a text or a list of messages",
            todo='rename one, data.columns = {question = "prompt"}, or build it, data.template = "{question}"',
        )
    if isinstance(value, str) and data.system is not None and not data.chat:
        raise DataError(
            f"{row.place}: data.system needs messages, and the prompt is a text.",
            todo="set data.chat = true, or write the instruction into data.template",
        )
    checked = content(value, row.place, chat=data.chat, system=data.system)
    return Prompt(id, checked, {name: value for name, value in row.columns.items() if name != "prompt"})


def _fill(template: str, row: Row) -> str:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        missing = [name for name in names if name not in row.columns]
        if not missing:
            return template.format_map(row.columns)
    except ValueError as error:
        raise ConfigError(
            f"data.template cannot be read: {error}.", got=template, todo="write {{ and }} for braces"
        ) from None
    raise DataError(
        f"{row.place}: data.template names a column that the row does not have.",
        got=f"{{{missing[0]}}}",
        accepted=f"the row's columns: {', '.join(row.columns)}",
        todo=suggest(missing[0], row.columns),
    )


def _warn_of_duplicates(prompts: Sequence[Prompt]) -> None:
    first: dict[str, Prompt] = {}
    again = [(prompt, kept) for prompt in prompts if (kept := first.setdefault(text_of(prompt), prompt)) is not prompt]
    if again:
        prompt, kept = again[0]
        warnings.warn(
            f"{len(again)} of {len(prompts)} prompts repeat the text of another row, such as {prompt.id} that of "
            f"{kept.id}. Each stays a question of its own.",
            stacklevel=3,
        )


def _first(held: tuple[Prompt, ...], amount: int | float | None) -> tuple[Prompt, ...]:
    count = len(held) if amount is None else round(amount * len(held)) if isinstance(amount, float) else amount
    if amount and not count:
        raise DataError("No row would be held out.", got=f"data.held_out = {amount} of {len(held)} rows")
    return held[:count]


def _without_overlap(prompts: Sequence[Prompt], held: tuple[Prompt, ...]) -> PromptSet:
    texts = set(map(text_of, held))
    train = tuple(prompt for prompt in prompts if text_of(prompt) not in texts)
    if not train:
        raise DataError(
            "Nothing would be left to train on: every prompt stands in the held-out source too.",
            todo="give data.held_out_source other questions, or hold rows out with data.held_out",
        )
    dropped = tuple(prompt.id for prompt in prompts if text_of(prompt) in texts)
    if dropped:
        warnings.warn(
            f"{len(dropped)} training prompts stand in the held-out source too and are left out.", stacklevel=3
        )
    return PromptSet(train, held, dropped)
