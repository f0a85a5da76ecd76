"""A step on the terminal: a line for each answer, a line for each token, or one token with its sum written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from scoreline.reports.inspect.view import Inspection, Sample, Telling, Token, WhatIf
from scoreline.reports.inspect.words import short
from scoreline.reports.numerals import brief
from scoreline.reports.plaintext import clipped, visible

LONGEST = 60
"""Characters of a question or an answer in a list."""


@dataclass(frozen=True)
class Column:
    """A column of the token table: its heading, what it means, and a token's value in it (None: a dash)."""

    heading: str
    meaning: str
    of: Callable[[Token], Any]


COLUMNS = (
    Column("sampler", "log pi of the engine that sampled, nats", lambda token: token.sampler),
    Column("old", "log pi of the learner when the batch was made", lambda token: token.old),
    Column("now", "log pi in the last update that used the answer", lambda token: token.now),
    Column("ref", "log pi of the reference model", lambda token: token.reference),
    Column("ratio", "rho = pi / pi_old", lambda token: token.ratio),
    Column("clip", "x where the clip took the gradient away", lambda token: "x" if token.told.clipped else None),
    Column("reward", "where it was earned", lambda token: token.reward),
    Column("step", "the step of the answer that ends here", lambda token: token.ends),
    Column("A", "the advantage", lambda token: token.told.advantage),
    Column("KL", "the KL estimator's value, without beta, nats", lambda token: token.told.kl),
    Column("V", "what the critic foresaw", lambda token: token.value),
    Column("pull", "the KL's share of GC", lambda token: token.told.pull or None),
    Column("GC", "the gradient coefficient", lambda token: token.told.coefficient),
    Column("w", "the weight: the gradient is sum w GC grad log pi", lambda token: token.told.weight),
)


def show(found: Inspection, sample: int | None, token: int | None, stream: TextIO) -> None:
    """Prints the samples of a step, the tokens of a sample, or a token."""
    terminal = Console(file=stream, highlight=False)
    for line in _head(found):
        _say(terminal, line)
    if sample is None:
        _table(terminal, _listed(found))
        _say(terminal, "\n--sample I shows the tokens of one, --html a page with all of them.")
        return
    one = found.samples[sample]
    for line in _about(one, found.what_if):
        _say(terminal, line)
    if token is None:
        columns = present(one, found.what_if)
        _table(terminal, _tokens(one, columns))
        _say(terminal, "\n" + "\n".join(f"{column.heading:<9}{column.meaning}" for column in columns))
    else:
        for line in _sum(one.tokens[token], found):
            _say(terminal, line)


def _head(found: Inspection) -> Iterator[str]:
    beta = "" if found.beta is None else f", beta {found.beta:.4g}"
    yield f"{found.run}, step {found.step}: {found.objective}{beta}, loss {_losses(found.losses)}"
    if found.what_if is not None:
        yield from compared(found.what_if)
    yield from found.notes
    yield ""


def compared(what_if: WhatIf) -> Iterator[str]:
    """The other objective beside the run's own, a sentence a line."""
    yield f"what if: {what_if.name}, loss {_losses(what_if.losses)}"
    for address, (own, other) in what_if.settings.items():
        yield f"  {address}: {_word(own)} -> {_word(other)}"
    if not what_if.settings:
        yield "  the same objective"
    a = what_if.coefficients
    yield f"  over all w GC: cosine {a.cosine:.4f}, norms {a.norm:.4g} (own) and {a.other:.4g}"
    if what_if.gradient is not None:
        g = what_if.gradient
        yield f"  over the weights' gradient: cosine {g.cosine:.4f}, norms {g.norm:.4g} (own) and {g.other:.4g}"
        yield f"  the weights are those of {what_if.checkpoint}"


def _listed(found: Inspection) -> Table:
    table = _plain(["sample", "id", "question", "answer", "reward", "tokens", "mean |GC|"])
    if found.what_if is not None:
        table.add_column("what if", justify="right")
    for one in found.samples:
        other = [] if found.what_if is None else [f"{one.other_strength:.3g}"]
        reward = "–" if one.reward is None else brief(one.reward)
        cells = [one.id, clipped(one.prompt, LONGEST), clipped(one.answer, LONGEST), reward, str(len(one.tokens))]
        table.add_row(*map(_text, [str(one.index), *cells, f"{one.strength:.3g}", *other]))
    return table


