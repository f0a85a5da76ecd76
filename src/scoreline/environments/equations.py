"""Equations in a running text: where they stand, and whether they hold, in exact fractions.

An expression has + - * / ( ) and numbers such as 1,234.50 and .5 and 50%, the signs × · ÷ − and LaTeX's names of them,
and `5 x 3` between numbers. Currency signs are passed over. What cannot be read with certainty (a letter, a power, a
missing operand) is no expression, and a side of an equation that is none is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise

from scoreline.environments.verify import LATEX_FRACTION

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+"
TOKEN = re.compile(rf"\s*((?:{NUMBER})%?|[-+*/()])")
DECIMALS = re.compile(r"\.(\d+)(%?)$")

SIGNS = {
    **dict.fromkeys(["×", "·", "⋅", "∙", "\\times", "\\cdot"], "*"),
    **dict.fromkeys(["÷", "\\div"], "/"),
    **dict.fromkeys(["−", "–"], "-"),
    **dict.fromkeys(["\\$", "$", "€", "£", "¥", "\\left", "\\right"], ""),
    "\\%": "%",
}
SIGN = re.compile("|".join(map(re.escape, sorted(SIGNS, key=len, reverse=True))))
MIXED = re.compile(r"(?<=\d)\s*(?=\\[dt]?frac\b)")
TIMES = re.compile(r"(?<=[\d)%])\s*[xX]\s*(?=[\d(.])|(?<=%)\s+of\s+(?=\d)")
IMPLIED = re.compile(r"(?<=[\d%)])(?=\()|(?<=\))(?=\d)")
"""`2(3+4)` and `(2)(3)` are products."""

ISLAND = re.compile(r"[-+*/()=%.,\d \t]+")
STOP = re.compile(r"[.,](?!\d)")
ASIDE = re.compile(r"(?<=[\d%)])[ \t]+\(")
BULLET = re.compile(r"\s*[-*+]\s+")
OPERAND = r"[A-Za-zÀ-ɏͰ-Ͽ_^!²³]"
"""What next to a number or a sign makes it a part of something that is not read here: 2y, x + 3, 2^3."""
BEFORE = re.compile(rf"{OPERAND}|[\]}})]")
AFTER = re.compile(rf"{OPERAND}|\\[A-Za-z]")
APART = re.compile(r"\s+-?[\d.(]")
"""How an expression begins behind a word: `is -3 + 8 = 5`, but not `x - 3 = 5`."""

LONGEST, DEEPEST = 200, 20
"""Characters and open brackets of an expression that is read: what bounds the time."""

WHOLE, PERCENT = Fraction(1), Fraction(1, 100)
"""The two readings of the sign %: 30% + 20% = 50%, and 20% x 50 = 10."""


@dataclass(frozen=True)
class Side:
    """One side of an equation: the tokens of an expression."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, written: str) -> Side | None:
        """The expression that this text is; None when it is none."""
        text = IMPLIED.sub("*", plain(written).strip())
        if len(text) > LONGEST or text.count("(") > DEEPEST or TOKEN.sub("", text).strip():
            return None
        side = cls(tuple(TOKEN.findall(text)))
        return side if _Reader(side.tokens, WHOLE).whole() else None

    def value(self, percent: Fraction = PERCENT) -> Fraction | None:
        """The exact value, n% being `percent` times n; None where something is divided by zero."""
        reader = _Reader(self.tokens, percent)
        total = reader.sum()
        return total if reader.defined else None

    @property
    def reckons(self) -> bool:
        """Whether it has an operator, and not only a sign."""
        return any(token in "+-*/" for token in self.tokens[1:])

    def slack(self, percent: Fraction) -> Fraction:
        """Half a unit of the last decimal of a side that is one number: 33.33 stands for all that rounds to it."""
        decimals = DECIMALS.search(self.tokens[-1])
        if self.reckons or decimals is None:
            return Fraction(0)
        return Fraction(1, 2 * 10 ** len(decimals[1])) * (percent if decimals[2] else WHOLE)


def plain(text: str) -> str:
    """The text with one spelling for each operator, and without currency signs."""
    text = LATEX_FRACTION.sub(r"((\1)/(\2))", MIXED.sub("_", text))
    return TIMES.sub("*", SIGN.sub(lambda sign: SIGNS[sign[0]], text))


