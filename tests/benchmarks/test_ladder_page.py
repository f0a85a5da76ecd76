"""docs/ladder.md is what the files in docs/results/ladder/ make, and shows what decided."""

from __future__ import annotations

import json
from pathlib import Path

import ladder_page
import pytest

CLAIM = {
    "text": "One is more than the other.",
    "verdict": "supported",
    "difference": {"mean": 0.1, "low": 0.05, "high": 0.15, "t_low": 0.02, "t_high": 0.14},
}
FOUND = {
    "seeds": [1, 2],
    "budget": {"kind": "steps", "amount": 20},
    "claims": [CLAIM],
    "arms": [
        {
            "name": "one",
            "title": "the first",
            "measures": {"final": {"mean": 0.5, "low": 0.4, "high": 0.6}, "memory_mb": {"mean": 512.4, "low": None}},
            "curves": {"accuracy": {"x": "steps", "points": [[0, 0.4, 0.3, 0.5, 2], [20, 0.5, 0.4, 0.6, 2]]}},
        },
        {"name": "other", "title": "", "measures": {"final": {"mean": 0.4, "low": 0.3, "high": 0.5}}, "curves": {}},
    ],
}


def test_the_committed_page_is_made_of_the_committed_results() -> None:
    assert ladder_page.PAGE.read_text(encoding="utf-8") == ladder_page.page(ladder_page.load()), "make it again"


def test_every_experiment_has_its_recipe() -> None:
    recipes = {path.stem for path in (ladder_page.ROOT / "recipes/ladder").glob("*.toml")}
    assert recipes == set(ladder_page.EXPERIMENTS)


def test_a_verdict_stands_beside_the_wider_of_both_intervals() -> None:
    text = ladder_page.page({"clip": FOUND})
    assert "| 3 | One is more than the other. | +0.1 [+0.02, +0.15] | **supported** |" in text
    assert "Not measured yet: 1. Absolute scores as reward" in text
    assert "2 seeds, 20 steps a run" in text


def test_arms_show_the_measures_that_some_arm_has() -> None:
    text = ladder_page.arms(FOUND)
    assert text.splitlines() == [
        "| arm | final accuracy | MB |",
        "|---|--:|--:|",
        "| `one` the first | 0.500 [0.400, 0.600] | 512 |",
        "| `other` | 0.400 [0.300, 0.500] |  |",
    ]


def test_notes_and_pictures_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"RESULTS": tmp_path, "PAGE": tmp_path / "docs/ladder.md", "PICTURES": tmp_path / "docs/images/ladder"}
    for name, path in places.items():
        monkeypatch.setattr(ladder_page, name, path)
    (tmp_path / "clip.json").write_text(json.dumps(FOUND), encoding="utf-8")
    (tmp_path / "clip.md").write_text("What was seen.\n", encoding="utf-8")
    ladder_page.write_page()
    page = places["PAGE"].read_text(encoding="utf-8")
    assert "What was seen." in page
    assert "](images/ladder/clip.svg)" in page
    picture = (places["PICTURES"] / "clip.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg ")
    assert ">one<" in picture, "arms are called by their names"
