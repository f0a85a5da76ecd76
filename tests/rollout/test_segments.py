"""Steps and the tokens that end them, through the sampled ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments.steps import Splitter
from scoreline.models.loading import load_tokenizer
from scoreline.models.text import Text
from scoreline.rollout.segments import Segmenter
from scoreline.types import Step
from tests import parts
from tests.vocabularies import EOS, MARK, byte_level, tokens

TEXT = Text(byte_level())


def cut(splitter: Splitter, *pieces: str | bytes) -> tuple[Step, ...]:
    """The steps of an answer that was sampled as these tokens."""
    ids = tokens(TEXT.tokenizer, *pieces)
    segmenter = Segmenter(splitter, TEXT)
    (steps,) = segmenter([TEXT.decode(ids)], [ids])
    segmenter.close()
    return steps


LINE, OPEN, SEMICOLON = Splitter(), Splitter(tail=False), Splitter("marker", ";")

CASES: dict[str, tuple[Splitter, list[str | bytes], tuple[Step, ...]]] = {
    "lines, the eos included": (LINE, ["a", "\n", "b", EOS], (Step("a\n", 1), Step("b", 3))),
    "truncated: the last token": (LINE, ["a", "\n", "b", "b"], (Step("a\n", 1), Step("bb", 3))),
    "the last line break ends the answer": (LINE, ["a", "\n", "b", "\n", EOS], (Step("a\n", 1), Step("b\n", 4))),
    "one step is the outcome": (LINE, ["a", "b", EOS], (Step("ab", 2),)),
    "no text": (LINE, [EOS], ()),
    "blank text": (LINE, [" ", "\n\n", EOS], ()),
    "no end and no tail": (OPEN, ["a", "b", EOS], ()),
    "text behind the last step": (OPEN, ["a", "\n", "b", EOS], (Step("a\n", 1),)),
    "nothing behind the last step": (OPEN, ["a", "\n", "\n ", EOS], (Step("a\n\n ", 3),)),
    "blank lines in one token": (LINE, ["a", "\n\n", "b", EOS], (Step("a\n\n", 1), Step("b", 3))),
    "blank lines in two tokens": (LINE, ["a", "\n", "\n", "b"], (Step("a\n\n", 2), Step("b", 3))),
    "leading blank lines": (LINE, ["\n\n", "a", "\n", "b"], (Step("\n\na\n", 2), Step("b", 3))),
    "an end inside a token": (LINE, ["a", ".\n2", "b", EOS], (Step("a.\n", 1), Step("2b", 3))),
    "an end inside the last token": (LINE, ["a", ".\n2"], (Step("a.\n", 1), Step("2", 1))),
    "two ends inside one token": (SEMICOLON, ["1;2;3", "a"], (Step("1;", 0), Step("2;", 0), Step("3a", 1))),
    "the same step three times": (
        SEMICOLON,
        ["a", ";", "a", ";", "a", EOS],
        (Step("a;", 1), Step("a;", 3), Step("a", 5)),
    ),
    "a marker inside a token": (SEMICOLON, ["b", ";a", ";", "b"], (Step("b;", 1), Step("a;", 2), Step("b", 3))),
    "a character of two tokens": (LINE, ["a", b"\xe4\xbd", b"\xa0a", "\n", "b"], (Step("a你a\n", 3), Step("b", 4))),
    "a step that ends in one": (
        Splitter("marker", "你"),
        ["a", b"\xe4\xbd", b"\xa0a", b"\xf0", b"\x9f\x98", b"\x80", EOS],
        (Step("a你", 2), Step("a😀", 6)),
    ),
    "an end right before one": (
        Splitter("pattern", ";|(?=😀)"),
        ["ab", b"\xf0", b"\x9f\x98", b"\x80", "a", EOS],
        (Step("ab", 0), Step("😀a", 5)),
    ),
    "a character that is not all there": (
        LINE,
        ["a", "\n", "b", b"\xf0", b"\x9f\x98"],
        (Step("a\n", 1), Step("b�", 4)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_where_steps_end(case: str) -> None:
    splitter, pieces, expected = CASES[case]
    assert cut(splitter, *pieces) == expected


STEP = Splitter("marker", MARK)
MARKED: dict[str, tuple[Splitter, list[str | bytes], tuple[Step, ...]]] = {
    "the marker itself ends the step": (STEP, ["a", "b", MARK, "a", EOS], (Step("ab", 2), Step("a", 4))),
    "a marker at the end": (STEP, ["a", MARK, "a", MARK, EOS], (Step("a", 1), Step("a", 4))),
    "two markers in a row": (STEP, ["a", MARK, MARK, "a"], (Step("a", 2), Step("a", 3))),
    "a blank between markers": (STEP, ["a", MARK, "\n", MARK, "a"], (Step("a\n", 3), Step("a", 4))),
    "a marker before everything": (STEP, [MARK, "a", MARK, "b", EOS], (Step("a", 2), Step("b", 4))),
    "nothing but markers": (STEP, [MARK, "\n", MARK], ()),
    "no marker": (STEP, ["a", EOS], (Step("a", 1),)),
    "text behind the last marker": (Splitter("marker", MARK, tail=False), ["a", MARK, "b", EOS], (Step("a", 1),)),
    "characters of several tokens": (
        STEP,
        [b"\xe4\xbd", b"\xa0a", MARK, b"\xf0", b"\x9f\x98", b"\x80", MARK, "b"],
        (Step("你a", 2), Step("😀", 6), Step("b", 7)),
    ),
    "a marker inside a character": (STEP, ["a", b"\xe4\xbd", MARK, b"\xa0a"], (Step("a", 2), Step("你a", 3))),
    "the eos as marker": (Splitter("marker", EOS, tail=False), ["a", "b", EOS], (Step("ab", 2),)),
    "the eos as marker, truncated": (Splitter("marker", EOS, tail=False), ["a", "b"], ()),
}


@pytest.mark.parametrize("case", MARKED)
def test_a_marker_that_decoding_leaves_out(case: str) -> None:
    splitter, pieces, expected = MARKED[case]
    assert cut(splitter, *pieces) == expected


def test_the_sampled_tokens_count_and_not_those_that_the_text_would_be_cut_into() -> None:
    assert cut(LINE, "ab", "\n\n", "ab") == (Step("ab\n\n", 1), Step("ab", 2))
    assert cut(LINE, "a", "b", "\n", "\n", "a", "b") == (Step("ab\n\n", 3), Step("ab", 5))


def test_a_function_and_a_pattern_cut_in_their_own_processes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def first(completions): return [[1] for _ in completions]")
    by_function = Segmenter(Splitter("function", f"{tmp_path}/mine.py:first"), TEXT)
    by_pattern = Segmenter(Splitter("pattern", "a"), TEXT)
    ids = [tokens(TEXT.tokenizer, "ab", "a", EOS), tokens(TEXT.tokenizer, "b", "a", "ab")]
    expected = [(Step("a", 0), Step("ba", 2)), (Step("b", 0), Step("aab", 2))]
    for segmenter in (by_function, by_pattern):
        segmenter.check()
        assert segmenter([TEXT.decode(row) for row in ids], ids)[0] == expected[0]
    assert by_function([TEXT.decode(row) for row in ids], ids) == expected
    by_function.close()
    by_pattern.close()


def test_no_answers_no_steps() -> None:
    assert Segmenter(LINE, TEXT)([], []) == []


def test_the_embedded_model_s_worked_sums() -> None:
    text = parts.policy().text
    ids = text.tokenizer("3+8=11;11+12=23#23", add_special_tokens=False)["input_ids"]
    segmenter = Segmenter(Splitter("pattern", ";|(?=#)"), text)
    assert segmenter([text.decode(ids)], [[*ids, *text.eos_ids]]) == [
        (Step("3+8=11;", 6), Step("11+12=23", 14), Step("#23", 18))
    ]
    segmenter.close()


PIECES: list[str | bytes] = [
    *["a", "ab", "\n", "\n\n", ".\n2", "\n ", ";", ";a", "1;2;3", " ", EOS, MARK],
    *[b"\xe4\xbd", b"\xa0a", b"\xf0", b"\x9f\x98", b"\x80", b"\xbd"],
]
SPLITTERS = st.sampled_from([LINE, OPEN, SEMICOLON, Splitter("marker", "a", tail=False), STEP])


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12), SPLITTERS)
def test_steps_are_the_text_and_end_at_the_first_token_that_says_all_of_them(
    pieces: list[str | bytes], splitter: Splitter
) -> None:
    ids = tokens(TEXT.tokenizer, *pieces)
    text, steps = TEXT.decode(ids), cut(splitter, *pieces)
    said = "".join(step.text for step in steps)
    assert text.startswith(said)
    assert said == (text if text.strip() else "") or not splitter.tail
    ends = [step.end for step in steps]
    assert ends == sorted(ends)
    assert all(0 <= end < len(ids) for end in ends)
    for number, step in enumerate(steps, start=1):
        before = "".join(step.text for step in steps[:number])
        assert step.text.strip()
        assert step.end == expected_end(ids, text, before, marked=splitter is STEP)


def expected_end(ids: list[int], text: str, before: str, *, marked: bool) -> int:
    """The first token with which the text begins as `before`; the last one at the text's end; the marker behind it, be
    it in the middle of the next character.
    """
    if before == text:
        return len(ids) - 1
    covering = [i for i in range(len(ids)) if TEXT.decode(ids[: i + 1])[: len(before)] == before]
    if not marked:
        return covering[0]
    begun = text[len(before)] != "\ufffd"  # what is no character now becomes one
    behind = {before, before + "\ufffd"} if begun else {before}
    marker = TEXT.unsaid(MARK)
    return max(i for i in range(len(ids)) if ids[i] == marker and TEXT.decode(ids[: i + 1]) in behind)


@pytest.mark.skipif("SCORELINE_SMOLLM2" not in os.environ, reason="SCORELINE_SMOLLM2 names no folder")
@pytest.mark.parametrize("said", ["3 + 8 = 11.\n2. 你好😀\n\nSo é it is.\n", "naïve 🤷🏽‍♀️\n= 价格\n\n\n#### 7"])
def test_a_real_vocabulary(said: str) -> None:
    text = Text(load_tokenizer(os.environ["SCORELINE_SMOLLM2"]))
    whole = text.tokenizer(said, add_special_tokens=False)["input_ids"]
    segmenter = Segmenter(LINE, text)
    for kept in range(1, len(whole) + 1):
        ids = [*whole[:kept], text.eos_ids[0]]
        answer = text.decode(ids)
        (steps,) = segmenter([answer], [ids])
        assert "".join(step.text for step in steps) == answer
        for number, step in enumerate(steps[:-1], start=1):
            before = "".join(one.text for one in steps[:number])
            assert step.end == next(i for i in range(len(ids)) if text.decode(ids[: i + 1]).startswith(before))
        assert [step.end for step in steps[-1:]] == [len(ids) - 1]
