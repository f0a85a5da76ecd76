from __future__ import annotations

from scoreline.environments.census import NAMED, census, essence
from scoreline.environments.split import PromptSet
from scoreline.types import Prompt


def asked(*contents: str, prefix: str = "train") -> tuple[Prompt, ...]:
    return tuple(Prompt(f"{prefix}:{number}", content) for number, content in enumerate(contents))


def test_case_spaces_unicode_and_system_messages_do_not_matter() -> None:
    same = ("What is 3 + 8?", "what is  3+8?", "What is ３+8?", "What\nis 3 +\t8?")
    assert len({essence(prompt) for prompt in asked(*same)}) == 1
    user = {"role": "user", "content": same[0]}
    told = Prompt("q", ({"role": "system", "content": "Be brief."}, user))
    assert essence(told) == essence(Prompt("q", (user,))) == essence(asked(same[0])[0])


def test_turns_and_terms_do_matter() -> None:
    one = Prompt("q", ({"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}))
    other = Prompt("q", ({"role": "user", "content": "a"}, {"role": "assistant", "content": "bc"}))
    assert essence(one) != essence(other)
    assert len({essence(prompt) for prompt in asked("3+8=", "8+3=", "3-8=")}) == 3


def test_repeated_and_leaked_questions_are_named() -> None:
    data = PromptSet(asked("a", "b", "A", "a "), asked("c", "B", prefix="held_out"), ("train:9",))
    assert census(data) == {
        "train": 4,
        "held_out": 2,
        "duplicates": {"count": 2, "ids": [["train:2", "train:0"], ["train:3", "train:0"]]},
        "leaked": {"count": 1, "ids": [["held_out:1", "train:1"]]},
        "left_out": {"count": 1, "ids": ["train:9"]},
    }


def test_all_are_counted_and_some_named() -> None:
    found = census(PromptSet(asked(*["x"] * 50), ()))["duplicates"]
    assert found["count"] == 49
    assert len(found["ids"]) == NAMED
