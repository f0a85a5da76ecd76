"""Pairs are right x wrong answers to one question, spread over the answers, and a function of the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from scoreline.environments.pairing import diagonal, pairs
from scoreline.types import Completion, Prompt, Reward, Rollout

Graded = Sequence[tuple[str, float | None]]


def answers(question: str, graded: Graded) -> list[Rollout]:
    done = Completion((5, 1), (-0.1, -0.2), "stop")
    prompt = Prompt(question, f"{question}=", {"answer": "11"})
    return [Rollout(prompt, (4,), done, text, Reward(total), 0) for text, total in graded]


def many(right: int, wrong: int, question: str = "train:0") -> list[Rollout]:
    return answers(question, [(f"r{i}", 1.0) for i in range(right)] + [(f"w{i}", 0.0) for i in range(wrong)])


def test_a_right_answer_is_chosen_over_a_wrong_one_to_the_same_question() -> None:
    mixed = answers("train:0", [("#11", 1.0), ("#12", 0.0)]) + answers("train:1", [("#7", 1.0), ("#8", 0.0)])
    made = pairs(mixed, seed=0)
    assert [(p.prompt.id, p.chosen, p.rejected) for p in made] == [("train:0", "#11", "#12"), ("train:1", "#7", "#8")]
    assert made[0].prompt is mixed[0].prompt


@pytest.mark.parametrize("graded", [[("#11", 1.0), ("#+11", 1.0)], [("#12", 0.0)], [("#11", None), ("#12", 0.0)], []])
def test_no_pair_without_both_kinds(graded: Graded) -> None:
    assert pairs(answers("train:0", graded), seed=0) == []


def test_an_answer_without_a_total_is_neither() -> None:
    made = pairs(answers("train:0", [("#11", 1.0), ("?", None), ("#12", 0.0)]), most=9, seed=0)
    assert [(p.chosen, p.rejected) for p in made] == [("#11", "#12")]


def test_a_blank_answer_is_in_no_pair() -> None:
    made = pairs(answers("train:0", [("#11", 1.0), ("", 0.0), (" \n", 0.0), ("#12", 0.0)]), most=9, seed=0)
    assert [p.rejected for p in made] == ["#12"]


def test_answers_with_the_same_text_count_once() -> None:
    made = pairs(answers("train:0", [("#11", 1.0)] * 3 + [("#12", 0.0)] * 3), most=9, seed=0)
    assert len(made) == 1


def test_right_begins_at_a_total() -> None:
    graded = [("a", 0.4), ("b", 0.5), ("c", 0.6)]
    assert {p.rejected for p in pairs(answers("train:0", graded), right_at=0.5, most=9, seed=0)} == {"a"}
    assert {p.rejected for p in pairs(answers("train:0", graded), right_at=0.6, most=9, seed=0)} == {"a", "b"}


@pytest.mark.parametrize(
    ("right", "wrong", "most"), [(1, 7, 4), (7, 1, 4), (4, 4, 4), (2, 6, 8), (3, 5, 100), (4, 6, 13)]
)
def test_pairs_are_few_different_and_spread(right: int, wrong: int, most: int) -> None:
    made = pairs(many(right, wrong), most=most, seed=3)
    assert len(made) == len({(p.chosen, p.rejected) for p in made}) == min(most, right * wrong)
    for side, count in (("chosen", right), ("rejected", wrong)):
        used = Counter(getattr(p, side) for p in made)
        uses = [used.get(f"{'r' if side == 'chosen' else 'w'}{i}", 0) for i in range(count)]
        assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize("rows", range(8))
@pytest.mark.parametrize("columns", range(8))
def test_the_diagonal_reaches_every_cell_once(rows: int, columns: int) -> None:
    every = {(i, j) for i in range(rows) for j in range(columns)}
    cells = diagonal(rows, columns, 1000)
    assert set(cells) == every
    assert len(cells) == len(every)


def test_no_question_gives_more_than_most() -> None:
    made = pairs(many(5, 5, "train:0") + many(1, 2, "train:1"), most=3, seed=0)
    assert Counter(p.prompt.id for p in made) == {"train:0": 3, "train:1": 2}


def test_a_question_s_pairs_do_not_depend_on_the_others() -> None:
    alone = pairs(many(5, 5, "train:1"), most=3, seed=0)
    assert [p for p in pairs(many(5, 5) + many(5, 5, "train:1"), most=3, seed=0) if p.prompt.id == "train:1"] == alone


def test_the_seed_chooses() -> None:
    drawn = {seed: pairs(many(6, 6), most=2, seed=seed) for seed in range(8)}
    assert drawn[0] == pairs(many(6, 6), most=2, seed=0)
    assert len({tuple((p.chosen, p.rejected) for p in made) for made in drawn.values()}) > 4
