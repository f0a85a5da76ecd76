"""`inspect.html`: the answers of a step, their tokens tinted by what they were told. No scripts, nothing loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreline.reports import jsonl
from scoreline.reports.answers import Span
from scoreline.reports.frame import Frame, framed
from scoreline.reports.inspect.table import Column, compared, named, present, sum_of
from scoreline.reports.inspect.view import Inspection, Sample, Telling, Token
from scoreline.reports.inspect.words import short
from scoreline.reports.numerals import brief
from scoreline.reports.plaintext import visible
from scoreline.reports.tints import Scale

LONGEST = 600
"""Tokens of an answer beside others; the answer that was asked for has all of them."""


@dataclass(frozen=True)
class View:
    """One way to tint: the class of its elements, the legend's words, a token's value, its scale."""

    name: str
    words: str
    of: Callable[[Token], float | None]
    scale: Scale


def write_page(folder: Path, found: Inspection, sample: int | None = None) -> Path:
    """Writes `inspect.html` into the run's folder: all saved answers of the step, or one with its group and a table of
    its tokens. Raises `CheckpointError` when it cannot be written.
    """
    page = folder / "inspect.html"
    jsonl.replace(page, render(found, sample))
    return page


def render(found: Inspection, sample: int | None = None) -> str:
    """The page as text."""
    picked = _picked(found, sample)
    views = _views(found, picked)
    chosen = None if sample is None else found.samples[sample]
    columns = [] if chosen is None else present(chosen, found.what_if)
    return framed(
        "inspect.html.j2",
        _frame(found, chosen),
        found=found,
        views=views,
        answers=[_dressed(one, views, None if one.index == sample else LONGEST) for one in picked],
        chosen=chosen,
        columns=columns,
        rows=[] if chosen is None else [(token, named(token), _row(token, columns)) for token in chosen.tokens],
        compared=[] if found.what_if is None else list(compared(found.what_if)),
    )


def _frame(found: Inspection, chosen: Sample | None) -> Frame:
    words = "What these answers were told" if chosen is None else "What this answer was told"
    beta = [] if found.beta is None else [("beta", f"{found.beta:.4g}")]
    losses = [(f"loss, {name}", f"{loss:.6g}") for name, loss in found.losses.items()]
    facts = [("objective", str(found.objective)), *beta, *losses]
    eyebrow = f"Scoreline · {found.run} · step {found.step}"
    return Frame(f"{found.run}, step {found.step}", eyebrow, [("words", words)], facts)


def _picked(found: Inspection, sample: int | None) -> list[Sample]:
    """All answers, or the one that was asked for and after it those to the same question."""
    if sample is None:
        return list(found.samples)
    first = found.samples[sample]
    return [first, *(one for one in found.samples if one.group == first.group and one is not first)]


def _views(found: Inspection, picked: Sequence[Sample]) -> list[View]:
    """By coefficient, by advantage, by KL, and by the other objective's coefficient, as far as they are known."""
    ways: list[tuple[str, str, Callable[[Token], float | None]]] = [
        ("by-coefficient", "tokens, by gradient coefficient", lambda token: token.told.coefficient),
        ("by-advantage", "by advantage", lambda token: token.told.advantage),
        ("by-kl", "by KL to the reference", lambda token: token.told.kl),
        ("by-other", "by what the other objective would tell them", _other),
    ]
    own = [token for one in picked for token in one.tokens if token.own]
    made = []
    for name, words, of in ways:
        values = [value for value in map(of, own) if value is not None]
        if values:
            made.append(View(name, words, of, _scale(values)))
    return made


def _other(token: Token) -> float | None:
    return None if token.other is None else token.other.coefficient


def _scale(values: Sequence[float], share: float = 0.95) -> Scale:
    """Zero is the middle; the ends hold `share` of the values that are not zero."""
    sizes = sorted(abs(value) for value in values if value) or [1.0]
    end = sizes[min(len(sizes) - 1, int(share * len(sizes)))]
    return Scale(-end, end, (f"≤ {short(-end)}", "0", f"≥ {short(end)}"))


def _dressed(one: Sample, views: Sequence[View], limit: int | None) -> dict[str, Any]:
    tokens = one.tokens[:limit]
    rest = len(one.tokens) - len(tokens)
    more = [Span(f" … ({rest:,} more tokens)")] if rest else []
    return {"sample": one, "views": [(view.name, [*(_span(token, view) for token in tokens), *more]) for view in views]}


def _span(token: Token, view: View) -> Span:
    """A token, its tint, and what a pointer reads."""
    value, text = view.of(token), visible(token.piece or "∎", keep="\n\t")
    if not token.own or value is None:
        return Span(text, "t0 plain", "carries no loss")
    note = "" if token.reward is None else brief(token.reward)
    told = token.other if view.of is _other and token.other is not None else token.told
    return Span(text, view.scale.tint(value) + (" clipped" if told.clipped else ""), _title(token), note)


def _title(token: Token) -> str:
    told = token.told
    words = [f"token {token.index}: GC {sum_of(told)}", f"A {short(told.advantage)}", f"ratio {token.ratio:.3f}"]
    words += ["clipped"] if told.clipped else []
    words += [] if told.kl is None else [f"KL {told.kl:.3g}"]
    words += [] if token.other is None else [f"the other's GC {_telling(token.other)}"]
    return ", ".join(words)


def _telling(told: Telling) -> str:
    return sum_of(told) + (", clipped" if told.clipped else "")


def _row(token: Token, columns: Sequence[Column]) -> list[str]:
    return [_number(column.of(token)) for column in columns]


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.4g}".replace("-", "−")
