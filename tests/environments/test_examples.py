"""Demonstrations for supervised fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scoreline.environments.arithmetic import Habits
from scoreline.environments.examples import Example, load_examples
from scoreline.environments.prompts import Data, load
from scoreline.errors import DataError
from scoreline.types import Prompt

USER = {"role": "user", "content": "3+8?"}
ANSWER = {"role": "assistant", "content": "11"}


def examples(folder: Path, *rows: dict[str, Any], **table: Any) -> tuple[Example, ...]:
    path = folder / "d.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return load_examples(Data(str(path), **table))


def test_prompt_and_completion(tmp_path: Path) -> None:
    found = examples(tmp_path, {"prompt": "3+8=", "completion": "#11", "n": 1})
    assert found == (Example(Prompt("train:0", "3+8=", {"n": 1}), "#11"),)


def test_prompt_and_completion_as_messages(tmp_path: Path) -> None:
    found = examples(tmp_path, {"prompt": [USER], "completion": [ANSWER]})
    assert found == (Example(Prompt("train:0", (USER,)), "11"),)


def test_messages_end_in_the_answer(tmp_path: Path) -> None:
    found = examples(tmp_path, {"messages": [USER, ANSWER, USER, ANSWER]}, system="Be brief.")
    system = {"role": "system", "content": "Be brief."}
    assert found == (Example(Prompt("train:0", (system, USER, ANSWER, USER)), "11"),)


def test_gsm8k_solutions_as_completions(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "q", "answer": "so\n#### 1"}))
    table = Data(f"gsm8k:{tmp_path}", columns={"solution": "completion"})
    assert [example.completion for example in load_examples(table)] == ["so\n#### 1"]


def test_arithmetic_demonstrations_never_show_a_held_out_question() -> None:
    table = {"level": 1, "held_out": 0.5, "seed": 3}
    held = {p.content for p in load(Data(**table)).held_out}  # type: ignore[arg-type]
    shown = load_examples(Data("arithmetic-demonstrations", habits=Habits(rows=1000), **table))  # type: ignore[arg-type]
    assert len(shown) == 1000
    assert {e.prompt.content for e in shown} == {p.content for p in load(Data(**table)).train}  # type: ignore[arg-type]
    assert not {e.prompt.content for e in shown} & held


def test_arithmetic_demonstrations_for_a_chat_model() -> None:
    table = Data("arithmetic-demonstrations", template="{expression}?", chat=True, habits=Habits(rows=5))
    prompt = load_examples(table)[0].prompt
    assert prompt.content == ({"role": "user", "content": f"{prompt.columns['expression']}?"},)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no completion": (
        {"prompt": "a", "answer": "b"},
        "line 1: no `completion`(?s:.*)prompt, answer(?s:.*)data.columns",
    ),
    "empty": ({"prompt": "a", "completion": ""}, "line 1: the completion must be a text that is not empty"),
    "number": ({"prompt": "a", "completion": 3}, "the completion must be a text(?s:.*)int 3"),
    "no prompt": ({"completion": "a"}, "line 1: no `prompt` column"),
    "no answer": ({"messages": [USER]}, "must end in the assistant's answer(?s:.*)got: +user"),
    "no question": ({"messages": [ANSWER]}, "must end in the assistant's answer to something"),
    "question last": ({"messages": [USER, ANSWER, USER]}, "got: +user assistant user"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_example_is_named(tmp_path: Path, fault: str) -> None:
    row, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        examples(tmp_path, row)
