"""The built-in checkers, by hand."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments import verify
from scoreline.environments.verify import boxed_content, final_number, number, same
from scoreline.errors import RewardError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        (" 18.\n", 18),
        ("1,234.50", Fraction(2469, 2)),
        ("1,234,567", 1234567),
        ("$18.00", 18),
        ("-$3", -3),
        ("$-3", -3),
        ("\u22127", -7),
        ("+5", 5),
        (".5", Fraction(1, 2)),
        ("50%", 50),
        ("50\\%", 50),
        ("3/4", Fraction(3, 4)),
        (r"-\frac{3}{4}", Fraction(-3, 4)),
        (r"$\dfrac{6}{8}$", Fraction(3, 4)),
        ("1e-05", Fraction(1, 100000)),
        (7, 7),
        (0.1, Fraction(1, 10)),
        ("", None),
        ("eleven", None),
        ("3 4", None),
        ("1,23", None),
        ("3/0", None),
        ("nan", None),
        ("inf", None),
        ("1_000", None),
        ("9" * 5000, None),
        (True, None),
    ],
)
def test_number(text: object, value: object) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("She pays $1,000.50.", Fraction(2001, 2)),
        ("48/2 = 24 clips", 24),
        ("10-8", 8),
        ("x=-5", -5),
        ("(3)-2", 2),
        ("3,4", 4),
        ("1,2345", 2345),
        ("half is 1/2", Fraction(1, 2)),
        ("#23", 23),
        ("nothing", None),
        ("5 / 0 or 1/0", None),
    ],
)
def test_final_number(text: str, value: object) -> None:
    assert final_number(text) == value


@given(st.integers(), st.text(alphabet="abc .,#=", max_size=8))
def test_an_integer_is_found_in_any_wrapping(value: int, tail: str) -> None:
    assert number(value) == number(f" {value:,}. ") == value
    assert final_number(f"so it is {value:,}{tail}") == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=3))
def test_decimals_are_exact(value: Any) -> None:
    assert number(f"{value:,f}") == Fraction(value)


@given(st.text(), st.text())
def test_checkers_take_any_text(text: str, answer: str) -> None:
    for checker in (verify.exact_match, verify.numeric_match, verify.last_number, verify.boxed):
        assert checker([text], [answer])[0] in (0.0, 1.0, None)
    assert verify.arithmetic_answer([text], [answer])[0] in (0.0, 1.0, None)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{18}", "18"),
        (r"first \boxed{1}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\text{a}}\}", r"\text{a}"),
        (r"\boxed{}", ""),
        (r"\boxed{1", None),
        ("18", None),
    ],
)
def test_boxed_content(text: str, content: str | None) -> None:
    assert boxed_content(text) == content


def test_same_compares_numbers_then_texts() -> None:
    assert same(r"\frac{1}{2}", "0.5")
    assert same(r"x\left( 1 \right)", "x(1)")
    assert same(r"\dfrac{x}{2}", r"\frac{x}{2}")
    assert not same("x", "y")
    assert not same("1", "x")


def test_exact_match() -> None:
    assert verify.exact_match([" 11\n", "11.", "11"], ["11", "11", None]) == [1.0, 0.0, None]
    assert verify.exact_match(["11"], [11]) == [1.0]


def test_numeric_match() -> None:
    completions = ["1,000", "1000.0005", "1000.01", "it is 1000", "x"]
    assert verify.numeric_match(completions, ["1000"] * 5) == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert verify.numeric_match(["1.04", "1.06"], [1, 1], tolerance=0.05) == [1.0, 0.0]
    assert verify.numeric_match(["1", "1"], ["one", None]) == [None, None]


def test_last_number() -> None:
    completions = ["5 + 6 = 11.", "11 is not 12", "none"]
    assert verify.last_number(completions, ["11"] * 3) == [1.0, 0.0, 0.0]


def test_boxed() -> None:
    completions = [r"so \boxed{11}", r"\boxed{11} or \boxed{12}", "11", r"\boxed{22/2}"]
    assert verify.boxed(completions, ["11", "11", "11", r"thus \boxed{11}"]) == [1.0, 0.0, 0.0, 1.0]


def test_arithmetic_answer() -> None:
    completions = ["#23", "3+8=11;11+12=23#23", "#22#23", "#23#22", "23", "#", "#2 3", "#### 23"]
    assert verify.arithmetic_answer(completions, ["23"] * 8) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_format_match() -> None:
    completions = ["<think>\na</think>1", "1"]
    assert verify.format_match(completions, pattern=r"^<think>.*</think>\d$") == [1.0, 0.0]


def test_soft_overlong_is_equation_13() -> None:
    lengths = [0, 6, 7, 8, 10, 11, 99]
    penalties = verify.soft_overlong([[0] * length for length in lengths], max_length=10, buffer=4)
    assert penalties == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0, -1.0]
    with pytest.raises(RewardError, match="buffer of at least one token"):
        verify.soft_overlong([[0]], max_length=10, buffer=0)


def test_messages_are_graded_by_their_last_content() -> None:
    assert verify.exact_match([[{"role": "assistant", "content": "11"}]], ["11"]) == [1.0]


@pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="the [math] extra is not installed")
def test_math_verify() -> None:
    completions = [r"so \boxed{\frac{2}{4}}", r"$x^2+2x+1$", "12"]
    assert verify.math_verify(completions, ["1/2", "$(x+1)^2$", "11"]) == [1.0, 1.0, 0.0]


@pytest.mark.skipif(importlib.util.find_spec("math_verify") is not None, reason="the [math] extra is installed")
def test_math_verify_without_the_extra_names_it() -> None:
    with pytest.raises(RewardError, match=r"needs the \[math\] extra(?s:.*)pip install 'scoreline\[math\]'"):
        verify.math_verify(["1"], ["1"])
