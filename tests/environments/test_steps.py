"""Where steps end in a text, and what a splitter can do wrong."""

from __future__ import annotations

import textwrap
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments.steps import Cutter, Splitter
from scoreline.errors import ConfigError, RewardError


def pieces(splitter: Splitter, text: str) -> list[str]:
    ends = splitter.ends(text)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


LINES = {
    "": [],
    " \n\n ": [],
    "a": ["a"],
    "a\nb": ["a\n", "b"],
    "a\nb\n": ["a\n", "b\n"],
    "a\n\nb\n \n": ["a\n\n", "b\n \n"],
    "\n\na\nb": ["\n\na\n", "b"],
    "a\r\nb": ["a\r\n", "b"],
    "a\na\na": ["a\n", "a\n", "a"],
    "你\n😀": ["你\n", "😀"],
}


@pytest.mark.parametrize("text", LINES)
def test_a_step_is_a_line_and_blank_lines_belong_to_the_one_before(text: str) -> None:
    assert pieces(Splitter(), text) == LINES[text]


@pytest.mark.parametrize(("text", "expected"), [("a", []), ("a\nb", ["a\n"]), ("a\nb\n ", ["a\n", "b\n "]), ("\n", [])])
def test_without_tail_what_stands_behind_the_last_end_is_no_step(text: str, expected: list[str]) -> None:
    assert pieces(Splitter(tail=False), text) == expected


PATTERNS = {
    (r";|(?=#)", "3+8=11;11+12=23#23"): ["3+8=11;", "11+12=23", "#23"],
    (r";|(?=#)|$", "3+8=11;11+12=23#23"): ["3+8=11;", "11+12=23", "#23"],
    (r";|(?=#)", "#23"): ["#23"],
    (r"\n\n+", "a\nb\n\n\nc"): ["a\nb\n\n\n", "c"],
    (r"(?<=\.)\s", "One. Two."): ["One. ", "Two."],
    (r"(?m)$", "a\nb"): ["a", "\nb"],
    (r"(?s).*", "a\nb"): ["a\nb"],
    (r"$", "a"): ["a"],
}


@pytest.mark.parametrize(("pattern", "text"), PATTERNS)
def test_a_match_ends_a_step(pattern: str, text: str) -> None:
    splitter = Splitter("pattern", pattern)
    assert pieces(splitter, text) == PATTERNS[pattern, text]
    with closing(Cutter(splitter)) as cutter:
        assert cutter([text, ""]) == [splitter.ends(text), []]


def test_a_marker_is_a_text_and_no_pattern() -> None:
    assert pieces(Splitter("marker", "+."), "a+.b.+.c") == ["a+.", "b.+.", "c"]


@given(st.text("ab;\n ", max_size=20), st.sampled_from([Splitter(), Splitter("pattern", ";|(?=b)")]))
def test_steps_are_the_text_in_order_and_never_blank(text: str, splitter: Splitter) -> None:
    steps = pieces(splitter, text)
    assert "".join(steps) == (text if text.strip() else "")
    assert all(step.strip() for step in steps)


def write(folder: Path, code: str) -> str:
    (folder / "mine.py").write_text(textwrap.dedent(code))
    return str(folder / "mine.py")


def test_a_function_of_a_file(tmp_path: Path) -> None:
    source = write(tmp_path, "def halves(completions): return [[len(text) // 2] for text in completions]")
    with closing(Cutter(Splitter("function", f"{source}:halves"))) as cutter:
        cutter.check()
        assert cutter(["abcd", "ab  ", ""]) == [[2, 4], [4], []]


def test_a_callable_may_give_nothing_or_the_ends_of_the_text() -> None:
    def ends(completions: list[str]) -> list[Any]:
        return [[], (0, 1, 1, 3), iter([2])]

    cutter = Cutter(Splitter("function", ends, tail=False))
    cutter.check()
    assert cutter(["abc", "abc", "abc"]) == [[], [1, 3], [2]]


RETURNS = {
    "[[1]]": "must return a list with one list for each completion.*1 lists for 2 completions",
    "3": "must return a list with one list for each completion.*int 3",
    "[[1], 2]": "returned no list for row 1.*int 2",
    "[[1], None]": "returned no list for row 1.*NoneType None",
    "[[1], [2, 1]]": r"returned places out of order for row 1.*got: +\[2, 1\].*from 0 to 2, the length",
    "[[1], [3]]": r"returned places outside of the text for row 1.*got: +\[3\].*from 0 to 2",
    "[[-1], []]": r"returned places outside of the text for row 0.*got: +\[-1\].*from 0 to 3",
    "[[0.5], []]": r"returned no whole numbers for row 0.*0\.5",
    "[[None], []]": "returned no whole numbers for row 0.*None",
    "[['1'], []]": "returned no whole numbers for row 0.*str '1'",
    "[[float('nan')], []]": "returned no whole numbers for row 0.*nan",
    "[[float('inf')], []]": "returned no whole numbers for row 0.*inf",
}