def agree(left: Side, right: Side) -> bool:
    """left = right in exact fractions, a decimal number up to its rounding, under one of the readings of %."""
    readings = (WHOLE, PERCENT) if any("%" in token for token in (*left.tokens, *right.tokens)) else (WHOLE,)
    return any(_equal(left, right, percent) for percent in readings)


def _equal(left: Side, right: Side, percent: Fraction) -> bool:
    a, b = left.value(percent), right.value(percent)
    return a is not None and b is not None and abs(a - b) <= max(left.slack(percent), right.slack(percent))


def equations(text: str) -> Iterator[tuple[Side, Side]]:
    """Neighbouring sides of all chains in which something is reckoned; `2 + 3 = 5 = 6` are two equations."""
    text = re.sub("==+", "=", plain(text))
    for island in ISLAND.finditer(text):
        if "=" in island[0]:
            start, end = island.span()
            sides = _sides(island[0], text[max(start - 1, 0) : start], text[end : end + 2])
            for known, chain in groupby(sides, key=lambda side: side is not None):
                linked = [side for side in chain if side is not None]
                if known and any(side.reckons for side in linked):
                    yield from pairwise(linked)


def _sides(island: str, before: str, after: str) -> Iterator[Side | None]:
    """The sides of the chains of equations in a run of numbers and signs, and None behind each chain."""
    sentences = STOP.split(island)
    for place, sentence in enumerate(sentences):
        first, *others = sentence.split("=")
        if others:
            yield _left(first, before if place == 0 else ".")
            yield from map(Side.of, others[:-1])
            yield _right(others[-1], after if place == len(sentences) - 1 else ".")
        yield None


def _left(text: str, before: str) -> Side | None:
    """The expression that ends here, if what stands before it is no operand of it."""
    brackets = _unmatched(text)
    if brackets:
        text, before = text[brackets[-1] + 1 :], text[brackets[-1]]
    elif before in ("", "\n"):
        text = BULLET.sub("", text, count=1) if BULLET.match(text) else text
    touched = BEFORE.fullmatch(before) is not None
    return None if touched and not APART.match(text) else Side.of(text)


def _right(text: str, after: str) -> Side | None:
    """The expression that begins here, without what is said behind it: `24 clips`, `24/day`, `24 (two dozen)`."""
    ends = [aside.start() for aside in [ASIDE.search(text)] if aside] + _unmatched(text)
    if ends:
        text, after = text[: min(ends)], ""
    touched = AFTER.match(after) is not None
    if touched and text.rstrip().endswith("/"):
        return Side.of(text.rstrip()[:-1])
    return None if touched and not text[-1:].isspace() else Side.of(text)


def _unmatched(text: str) -> list[int]:
    """The places of brackets without a partner."""
    opened: list[int] = []
    alone: list[int] = []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")":
            if opened:
                opened.pop()
            else:
                alone.append(place)
    return sorted([*alone, *opened])


class _Reader:
    """sum = product {(+|-) product}; product = factor {(*|/) factor}; factor = [-] (number | "(" sum ")").

    Raises `ValueError` where a number or a bracket is missing. `defined` is False after a division by zero.
    """

    def __init__(self, tokens: Sequence[str], percent: Fraction) -> None:
        self.tokens, self.percent, self.at, self.defined = tokens, percent, 0, True

    def whole(self) -> bool:
        """Whether the tokens are one expression."""
        try:
            self.sum()
        except ValueError:
            return False
        return self.at == len(self.tokens)

    def sum(self) -> Fraction:
        total = self.product()
        while sign := self.take("+", "-"):
            total += self.product() * (1 if sign == "+" else -1)
        return total

    def product(self) -> Fraction:
        total = self.factor()
        while sign := self.take("*", "/"):
            by = self.factor()
            self.defined = self.defined and (sign == "*" or by != 0)
            total = total * by if sign == "*" else total / (by or 1)
        return total

    def factor(self) -> Fraction:
        sign = -1 if self.take("-") else 1
        if not self.take("("):
            return sign * self.number()
        inside = self.sum()
        if not self.take(")"):
            raise ValueError("a bracket stays open")
        return sign * inside

    def number(self) -> Fraction:
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        self.at += 1
        value = Fraction(token.rstrip("%").replace(",", ""))
        return value * self.percent if token.endswith("%") else value

    def take(self, *wanted: str) -> str:
        """The next token if it is one of these, else ""."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        self.at += token in wanted
        return token if token in wanted else ""
