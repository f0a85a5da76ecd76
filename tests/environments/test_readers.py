"""Files to rows, and every way in which a file can be broken."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments import gsm8k
from scoreline.environments.readers import read
from scoreline.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
GSM8K = Path(os.environ.get("SCORELINE_SHARED", REPOSITORY.parent / "shared")) / "data" / "gsm8k"

ROWS = [{"prompt": "3+8=", "answer": "11"}, {"prompt": 'a "b", c\n?', "answer": "é\u2028"}]


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def columns(source: str) -> list[dict[str, object]]:
    return [dict(row.columns) for row in read(source)]


def test_jsonl_with_blank_lines_a_byte_order_mark_and_a_line_separator(tmp_path: Path) -> None:
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    source = write(tmp_path, "d.jsonl", "\ufeff" + text + "\r\n")
    assert columns(source) == ROWS
    assert read(source)[1].place == f"{source}, line 3"


def test_json_array(tmp_path: Path) -> None:
    source = write(tmp_path, "d.json", json.dumps(ROWS))
    assert columns(source) == ROWS
    assert read(source)[1].place == f"{source}, row 2"


def test_csv_with_quotes_and_newlines(tmp_path: Path) -> None:
    source = write(tmp_path, "d.csv", 'prompt,answer\n3+8=,11\n"a ""b"", c\n?",é\u2028\n')
    assert columns(source) == ROWS
    assert read(source)[1].place == f"{source}, line 4"


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the [data] extra is not installed")
    import pyarrow
    import pyarrow.parquet

    rows = [{"prompt": [{"role": "user", "content": "hi"}], "answer": 1}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert columns(str(tmp_path / "d.parquet")) == rows
    with pytest.raises(DataError, match="not a parquet file"):
        read(write(tmp_path, "broken.parquet", "nothing"))


@given(st.lists(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()), min_size=1))
def test_jsonl_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    text = "\n".join(json.dumps(row) for row in rows)
    assert columns(write(tmp_path_factory.mktemp("d"), "d.jsonl", text)) == rows


FAULTS: dict[str, tuple[str, str | bytes, str]] = {
    "empty file": ("d.jsonl", "", r"d\.jsonl is empty"),
    "blank lines": ("d.jsonl", "\n \n", r"d\.jsonl is empty"),
    "empty array": ("d.json", "[]", r"d\.json is empty"),
    "empty json": ("d.json", "", r"d\.json is empty"),
    "header alone": ("d.csv", "prompt,answer\n", r"d\.csv is empty"),
    "broken row": ("d.jsonl", '{"prompt": "a"}\n{"prompt": }\n', r"d\.jsonl, line 2: broken JSON: .* at column 12"),
    "cut row": ("d.jsonl", '{"prompt": "a"}\n{"prompt": "b', r"d\.jsonl, line 2: broken JSON: Unterminated string"),
    "row of wrong type": (
        "d.jsonl",
        '{"prompt": "a"}\n[1]\n',
        r"line 2: a row must be a JSON object(?s:.*)got: +\[1\]",
    ),
    "deep row": ("d.jsonl", "[" * 200_000, r"line 1: the JSON is nested too deeply"),
    "broken json": ("d.json", '[{"prompt": "a"},\n {"prompt"]', r"d\.json: broken JSON: .* at line 2, column 11"),
    "json of wrong type": ("d.json", '{"prompt": "a"}', r"not an array of rows(?s:.*)dict(?s:.*)\.jsonl"),
    "short csv row": (
        "d.csv",
        "prompt,answer\na,1\nb\n",
        r"line 3: the row does not fit(?s:.*)1 fields(?s:.*)2 fields",
    ),
    "long csv row": ("d.csv", "prompt,answer\na,1,2\n", r"line 2: the row does not fit(?s:.*)3 fields"),
    "open quote": ("d.csv", 'prompt\n"a\nb', r"d\.csv, line 3: broken CSV"),
    "same column twice": ("d.csv", "a,a\n1,2\n", r"d\.csv, line 1: two columns have the same name"),
    "not UTF-8": (
        "d.jsonl",
        b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n',
        r"is not UTF-8(?s:.*)byte 0xe9 at offset 31, line 2(?s:.*)iconv",
    ),
    "unknown kind": ("d.txt", "hello", r"neither a file of a known kind(?s:.*)\.parquet"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, fault: str) -> None:
    name, content, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, name, content))


def test_a_missing_file_says_where_relative_paths_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"does not exist(?s:.*)none.jsonl(?s:.*){re.escape(str(Path.cwd()))}"):
        read("none.jsonl")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read(str(tmp_path / "d.jsonl"))


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="the [data] extra is installed")
def test_a_hub_id_without_the_extra_names_it() -> None:
    with pytest.raises(DataError, match=r"is no file(?s:.*)openai/gsm8k(?s:.*)scoreline\[data\]"):
        read("openai/gsm8k")


def test_gsm8k_by_hand(tmp_path: Path) -> None:
    row = {"question": "How much?", "answer": "He made <<1+1=2>>2.\n#### 1,200"}
    write(tmp_path, "train.jsonl", json.dumps(row))
    expected = {"question": "How much?", "prompt": "How much?", "solution": row["answer"], "answer": "1200"}
    assert dict(gsm8k.rows(f"gsm8k:{tmp_path}", "train")[0].columns) == expected
    assert dict(gsm8k.rows(f"gsm8k:{tmp_path}/train.jsonl", "test")[0].columns) == expected
    with pytest.raises(DataError, match=r"does not exist(?s:.*)test\.jsonl"):
        gsm8k.rows(f"gsm8k:{tmp_path}", "test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a", "answer": "12"}, "line 1: the GSM8K solution has no final answer"),
        ({"question": "a", "answer": "12\n####  "}, "has no final answer"),
        ({"prompt": "a"}, "line 1: not a GSM8K row(?s:.*)columns prompt"),
    ],
)
def test_a_row_that_is_not_gsm8k(tmp_path: Path, row: dict[str, str], message: str) -> None:
    write(tmp_path, "train.jsonl", json.dumps(row))
    with pytest.raises(DataError, match=message):
        gsm8k.rows(f"gsm8k:{tmp_path}", "train")


@pytest.mark.skipif(not GSM8K.is_dir(), reason="no GSM8K folder: SCORELINE_SHARED names the folder above data/gsm8k")
def test_all_of_gsm8k_has_whole_numbers_as_answers() -> None:
    train, test = (gsm8k.rows(f"gsm8k:{GSM8K}", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (7473, 1319)
    assert test[0].columns["answer"] == "18"
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", row.columns["answer"]) for row in train + test)
