"""Preference pairs and labelled steps from rows, and what is wrong with rows that teach nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scoreline.environments.preferences import Labelled, Pair, hold_out_rows, load_labelled, load_pairs
from scoreline.environments.prompts import Data
from scoreline.errors import DataError
from scoreline.types import Prompt

USER = {"role": "user", "content": "3+8?"}
RIGHT = {"role": "assistant", "content": "11"}
WRONG = {"role": "assistant", "content": "12"}
PAIR = {"prompt": "3+8=", "chosen": "#11", "rejected": "#12"}
STEPS = {"prompt": "3+8+2=", "completions": ["3+8=11;", "11+2=14"], "labels": [True, 0]}


def source(folder: Path, *rows: dict[str, Any], **table: Any) -> Data:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return Data(str(path), **table)


def test_a_pair_keeps_the_other_columns(tmp_path: Path) -> None:
    found = load_pairs(source(tmp_path, {**PAIR, "answer": "11"}))
    assert found == (Pair(Prompt("train:0", "3+8=", {"answer": "11"}), "#11", "#12"),)


def test_pairs_as_messages(tmp_path: Path) -> None:
    """Answers alone, and whole conversations that hold the prompt."""
    rows = [
        {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]},
        {"chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
    ]
    found = load_pairs(source(tmp_path, *rows))
    assert found == tuple(Pair(Prompt(f"train:{i}", (USER,)), "11", "12") for i in range(2))


def test_pairs_through_the_table_of_data(tmp_path: Path) -> None:
    row = {"q": "3+8", "better": "11", "worse": "12"}
    names = {"better": "chosen", "worse": "rejected"}
    found = load_pairs(source(tmp_path, row, columns=names, template="{q}=", chat=True))
    assert found == (Pair(Prompt("train:0", ({"role": "user", "content": "3+8="},), {"q": "3+8"}), "11", "12"),)


def test_labelled_steps(tmp_path: Path) -> None:
    soft = {"prompt": "1+1=", "completions": ["1+1=3"], "labels": [0.25]}
    assert load_labelled(source(tmp_path, STEPS, soft)) == (
        Labelled(Prompt("train:0", "3+8+2="), ("3+8=11;", "11+2=14"), (1.0, 0.0)),
        Labelled(Prompt("train:1", "1+1="), ("1+1=3",), (0.25,)),
    )


def test_a_separator_goes_between_steps_that_lack_it(tmp_path: Path) -> None:
    row = {"prompt": "q", "completions": ["a", "b\n", "c"], "labels": [1, 1, 0]}
    [found] = load_labelled(source(tmp_path, row), separator="\n")
    assert found.steps == ("a\n", "b\n", "c")


WRONG_PAIRS = {
    "equal": ({**PAIR, "rejected": "#11"}, "line 2: chosen and rejected are the same.*'#11'.*remove the row"),
    "empty": ({**PAIR, "chosen": " "}, "line 2: `chosen` must be an answer that is not empty.*str ' '"),
    "null": ({**PAIR, "rejected": None}, "line 2: `rejected` must be an answer.*NoneType None"),
    "number": ({**PAIR, "rejected": 12}, "line 2: `rejected` must be an answer.*int 12"),
    "no rejected": ({"prompt": "q", "chosen": "a"}, "line 2: no `rejected` column.*columns prompt, chosen.*rename"),
    "no prompt": ({"chosen": "a", "rejected": "b"}, "line 2: no `prompt` column.*prompt, chosen, rejected"),
    "empty prompt": ({**PAIR, "prompt": ""}, "line 2: the prompt is empty"),
    "user's turn": ({**PAIR, "chosen": [USER]}, "line 2: `chosen` must be an answer.*one message of the assistant"),
    "other turns": (
        {"chosen": [USER, RIGHT], "rejected": [{**USER, "content": "4+8?"}, WRONG]},
        "line 2: chosen and rejected must be answers to the same turns.*1 turns before",
    ),
    "nothing before": ({"chosen": [RIGHT], "rejected": [WRONG]}, "answers to the same turns.*0 turns"),
}


@pytest.mark.parametrize("name", WRONG_PAIRS)
def test_rows_that_prefer_nothing(tmp_path: Path, name: str) -> None:
    row, message = WRONG_PAIRS[name]
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_pairs(source(tmp_path, PAIR, row))


WRONG_STEPS = {
    "lengths": ({**STEPS, "labels": [1]}, "line 2: steps and labels differ in number.*2 completions and 1 labels"),
    "above 1": ({**STEPS, "labels": [1, 1.5]}, "line 2: the label of step 2 is not a share.*float 1.5.*0 .wrong. to 1"),
    "below 0": ({**STEPS, "labels": [-1, 1]}, "line 2: the label of step 1 is not a share.*int -1.*write 0 and 1"),
    "text": ({**STEPS, "labels": ["1", 1]}, "label of step 1 is not a share.*str '1'"),
    "null": ({**STEPS, "labels": [1, None]}, "label of step 2 is not a share.*NoneType"),
    "nan": ({**STEPS, "labels": [float("nan"), 1]}, "label of step 1 is not a share.*nan"),
    "one text": ({**STEPS, "completions": "3+8=11"}, "line 2: `completions` must be a list that is not empty.*str"),
    "one label": ({**STEPS, "labels": 1}, "`labels` must be a list that is not empty.*int 1"),
    "no steps": ({**STEPS, "completions": [], "labels": []}, "`completions` must be a list that is not empty"),
    "empty step": ({**STEPS, "completions": ["3+8=11;", " "]}, "line 2: a step must be a text that is not empty"),
    "no labels": ({"prompt": "q", "completions": ["a"]}, "line 2: no `labels` column.*prompt, completions, labels"),
}


@pytest.mark.parametrize("name", WRONG_STEPS)
def test_rows_whose_steps_cannot_be_learned(tmp_path: Path, name: str) -> None:
    row, message = WRONG_STEPS[name]
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_labelled(source(tmp_path, STEPS, row))


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        load_pairs(source(tmp_path))


def many(prompts: int = 20, each: int = 3) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{p}+1=", "chosen": f"#{p + 1}", "rejected": f"#{i}#"} for p in range(prompts) for i in range(each)
    ]


def texts(rows: tuple[Pair, ...]) -> set[Any]:
    return {row.prompt.content for row in rows}


@pytest.mark.parametrize("amount", [0.2, 12])
def test_held_out_prompts_are_never_trained_on(tmp_path: Path, amount: float) -> None:
    train, held = hold_out_rows(source(tmp_path, *many(), held_out=amount), load_pairs)
    assert (len(train), len(held)) == (48, 12)
    assert not texts(train) & texts(held)
    assert [row.prompt.id for row in train] == sorted((row.prompt.id for row in train), key=lambda i: int(i[6:]))


def test_the_seed_says_which_are_held_out(tmp_path: Path) -> None:
    held = [texts(hold_out_rows(source(tmp_path, *many(), seed=seed), load_pairs)[1]) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]
    assert len(held[0]) == 2


def test_a_source_to_measure_on(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, many(30)[57:])))
    data = source(tmp_path, *many(), held_out_source=str(tmp_path / "test.jsonl"), held_out=9)
    train, held = hold_out_rows(data, load_pairs)
    assert len(held) == 9
    assert texts(held) == {"19+1=", "20+1=", "21+1="}
    assert len(train) == 57


def test_nothing_is_held_out_when_told(tmp_path: Path) -> None:
    train, held = hold_out_rows(source(tmp_path, STEPS, held_out=0), partial(load_labelled, separator=""))
    assert (len(train), held) == (1, ())


def test_held_out_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Nothing would be left to train on[\s\S]*held_out = 60 of 60"):
        hold_out_rows(source(tmp_path, *many(), held_out=60), load_pairs)
    with pytest.raises(DataError, match=r"No row would be held out[\s\S]*0.001 of 60"):
        hold_out_rows(source(tmp_path, *many(), held_out=0.001), load_pairs)
    data = source(tmp_path, *many(), held_out_source=str(tmp_path / "rows.jsonl"))
    with pytest.raises(DataError, match="every prompt is held out"):
        hold_out_rows(data, load_pairs)
