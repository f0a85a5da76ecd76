"""What the checkers of steps read, what they leave alone, and that they end."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments.equations import Side
from scoreline.environments.step_checks import STEP_BUILTINS, arithmetic_steps, calculator_steps
from scoreline.errors import RewardError
from tests import parts


def reckoned(step: str) -> float | None:
    return arithmetic_steps([[step]])[0][0]


HOLDS = [
    *[
        "3+8=11;",
        "48/2 = 24",
        "5 x 3 = 15",
        "5x3=15",
        "3+8+2=13",
        "10-8=2",
        "3-8=-5",
        "3+-8=-5",
        "2+3=5=5",
        "3 + 8 == 11",
    ],
    *["1,234.50 * 2 = 2,469", "$3 * 4 = $12.", "50% * 30 = 15", "30% + 20% = 50%", "30+20=50%", "20% of 50 = 10"],
    *[".5 * 3 = 1.5", "1/2 + 1/4 = 3/4", "4 * (5 - 2) = 12", "2(3+4)=14", "(2)(3)=6", "(3+8=11)", "-(2+3) = -5"],
    *["3 × 4 = 12", "3 ÷ 2 = 1.5", "7 − 2 = 5", r"\frac{1}{2} + \frac{1}{2} = 1", r"3 \times 4 = 12 \text{ apples}"],
    *["Step 2: 3 x 4 = 12 apples", "1. 3+8=11", "1) 3+8=11", "- 48/2 = 24", "He is -3 + 8 = 5", "答案3+8=11个"],
    *["48/2 = <<48/2=24>>24 clips", "12/60 = $<<12/60=0.2>>0.2 per minute", "48/2 = $24/hour", "12+12 = 24 (2*12)"],
    *["3+8=11;11+12=23#23", "3+8=11, 11+12=23", "Total: 3 + 8 = 11. Then 11 + 12 = 23.", "Total = 48 + 24 = 72."],
    *["10/3 = 3.33", "1/3 = 33.33%", "2/3=0.7", "24 = 48/2", "x = 2 + 3 = 5", "4 >= 1 + 2 = 3"],
]
FAILS = [
    *["3+8=12;", "48/2 = 25", "5 x 3 = 16", "3+8+2=14", "2+3=5+4=9", "2+3=5=6", "3+8=11;11+12=24#24", "3/0=0", "0=3/0"],
    *["10/3=3.34", "10/3=3", "5/2=2.4", "1,234 * 2 = 2,469", "50% * 30 = 16", "4 * (5 - 2) = 18", "48+24 = 24 (12+12)"],
    *["3+8=11. 11+12=24", "48/2 = <<48/2=24>>25 clips", "24 = 49/2", "8-2-3=9", "16/4/2=8", "2+3*4=20", "1/3=33.40%"],
]
NO_EQUATION = [
    *[
        "",
        "#23",
        "x + 3 = 10",
        "x - 3 = 7",
        "2x = 10",
        "x = 5",
        "24=24",
        "24=25",
        "3+8=",
        "=11",
        "3++8=11",
        "3+8 => 11",
    ],
    *[
        "(48 clips) / 2 = 24",
        "48 clips + 24 = 72",
        "2^3+1=9",
        "9=1+2^3",
        "3²+1=10",
        "f(3+1)=9",
        "sqrt(16)+1=5",
        "2y+1=5",
    ],
    *["3 + 8 = 11 + x", "3+8 = 11cm", "5/2 = 2 1/2", r"5/2 = 2\frac{1}{2}", r"2\sqrt{4}+1=5", "3+8 <= 12", "1+1=2.5.1"],
    "(" * 21 + "1" + ")" * 21 + "+1=2",
]


@pytest.mark.parametrize("step", HOLDS)
def test_an_equation_that_holds(step: str) -> None:
    assert reckoned(step) == 1.0


@pytest.mark.parametrize("step", FAILS)
def test_an_equation_that_does_not_hold(step: str) -> None:
    assert reckoned(step) == 0.0


@pytest.mark.parametrize("step", NO_EQUATION)
def test_what_is_no_equation_is_not_judged(step: str) -> None:
    assert reckoned(step) is None


def test_rows_of_different_lengths_and_a_value_for_steps_without_an_equation() -> None:
    steps = [["3+8=11;", "11+12=24", "#24"], [], ["#3"]]
    assert arithmetic_steps(steps) == [[1.0, 0.0, None], [], [None]]
    assert arithmetic_steps(steps, missing=0.0) == [[1.0, 0.0, 0.0], [], [0.0]]


EXPRESSIONS = st.recursive(
    st.integers(0, 40).map(str) | st.decimals(0, 9, places=2).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda three: f"({''.join(three)})"),
    max_leaves=6,
)


@given(EXPRESSIONS, st.fractions(max_denominator=9))
def test_the_value_is_that_of_exact_fractions(written: str, off: Fraction) -> None:
    exact = "".join(f"Fraction('{token}')" if token[0] in "0123456789" else token for token in Side.of(written).tokens)
    side = Side.of(written)
    try:
        expected = eval(exact, {"Fraction": Fraction})  # noqa: S307 - the test's own text
    except ZeroDivisionError:
        assert side.value() is None
        return
    assert side.value() == expected
    claim = f"{written}+0={expected.numerator}/{expected.denominator}+{off.numerator}/{off.denominator}"
    assert reckoned(claim) == float(off == 0)


def test_gsm8k_annotations() -> None:
    step = "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute, <<0.2*50=10>>10 in all."
    assert calculator_steps(
        [[step, "#### 10", "<<1+1=3>>3 <<1+1=2>>2", "<<>>", "<<3>>", "<<a+1=2>>", "<<1/0=0>>"]]
    ) == [[1.0, None, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert calculator_steps([["<<1/3=.33>>", "<<+7=7>>", "<<5=5>>", "<<1+2=3=3>>", "<<48/2=24"]], missing=0.5) == [
        [1.0, 1.0, 1.0, 1.0, 0.5]
    ]


def test_results_that_must_be_the_reference_s() -> None:
    solution = "He has 48/2 = <<48/2=24>>24.\nIn all <<48+24=72>>72.\n#### 72"
    steps = ["<<24*1=24.0>>", "<<24+48=72>>", "<<1+1=2>>", "<<24+48=73>>", "<<24+1=24>>", "none"]
    asked: dict[str, Any] = {"results": "reference", "missing": -1.0}
    assert calculator_steps([steps, ["<<1+1=2>>", "none"]], [solution, None], **asked) == [
        [1.0, 1.0, 0.0, 0.0, 0.0, -1.0],
        [None, None],
    ]
    assert calculator_steps([steps], [solution]) == [[1.0, 1.0, 1.0, 0.0, 0.0, None]]


def test_a_reference_that_is_not_there() -> None:
    with pytest.raises(RewardError, match=r"(?s)column `solution`, and the data has none.*gsm8k:FOLDER"):
        calculator_steps([["<<1+1=2>>"]], results="reference")
    with pytest.raises(RewardError, match=r"(?s)does not know these results.*theirs.*own, reference"):
        calculator_steps([["<<1+1=2>>"]], results="theirs")


HOSTILE = [
    *["1" * 100_000, "1+" * 50_000 + "=1", "(" * 100_000 + "=", "1=1" * 30_000, "1 " * 50_000 + "=", "x" * 100_000],
    *["<<" * 50_000, "<<1=1" * 20_000, "1" + " " * 100_000 + "x", "\\frac{1}" * 20_000, "1,111" * 20_000 + "=1"],
    *["1 (" * 30_000 + "=", "-" * 100_000 + "=", "9" * 5_000 + "*" + "9" * 5_000 + "=1", "1/" * 50_000 + "1=1"],
    *["(" * 90 + "1" + ")" * 90 + "=1+0", "2**" * 30 + "9=1", "9^9^9^9^9=1", "__import__('os').abort()=1+1"],
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_takes_long(text: str) -> None:
    started = time.monotonic()
    assert reckoned(text) in (None, 0.0, 1.0)
    assert calculator_steps([[f"<<{text}>>"]])[0][0] in (None, 0.0, 1.0)
    assert time.monotonic() - started < 10


def test_the_built_ins_by_name() -> None:
    assert dict(STEP_BUILTINS) == {"arithmetic_steps": arithmetic_steps, "calculator_steps": calculator_steps}


@pytest.mark.skipif(parts.shared() is None, reason="GSM8K lies beside a developer's checkout only")
def test_people_reckon_rightly() -> None:
    """The worked solutions of GSM8K: their annotations hold, and nearly all of their written equations."""
    lines = (parts.shared() / "data/gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()
    solutions = [json.loads(line)["answer"] for line in lines]
    steps = [solution.split("\n") for solution in solutions]
    annotated = [v for row in calculator_steps(steps, solutions, results="reference") for v in row if v is not None]
    written = [v for row in arithmetic_steps(steps) for v in row if v is not None]
    assert len(annotated) > 4000
    assert len(written) > 3500
    assert sum(annotated) / len(annotated) > 0.999
    assert sum(written) / len(written) > 0.995
