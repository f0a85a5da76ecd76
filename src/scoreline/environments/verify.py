"""Built-in checkers: pure functions of a text, and the reward functions made of them.

A reward function has TRL's signature: keyword arguments `prompts`, `completions` and one list for each data column;
it returns a number or None (not applicable) for each completion. Right is 1.0, wrong is 0.0; a row whose `answer` is
None, or no number where one is compared, is not applicable.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from scoreline.errors import RewardError

Completion = str | Sequence[Mapping[str, str]]

RewardFunction = Callable[..., Any]
"""`f(prompts, completions, **columns) -> list[float | None]`, sync or async."""

NUMBER = re.compile(
    r"""(?:(?<![\w)\]}])[-+])?                              # a sign, unless it follows a term: 10-8 ends in 8
        \$?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?  # $1,234.50
             |[0-9]+(?:\.[0-9]+)?|\.[0-9]+)                   # 1234.5 or .5
        (?:[eE][-+]?[0-9]{1,3}(?![0-9]))?                     # 1e-05
        (?:/[0-9]+)?                                          # 3/4""",
    re.VERBOSE,
)
LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
LATEX_SPACING = re.compile(r"\\(?:left|right|[,;:! ])|\s+")


def number(text: object) -> Fraction | None:
    r"""The exact value of a text that is one number, else None.

    `1,234.50`, `-$3`, `18.`, `50%` (the number before the sign), `3/4`, `\frac{3}{4}`.
    """
    plain = LATEX_FRACTION.sub(r"\1/\2", str(text)).replace("−", "-").replace("\\$", "$").replace("\\%", "%")
    plain = plain.strip("$ \n\t").removesuffix(".").removesuffix("%")
    return _value(plain) if NUMBER.fullmatch(plain) else None


def final_number(text: str) -> Fraction | None:
    """The last number that stands in a text."""
    found = NUMBER.findall(text.replace("−", "-"))
    return _value(found[-1]) if found else None


def _value(written: str) -> Fraction | None:
    top, _, bottom = re.sub(r"[$,]", "", written).partition("/")
    try:
        return Fraction(top) / Fraction(bottom or "1")
    except (ValueError, ZeroDivisionError):  # ValueError: more digits than Python converts
        return None


def boxed_content(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}`, braces balanced; None when there is none or it never closes."""
    _, found, rest = text.rpartition("\\boxed{")
    depth = 1
    for match in re.finditer(r"\\.|[{}]", rest, re.DOTALL) if found else ():
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return rest[: match.start()]
    return None


def same(written: str, answer: str) -> bool:
    """Equal as numbers when both are, else as texts without LaTeX spacing."""
    left, right = number(written), number(answer)
    return left == right if left is not None and right is not None else _normal(written) == _normal(answer)


def _normal(text: str) -> str:
    return LATEX_SPACING.sub("", text).replace("dfrac", "frac").replace("tfrac", "frac").strip("$").removesuffix(".")


def text_of(completion: Completion) -> str:
    """A completion's text: itself, or the content of its last message."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _grade(
    completions: Sequence[Completion], answers: Sequence[Any], right: Callable[[str, Any], bool | None]
) -> list[float | None]:
    def one(completion: Completion, answer: Any) -> float | None:
        verdict = None if answer is None else right(text_of(completion), answer)
        return None if verdict is None else float(verdict)

    return [one(completion, answer) for completion, answer in zip(completions, answers, strict=True)]


def _close(got: Fraction | None, answer: Any, tolerance: float = 0.0) -> bool | None:
    wanted = number(answer)
    if wanted is None:
        return None
    return got is not None and abs(got - wanted) <= Fraction(tolerance) * max(Fraction(1), abs(wanted))


def exact_match(completions: Sequence[Completion], answer: Sequence[Any]) -> list[float | None]:
    """The whole completion, stripped, is the text of `answer`."""
    return _grade(completions, answer, lambda text, wanted: text.strip() == str(wanted).strip())


def numeric_match(
    completions: Sequence[Completion], answer: Sequence[Any], tolerance: float = 1e-6
) -> list[float | None]:
    """The whole completion is a number y with |y - answer| <= tolerance max(1, |answer|)."""
    return _grade(completions, answer, lambda text, wanted: _close(number(text), wanted, tolerance))


def last_number(
    completions: Sequence[Completion], answer: Sequence[Any], tolerance: float = 1e-6
) -> list[float | None]:
    """The last number in the completion is `answer`, within the tolerance of `numeric_match`."""
    return _grade(completions, answer, lambda text, wanted: _close(final_number(text), wanted, tolerance))


def arithmetic_answer(completions: Sequence[Completion], answer: Sequence[Any]) -> list[float | None]:
    """What stands after the last `#` is exactly the number `answer`."""
    return _grade(completions, answer, lambda text, wanted: _close(_marked(text), wanted))


def _marked(text: str) -> Fraction | None:
    _, marker, tail = text.rpartition("#")
    return number(tail) if marker else None


def boxed(completions: Sequence[Completion], answer: Sequence[Any]) -> list[float | None]:
    r"""The last `\boxed{...}` equals `answer` (or what is boxed in it), as a number or as a text."""

    def right(text: str, wanted: Any) -> bool:
        written = boxed_content(text)
        return written is not None and same(written, boxed_content(str(wanted)) or str(wanted))

    return _grade(completions, answer, right)


def format_match(completions: Sequence[Completion], pattern: str) -> list[float]:
    """The regular expression `pattern` is found in the completion; `.` matches newlines too. Anchor with ^ and $."""
    expression = re.compile(pattern, re.DOTALL)
    return [float(expression.search(text_of(completion)) is not None) for completion in completions]


def soft_overlong(completion_ids: Sequence[Sequence[int]], max_length: int, buffer: int) -> list[float]:
    """DAPO (arXiv 2503.14476), equation 13: a penalty for long answers, y tokens, L = max_length, c = buffer.

    0 for y <= L - c;   ((L - c) - y) / c  up to y = L;   -1 beyond.
    """
    if buffer < 1:
        raise RewardError("soft_overlong needs a buffer of at least one token.", got=buffer)
    free = max_length - buffer
    return [-min(1.0, (len(ids) - free) / buffer) if len(ids) > free else 0.0 for ids in completion_ids]


def math_verify(completions: Sequence[Completion], answer: Sequence[Any]) -> list[float | None]:
    """The completion and `answer` are the same mathematics to the package math-verify (the [math] extra)."""
    require_math_verify()
    from math_verify import parse, verify

    def right(text: str, wanted: Any) -> bool | None:
        gold = parse(str(wanted)) or parse(f"\\boxed{{{wanted}}}")
        return bool(verify(gold, parse(text))) if gold else None

    return _grade(completions, answer, right)


def require_math_verify() -> None:
    """Say which extra is missing before it is needed."""
    if importlib.util.find_spec("math_verify") is None:
        raise RewardError("The reward math_verify needs the [math] extra.", todo="pip install 'scoreline[math]'")


BUILTINS: Mapping[str, RewardFunction] = {
    function.__name__: function
    for function in (
        exact_match,
        numeric_match,
        last_number,
        boxed,
        format_match,
        arithmetic_answer,
        soft_overlong,
        math_verify,
    )
}

UNBOUNDED = frozenset({"format_match", "math_verify"})
"""Built-ins whose time depends on a pattern or an expression: they run where they can be killed."""
