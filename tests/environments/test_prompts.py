"""Rows to prompts, and the held-out split."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments.messages import text_of
from scoreline.environments.prompts import Data, load
from scoreline.environments.split import hold_out
from scoreline.errors import ConfigError, DataError
from scoreline.types import Prompt


def jsonl(folder: Path, *rows: dict[str, Any], name: str = "d.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def one(folder: Path, row: dict[str, Any], **table: Any) -> Prompt:
    return load(Data(jsonl(folder, row), held_out=0, **table)).train[0]


def test_a_row_becomes_a_prompt_and_its_columns(tmp_path: Path) -> None:
    assert one(tmp_path, {"prompt": "3+8=", "answer": 11}) == Prompt("train:0", "3+8=", {"answer": 11})


def test_the_split_names_the_rows(tmp_path: Path) -> None:
    rows = [{"prompt": str(index)} for index in range(3)]
    prompts = load(Data(jsonl(tmp_path, *rows), split="dev", held_out=0)).train
    assert [prompt.id for prompt in prompts] == ["dev:0", "dev:1", "dev:2"]


def test_columns_are_renamed_and_replace_others(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "a", "solution": "long"}
    prompt = one(tmp_path, row, columns={"question": "prompt", "answer": "solution"})
    assert prompt == Prompt("train:0", "q", {"solution": "a"})


def test_two_columns_can_swap_names(tmp_path: Path) -> None:
    prompt = one(tmp_path, {"prompt": "q", "a": 1, "b": 2}, columns={"a": "b", "b": "a"})
    assert prompt.columns == {"a": 2, "b": 1}


def test_a_template_builds_the_prompt(tmp_path: Path) -> None:
    prompt = one(tmp_path, {"question": "{x}?", "n": 2}, template="Q{n}: {question} {{}}\nA:")
    assert prompt == Prompt("train:0", "Q2: {x}? {}\nA:", {"question": "{x}?", "n": 2})


def test_chat_and_system_make_messages(tmp_path: Path) -> None:
    user, system = {"role": "user", "content": "q"}, {"role": "system", "content": "Be brief."}
    assert one(tmp_path, {"prompt": "q"}, chat=True).content == (user,)
    assert one(tmp_path, {"prompt": "q"}, chat=True, system="Be brief.").content == (system, user)
    assert one(tmp_path, {"prompt": [user]}, system="Be brief.").content == (system, user)
    own = {"role": "system", "content": "Be long."}
    assert one(tmp_path, {"prompt": [own, user]}, system="Be brief.").content == (own, user)


def test_missing_values_in_messages_are_dropped(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "q", "tool_calls": None}
    assert one(tmp_path, {"prompt": [turn]}).content == ({"role": "user", "content": "q"},)


def test_the_limit_takes_the_first_rows(tmp_path: Path) -> None:
    source = jsonl(tmp_path, *[{"prompt": str(index)} for index in range(9)])
    assert [p.content for p in load(Data(source, limit=2, held_out=0)).train] == ["0", "1"]


def test_arithmetic_is_the_default() -> None:
    prompts = load(Data())
    assert (len(prompts.train), len(prompts.held_out)) == (1800, 200)
    prompt = prompts.train[0]
    assert isinstance(prompt.content, str)
    assert sum(map(int, prompt.content.removesuffix("=").split("+"))) == int(prompt.columns["answer"])
    assert load(Data()) == prompts
    assert load(Data(seed=1)) != prompts


def test_arithmetic_for_a_chat_model() -> None:
    prompts = load(Data(level=1, template="What is {a} + {b}? Answer with just the number.", chat=True, held_out=20))
    assert (len(prompts.train), len(prompts.held_out)) == (80, 20)
    prompt = prompts.train[0]
    text = f"What is {prompt.columns['a']} + {prompt.columns['b']}? Answer with just the number."
    assert prompt.content == ({"role": "user", "content": text},)
    assert int(prompt.columns["answer"]) == prompt.columns["a"] + prompt.columns["b"]


TEXTS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60)


@given(TEXTS, st.integers(0, 59) | st.floats(0, 0.99), st.integers())
def test_the_split_never_shares_a_text_and_loses_no_row(texts: list[str], amount: int | float, seed: int) -> None:
    prompts = [Prompt(f"train:{index}", text) for index, text in enumerate(texts)]
    try:
        both = hold_out(prompts, amount, seed)
    except DataError:
        return
    assert not {p.content for p in both.train} & {p.content for p in both.held_out}
    assert sorted([*both.train, *both.held_out], key=lambda p: int(p.id[6:])) == prompts
    wanted = amount if isinstance(amount, int) else round(amount * len(prompts))
    assert len(both.held_out) <= wanted
    assert both.train
    if len(set(texts)) == len(texts):
        assert len(both.held_out) == wanted


@given(st.permutations([str(number) for number in range(20)]))
def test_the_split_does_not_depend_on_the_order(texts: list[str]) -> None:
    prompts = [Prompt(f"train:{index}", text) for index, text in enumerate(texts)]
    assert {p.content for p in hold_out(prompts, 5, seed=0).held_out} == {"1", "8", "9", "13", "15"}


def test_a_held_out_source_and_what_it_shares_with_training(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    measure = jsonl(tmp_path, {"prompt": "x"}, {"prompt": "b"}, name="m.jsonl")
    with pytest.warns(UserWarning, match="1 training prompts stand in the held-out source too"):
        both = load(Data(source, held_out_source=measure))
    assert [p.content for p in both.train] == ["a", "c"]
    assert [(p.id, p.content) for p in both.held_out] == [("held_out:0", "x"), ("held_out:1", "b")]
    assert [p.content for p in load(Data(source, held_out_source=measure, held_out=1)).held_out] == ["x"]
    with pytest.raises(DataError, match="every prompt stands in the held-out source"):
        load(Data(source, held_out_source=source))


def test_a_held_out_split_of_gsm8k(tmp_path: Path) -> None:
    jsonl(tmp_path, {"question": "a", "answer": "#### 1"}, name="train.jsonl")
    jsonl(tmp_path, {"question": "b", "answer": "#### 2"}, name="test.jsonl")
    both = load(Data(f"gsm8k:{tmp_path}", held_out_split="test", template="Question: {question}\nAnswer:"))
    assert [p.content for p in both.train] == ["Question: a\nAnswer:"]
    assert [p.columns["answer"] for p in both.held_out] == ["2"]


def test_duplicates_are_warned_of_once_and_stay_questions(tmp_path: Path) -> None:
    source = jsonl(tmp_path, *[{"prompt": "a"}] * 3, {"prompt": "b"})
    with pytest.warns(UserWarning, match="repeat the text") as caught:
        both = load(Data(source, held_out=1))
    assert [str(w.message) for w in caught] == [
        "2 of 4 prompts repeat the text of another row, such as train:1 that of train:0. "
        "Each stays a question of its own."
    ]
    assert [p.id for p in both.train] == ["train:0", "train:1", "train:2"]


def test_messages_with_the_same_words_are_the_same_text() -> None:
    turn = {"role": "user", "content": "q"}
    assert text_of(Prompt("a", (turn,))) == text_of(Prompt("b", (dict(reversed(turn.items())),)))


def test_distinct_prompts_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(Data(size=50))


USER = {"role": "user", "content": "q"}
ROW_FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no prompt": ({"question": "a", "id": 1}, {}, "no `prompt` column(?s:.*)columns question, id(?s:.*)data.columns ="),
    "empty": ({"prompt": " \n"}, {}, "line 2: the prompt is empty"),
    "number": ({"prompt": 3}, {}, "line 2: the prompt has the wrong type(?s:.*)int 3(?s:.*)a text, or a list"),
    "null": ({"prompt": None}, {}, "the prompt has the wrong type(?s:.*)NoneType"),
    "no messages": ({"prompt": []}, {}, "line 2: the prompt is an empty list"),
    "not a message": ({"prompt": [USER, "hi"]}, {}, "line 2, message 2: a message must be an object"),
    "no role": ({"prompt": [{"content": "a"}]}, {}, "line 2, message 1: unknown role(?s:.*)None(?s:.*)system, "),
    "role": ({"prompt": [{"role": "human", "content": "a"}]}, {}, "unknown role(?s:.*)human(?s:.*)user"),
    "content": ({"prompt": [{"role": "user", "content": ""}]}, {}, "message 1: the content must be a text"),
    "parts": ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, {}, "the content must be a text"),
    "keys": ({"prompt": [{**USER, "name": "x"}]}, {}, "message 1: unknown keys(?s:.*)name"),
    "answered": ({"prompt": [USER, {"role": "assistant", "content": "a"}]}, {}, "ends in the assistant's turn"),
    "rename": ({"qestion": "q"}, {"columns": {"question": "prompt"}}, "renames a column(?s:.*)did you mean 'qestion'"),
    "template": ({"question": "q"}, {"template": "{qustion}"}, "template names a column(?s:.*)did you mean 'question'"),
    "template attribute": ({"q": "q"}, {"template": "{q.__class__}"}, "template names a column"),
    "template index": ({"q": "q"}, {"template": "{} {q}"}, "template names a column"),
    "system": ({"prompt": "q"}, {"system": "Be brief."}, "data.system needs messages(?s:.*)data.chat = true"),
}


@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_a_bad_row_is_named(tmp_path: Path, fault: str) -> None:
    row, table, message = ROW_FAULTS[fault]
    good: dict[str, Any] = {"prompt": [USER], "question": "q", "qestion": "q", "q": "q"}
    good |= {"prompt": "fine"} if "system" not in table else {}
    rows = [row] if table else [good, row]
    with pytest.raises(DataError, match=message.replace("line 2", "line 2" if not table else "line 1")):
        load(Data(jsonl(tmp_path, *rows), **table))


TABLE_FAULTS = {
    "level": ({"level": 5}, ConfigError, "Unknown data.level(?s:.*)1, 2, 3, 4"),
    "limit": ({"limit": 0}, ConfigError, "data.limit is a number of rows"),
    "size": ({"size": -1}, ConfigError, "data.size is a number of rows"),
    "share": ({"held_out": 1.0}, ConfigError, "data.held_out is a count or a share"),
    "negative": ({"held_out": -1}, ConfigError, "data.held_out is a count or a share"),
    "system": ({"system": " "}, ConfigError, "data.system is empty"),
    "brace": ({"template": "{a"}, ConfigError, "data.template cannot be read"),
    "all": ({"size": 10, "held_out": 10}, DataError, "Nothing would be left to train on(?s:.*)10 of 10"),
    "none": ({"size": 10, "held_out": 0.01}, DataError, r"No row would be held out(?s:.*)0\.01 of 10 rows"),
    "too many": ({"level": 1, "size": 200}, DataError, "at most 100"),
    "demonstrations": ({"source": "arithmetic-demonstrations"}, DataError, "for supervised fine-tuning"),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_bad_table_is_refused(fault: str) -> None:
    table, kind, message = TABLE_FAULTS[fault]
    with pytest.raises(kind, match=message):
        load(Data(**table))  # type: ignore[arg-type]


def test_duplicates_alone_cannot_be_held_out(tmp_path: Path) -> None:
    source = jsonl(tmp_path, *[{"prompt": "a"}] * 5)
    with pytest.warns(UserWarning, match="repeat the text"), pytest.raises(DataError, match="No row would be held out"):
        load(Data(source, held_out=2))