@pytest.mark.parametrize("value", RETURNS)
def test_a_wrong_return_value_of_a_callable(value: str) -> None:
    def bad(completions: list[str]) -> Any:
        return eval(value)  # noqa: S307

    fails(Splitter("function", bad), f"step splitter 'bad' {RETURNS[value]}")


@pytest.mark.parametrize("value", ["[[1]]", "[[1], 2]", "[[1], [2, 1]]", "[[float('nan')], []]"])
def test_a_wrong_return_value_in_another_process(tmp_path: Path, value: str) -> None:
    source = write(tmp_path, f"def bad(completions): return {value}")
    fails(Splitter("function", f"{source}:bad"), f"step splitter 'bad' {RETURNS[value]}")


def fails(splitter: Splitter, message: str) -> None:
    with closing(Cutter(splitter)) as cutter, pytest.raises(RewardError, match=f"(?s){message}"):
        cutter(["abc", "ab"])


def fails_check(splitter: Splitter, message: str) -> None:
    with closing(Cutter(splitter)) as cutter, pytest.raises(RewardError, match=f"(?s){message}"):
        cutter.check()


FAULTS = """
    import time
    def hang(completions):
        time.sleep(600)
    def broken(completions):
        return [len(text).first for text in completions]
    def other(texts):
        return []
"""


def test_a_function_that_hangs_is_killed_and_one_that_raises_is_named(tmp_path: Path) -> None:
    source, started = write(tmp_path, FAULTS), time.monotonic()
    hanging = Splitter("function", f"{source}:hang", timeout_s=1.0)
    fails(hanging, "step splitter 'hang' did not answer within 1 s.*splitter's timeout_s")
    assert time.monotonic() - started < 30
    fails(Splitter("function", f"{source}:broken"), "step splitter 'broken' raised an error.*Attribute.*mine.py:6")


def test_a_pattern_that_never_ends_is_killed() -> None:
    with pytest.raises(RewardError, match=r"step splitter '\(a\+\)\+\$' did not answer within 1 s"):
        Cutter(Splitter("pattern", "(a+)+$", timeout_s=1.0))(["a" * 40 + "b"])


def test_a_function_is_checked_before_the_first_step(tmp_path: Path) -> None:
    source = write(tmp_path, FAULTS)
    fails_check(Splitter("function", f"{source}:other"), r"'other' takes no completions.*f\(completions\)")
    fails_check(Splitter("function", f"{source}:hong"), "'hong' cannot be imported.*did you mean 'hang'")


def test_a_function_that_is_no_function() -> None:
    with pytest.raises(RewardError, match=r"(?s)Unknown step splitter.*sentences.*file.py:function"):
        Cutter(Splitter("function", "sentences"))
    with pytest.raises(RewardError, match="The file of a step splitter does not exist"):
        Cutter(Splitter("function", "nowhere.py:f"))


@pytest.mark.parametrize("pattern", ["", "x*", "(?:)", ";|", "(?!#)"])
def test_a_pattern_that_matches_the_empty_text_is_refused(pattern: str) -> None:
    with pytest.raises(RewardError, match=r"(?s)matches the empty text, so that every character.*such as '\(\?=#\)'"):
        Splitter("pattern", pattern)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(RewardError, match=r"(?s)no regular expression: missing \).*got: +\(;.*such as"):
        Splitter("pattern", "(;")


@pytest.mark.parametrize(
    ("by", "at", "message"),
    [
        ("line", "\n", "line need another `at`.*a step ends at a line break"),
        ("pattern", None, "pattern need another `at`.*the regular expression"),
        ("marker", "", "marker need another `at`.*the text or token"),
        ("marker", len, "marker need another `at`"),
        ("function", None, "function need another `at`.*file.py:function"),
    ],
)
def test_each_way_of_cutting_needs_its_own_at(by: Any, at: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        Splitter(by, at)


def test_a_deadline_is_above_zero() -> None:
    with pytest.raises(ConfigError, match="timeout_s must be above 0"):
        Splitter(timeout_s=0.0)


def test_a_function_cannot_cut_a_single_text() -> None:
    with pytest.raises(ConfigError, match=r"(?s)Steps by function have no pattern.*Cutter"):
        Splitter("function", len).ends("a")
