"""The share of history in what a judge trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoreline.environments.preferences import Labelled, Pair
from scoreline.train.apprentice import divided
from scoreline.train.replay import Replay
from scoreline.types import Prompt


def pairs(count: int, start: int = 0) -> list[Pair]:
    numbers = range(start, start + count)
    return [Pair(Prompt(f"train:{i}", f"{i}+1=", {"answer": str(i + 1)}), f"#{i + 1}", f"#{i}") for i in numbers]


@pytest.mark.parametrize(("share", "fresh", "old"), [(0.1, 90, 10), (0.1, 9, 1), (0.5, 20, 20), (0.0, 50, 0)])
def test_replayed_rows_are_the_share_of_all(share: float, fresh: int, old: int) -> None:
    drawn = Replay(pairs(40), share=share).draw(fresh, 1)
    assert len(drawn) == old
    assert len(set(map(str, drawn))) == old  # none twice


def test_short_history_gives_all_it_has_and_none_gives_none() -> None:
    assert len(Replay(pairs(3), share=0.5).draw(20, 1)) == 3
    assert Replay(share=0.5).draw(20, 1) == []


def test_a_draw_depends_on_seed_and_round_alone() -> None:
    one, two = Replay(pairs(50), seed=1), Replay(pairs(50), seed=1)
    assert one.draw(90, 2) == two.draw(90, 2)
    assert one.draw(90, 2) != one.draw(90, 3)
    assert one.draw(90, 2) != Replay(pairs(50), seed=2).draw(90, 2)


def test_the_oldest_are_forgotten_beyond_the_capacity() -> None:
    replay = Replay(pairs(4), capacity=5)
    replay.add(pairs(3, start=4))
    assert replay.rows == pairs(5, start=2)


def test_rows_come_back_from_the_file(tmp_path: Path) -> None:
    chat = Prompt("q", ({"role": "user", "content": "2+2, “quoted”"},), {"answer": "4"})
    rows = [*pairs(2), Labelled(chat, ("2+2=4\n", "so 4"), (1.0, 0.25))]
    Replay(rows).save(tmp_path / "rows.jsonl")
    back = Replay()
    back.restore(tmp_path / "rows.jsonl")
    assert back.rows == rows


def test_no_question_is_trained_on_and_measured_on() -> None:
    rows = [pair for pair in pairs(20) for _ in range(3)]
    new, held = divided(rows, 0.25, 0)
    assert len(held) == 15
    assert len(new) == 45
    assert not {row.prompt.content for row in new} & {row.prompt.content for row in held}


def test_too_few_questions_are_all_trained_on() -> None:
    rows = pairs(2)
    assert divided(rows, 0.2, 0) == (rows, [])
    assert divided(rows, 0.0, 0) == (rows, [])
