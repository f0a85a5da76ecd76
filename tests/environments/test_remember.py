"""A judge that reads a text once, also across a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scoreline.environments.remember import Remembered


class Counting:
    """Scores by length, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompts: list[str], completions: list[str]) -> list[float]:
        self.asked += completions
        return [len(text) + 0.1 for text in completions]


class Stepwise:
    def __call__(self, prompts: list[str], steps: list[list[str]]) -> list[list[float]]:
        return [[len(step) / 10 for step in cut] for cut in steps]


def test_a_text_is_read_once_and_the_order_is_kept(tmp_path: Path) -> None:
    judge = Counting()
    remembered = Remembered(judge, "outcome", tmp_path / "a" / "0.jsonl")
    assert remembered(["p"] * 3, completions=["abc", "a", "abc"], answer=["1", "2", "3"]) == [3.1, 1.1, 3.1]
    assert remembered(["p", "p", "q"], completions=["a", "ab", "a"]) == [1.1, 2.1, 1.1]
    assert judge.asked == ["abc", "a", "ab", "a"]  # the last one: another prompt


def test_what_was_said_survives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "0.jsonl"
    said = Remembered(Counting(), "outcome", file)(["p", "p"], completions=["abc", "a"])
    judge = Counting()
    assert Remembered(judge, "outcome", file)(["p", "p"], completions=["a", "abc"]) == said[::-1]
    assert judge.asked == []


def test_a_torn_line_counts_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "0.jsonl"
    remembered = Remembered(Counting(), "outcome", file)
    remembered(["p"], completions=["abc"])
    remembered(["p", "p"], completions=["a", "ab"])
    file.write_text(file.read_text()[:-9])
    judge = Counting()
    again = Remembered(judge, "outcome", file)
    assert again(["p"] * 3, completions=["abc", "a", "ab"]) == [3.1, 1.1, 2.1]
    assert judge.asked == ["a", "ab"]
    third = Counting()
    Remembered(third, "outcome", file)(["p"] * 3, completions=["abc", "a", "ab"])
    assert third.asked == []


def test_a_judge_that_learned_reads_again(tmp_path: Path) -> None:
    judge = Counting()
    remembered = Remembered(judge, "outcome", tmp_path / "0.jsonl")
    remembered(["p"], completions=["abc"])
    remembered.version = 1
    remembered(["p"], completions=["abc"])
    assert judge.asked == ["abc", "abc"]


def test_a_new_run_forgets(tmp_path: Path) -> None:
    judge = Counting()
    remembered = Remembered(judge, "outcome", tmp_path / "0.jsonl")
    remembered(["p"], completions=["abc"])
    remembered.forget()
    remembered(["p"], completions=["abc"])
    assert judge.asked == ["abc", "abc"]
    remembered.forget()
    remembered.forget()  # nothing there is nothing to forget


def test_steps_are_remembered_as_lists(tmp_path: Path) -> None:
    file = tmp_path / "0.jsonl"
    given: dict[str, Any] = {"steps": [["ab", "c"], []], "completions": ["abc", ""]}
    assert Remembered(Stepwise(), "process", file)(["p", "q"], **given) == [[0.2, 0.1], []]
    assert Remembered(Stepwise(), "process", file)(["p", "q"], **given) == [[0.2, 0.1], []]