def _about(one: Sample, what_if: WhatIf | None) -> Iterator[str]:
    parts = ", ".join(f"{name} {'–' if part is None else brief(part)}" for name, part in one.parts.items())
    yield f"sample {one.index}, question {one.id}"
    yield f"prompt:  {one.prompt}"
    yield f"answer:  {one.answer}"
    yield f"reward:  {'–' if one.reward is None else brief(one.reward)}" + (f" ({parts})" if parts else "")
    for number, step in enumerate(one.steps):
        given = step["reward"]
        yield f"step {number}:  {'–' if given is None else brief(given)}  {clipped(step['text'].strip(), LONGEST)}"
    yield f"told:    {one.words}"
    if what_if is not None:
        yield f"what if: {one.other_words}"
    yield ""


def present(one: Sample, what_if: WhatIf | None) -> list[Column]:
    """The columns in which some token of the answer has something, and the other objective's."""
    others = [] if what_if is None else [_other("A", "advantage"), _other("GC", "coefficient"), _other("w", "weight")]
    return [column for column in (*COLUMNS, *others) if any(column.of(token) is not None for token in one.tokens)]


def _other(heading: str, name: str) -> Column:
    def of(token: Token) -> Any:
        return None if token.other is None else getattr(token.other, name)

    return Column(f"{heading}'", f"{heading} under the other objective", of)


def _tokens(one: Sample, columns: Sequence[Column]) -> Table:
    table = _plain(["t", "token", *(column.heading for column in columns)], left=2)
    for token in one.tokens:
        told = [_cell(column.of(token)) for column in columns]
        style = "dim" if not token.own else "blue" if token.told.coefficient > 0 else "yellow"
        table.add_row(str(token.index), _text(named(token), style), *map(_text, told))
    return table


def _sum(token: Token, found: Inspection) -> Iterator[str]:
    """Everything about one token, and how its coefficient adds up."""
    yield f"token {token.index}: {named(token)}"
    for column in COLUMNS:
        value = column.of(token)
        yield f"  {column.heading:<9}{_cell(value):>10}  {column.meaning}"
    yield f"  GC = {sum_of(token.told)}, and w GC = {short(token.told.weight * token.told.coefficient)}"
    if token.other is not None and found.what_if is not None:
        weighted = short(token.other.weight * token.other.coefficient)
        yield f"  under {found.what_if.name}: A = {short(token.other.advantage)}, clipped: {_yes(token.other.clipped)}"
        yield f"  GC = {sum_of(token.other)}, and w GC = {weighted}"


def sum_of(told: Telling) -> str:
    """`+1.2 (policy) − 0.01 (KL) = +1.19`."""
    if not told.pull:
        return short(told.coefficient)
    return f"{short(told.policy)} (policy) {short(told.pull)} (KL) = {short(told.coefficient)}"


def named(token: Token) -> str:
    """The token's text on one line; ∎ for a token without text, such as the end."""
    return token.piece.replace(" ", "·") or "∎"


def _yes(said: bool) -> str:
    return "yes" if said else "no"


def _plain(headings: Sequence[str], left: int = 4) -> Table:
    """A table without lines whose first columns are text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=True)
    return table


def _table(terminal: Console, table: Table) -> None:
    """The whole table: a line that is wider than the terminal goes on in the next one."""
    wide = terminal.options.update(max_width=10_000)
    terminal.width = max(terminal.width, Measurement.get(terminal, wide, table).maximum)
    terminal.print(table)


def _say(terminal: Console, line: str) -> None:
    terminal.print(Text(visible(line, keep="\n")), soft_wrap=True)


def _text(content: str, style: str = "") -> Text:
    return Text(visible(content), style=style)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else f"{value:.4g}"


def _losses(losses: Mapping[str, float]) -> str:
    return f"{sum(losses.values()):.6g} (" + ", ".join(f"{name} {part:.6g}" for name, part in losses.items()) + ")"


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
