"""The sweep: one thing changes at a time, and a point is measured on a random Llama of that shape."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from sweep import AXES, BASE, Point, arguments, make_llama, measured, table, word

from scoreline.models.loading import load_causal_lm, load_tokenizer
from scoreline.models.text import Text
from scoreline.types import Prompt

SMALLEST = Point(layers=1, width=64, vocabulary=40, answers=2, budget=3)


def test_one_thing_changes_on_an_axis() -> None:
    for axis, points in AXES.items():
        changed = {name for point in points for name, value in asdict(point).items() if value != asdict(BASE)[name]}
        assert len(points) >= 3
        assert BASE in points
        assert changed <= ({"layers", "width"} if axis == "model size" else changed)
        assert len(changed) == (2 if axis == "model size" else 1)


def test_every_word_is_a_token(tmp_path: Path) -> None:
    parameters = make_llama(SMALLEST, tmp_path)
    model = load_causal_lm(str(tmp_path))
    assert parameters == sum(p.numel() for p in model.parameters())
    text = Text(load_tokenizer(str(tmp_path)))
    assert text.encode(Prompt("0", " ".join(word(i) for i in (3, 39, 7)))) == (3, 39, 7)


def test_a_point_is_measured() -> None:
    told = ["--steps", "1", "--warmup", "1", "--device", "cpu", "--point", json.dumps(asdict(SMALLEST))]
    found = measured(arguments(told))
    assert found["tokens"] == 4 * 2 * 3
    assert found["peak"] >= found["start"] > 0
    assert found["seconds"] > 0


def test_table() -> None:
    point = {**asdict(BASE), "parameters": 5, "seconds": 2.0, "tokens": 100, "peak": 300.0, "start": 250.0}
    assert "| 4,096 | 2.000 | 50 | 300 | 50 |" in table("vocabulary", [point])
    assert "| 5 | 2.000 | 50 | 8 | 50 |" in table("model size", [{**point, "device_peak": 8.0}])


@pytest.mark.parametrize("number", [0, 1, 4, 5, 39])
def test_words_differ_in_vowels(number: int) -> None:
    assert (word(number)[0] in "aeiou") == (number % 10 < 5)
