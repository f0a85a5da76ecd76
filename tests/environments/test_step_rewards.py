"""Scoring steps: what functions get, where they run, how their values add up, and answers without a step."""

from __future__ import annotations

import os
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.types import Prompt, Reward

PROMPTS = (Prompt("train:0", "3+8=", {"answer": "11"}), Prompt("train:1", "1+1=", {"answer": "2", "extra": 5}))
COMPLETIONS, IDS = ("3+8=11;3+8=12#11", "#3"), ((1, 2), (3,))
STEPS = (("3+8=11;", "3+8=12", "#11"), ("#3",))


def score(*steps: RewardSpec, whole: tuple[RewardSpec, ...] = (), **judges: Any) -> list[Reward]:
    with Scorer(whole, judges=judges, steps=steps) as scorer:
        scorer.check(PROMPTS)
        return scorer.score(PROMPTS, COMPLETIONS, IDS, STEPS)


def test_a_built_in_by_name() -> None:
    assert score(RewardSpec("arithmetic_steps")) == [
        Reward(None, {}, (1.0, 0.0, None), {"arithmetic_steps": (1.0, 0.0, None)}),
        Reward(None, {}, (None,), {"arithmetic_steps": (None,)}),
    ]


def test_answers_and_steps_side_by_side() -> None:
    first, second = score(
        RewardSpec("arithmetic_steps", weight=0.5), whole=(RewardSpec("arithmetic_answer", weight=2.0),)
    )
    parts = {"arithmetic_answer": 1.0}
    assert first == Reward(2.0, parts, (0.5, 0.0, None), {"arithmetic_steps": (1.0, 0.0, None)})
    assert second == Reward(0.0, {"arithmetic_answer": 0.0}, (None,), {"arithmetic_steps": (None,)})


def test_step_rewards_add_up_over_the_functions_with_a_number() -> None:
    (first, second) = score(
        RewardSpec("arithmetic_steps", weight=2.0),
        RewardSpec(lambda steps: [[len(step) for step in row] for row in steps], weight=-1.0),
        RewardSpec("arithmetic_steps", options={"missing": 0.25}),
    )
    assert first.steps == (2.0 - 7 + 1.0, -6.0, -3 + 0.25)
    assert second.steps == (-2 + 0.25,)
    assert list(first.step_parts) == ["arithmetic_steps", "<lambda>", "arithmetic_steps-2"]
    assert first.step_parts["<lambda>"] == (7.0, 6.0, 3.0)


def test_names() -> None:
    with Scorer([RewardSpec("exact_match")], steps=[RewardSpec("calculator_steps")] * 2) as scorer:
        assert scorer.names == ("exact_match",)
        assert scorer.step_names == ("calculator_steps", "calculator_steps-2")


def test_what_functions_of_steps_get() -> None:
    seen: dict[str, Any] = {}

    def spy(prompts: Any, steps: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[list[None]]:
        seen.update(prompts=prompts, steps=steps, completions=completions, completion_ids=completion_ids, **columns)
        return [[None] * 3, [None]]

    assert score(RewardSpec(spy, options={"power": 2}))[0] == Reward(None, {}, (None,) * 3, {"spy": (None,) * 3})
    assert callable(seen.pop("log_metric"))
    assert callable(seen.pop("log_extra"))
    assert seen == {
        "prompts": ["3+8=", "1+1="],
        "steps": [["3+8=11;", "3+8=12", "#11"], ["#3"]],
        "completions": list(COMPLETIONS),
        "completion_ids": [[1, 2], [3]],
        "answer": ["11", "2"],
        "extra": [None, 5],
        "power": 2,
    }


def test_the_steps_of_answers_to_messages_are_texts() -> None:
    seen: list[Any] = []

    def spy(prompts: Any, steps: Any, completions: Any) -> list[list[float]]:
        seen.extend([prompts, steps, completions])
        return [[1.0]]

    turn = {"role": "user", "content": "3+8?"}
    with Scorer([], steps=[RewardSpec(spy)]) as scorer:
        scorer.score([Prompt("train:0", (turn,))], ["11"], [[1]], [["11"]])
    assert seen == [[[turn]], [["11"]], [[{"role": "assistant", "content": "11"}]]]


def test_a_column_that_is_called_steps_stays_with_functions_of_answers() -> None:
    seen: dict[str, Any] = {}

    def whole(completions: Any, steps: Any) -> list[float]:
        seen["whole"] = steps
        return [0.0]

    def each(steps: Any) -> list[list[float]]:
        seen["each"] = steps
        return [[0.0]]

    with Scorer([RewardSpec(whole)], steps=[RewardSpec(each)]) as scorer:
        prompt = Prompt("train:0", "3+8=", {"steps": 7})
        scorer.check([prompt])
        scorer.score([prompt], ["11"], [[1]], [["11"]])
    assert seen == {"whole": [7], "each": [["11"]]}


def test_a_function_of_a_file_in_its_own_process(tmp_path: Path) -> None:
    code = """
        import os
        async def lengths(steps, answer, log_metric, log_extra):
            log_metric("pid", os.getpid())
            log_extra("first", [row[0] for row in steps])
            return tuple(tuple(len(s) if s != right else None for s in row) for row, right in zip(steps, answer))
    """
    (tmp_path / "mine.py").write_text(textwrap.dedent(code))
    with Scorer([], steps=[RewardSpec(f"{tmp_path}/mine.py:lengths")]) as scorer:
        scorer.check(PROMPTS)
        rewards = scorer.score(PROMPTS, COMPLETIONS, IDS, (("ab", "11"), ("a",)))
        assert [reward.steps for reward in rewards] == [(2.0, None), (1.0,)]
        assert scorer.logged["pid"] != os.getpid()
        assert scorer.extra == {"first": ["ab", "a"]}


def test_a_judge_of_steps_runs_here() -> None:
    def judge(prompts: Any, steps: list[list[str]]) -> list[list[float]]:
        return [[os.getpid()] * len(row) for row in steps]

    rewards = score(RewardSpec("models/prm"), **{"models/prm": judge})
    assert rewards[1] == Reward(None, {}, (float(os.getpid()),), {"prm": (float(os.getpid()),)})


def test_numbers_of_other_kinds_are_numbers() -> None:
    class Row:
        def __iter__(self) -> Any:
            return iter([True, False, 2])

    assert score(RewardSpec(lambda steps: iter([Row(), (0.5,)])))[0].steps == (1.0, 0.0, 2.0)


def test_answers_without_a_step_are_counted_and_warned_of_once() -> None:
    with Scorer([RewardSpec("arithmetic_answer")], steps=[RewardSpec("arithmetic_steps")]) as scorer:
        with pytest.warns(
            UserWarning,
            match=r"1 of 2 answers have no step; they get their outcome reward only.*row 1 \(prompt 'train:1'\): '#3'",
        ):
            rewards = scorer.score(PROMPTS, COMPLETIONS, IDS, (STEPS[0], ()))
        assert rewards[1] == Reward(0.0, {"arithmetic_answer": 0.0}, (), {"arithmetic_steps": ()})
        assert rewards[0].steps == (1.0, 0.0, None)
        assert scorer.without_steps == 1
        with warnings.catch_warnings(action="error"):
            none = scorer.score(PROMPTS, COMPLETIONS, IDS, ((), ()))
            assert scorer.without_steps == 2
            assert [reward.total for reward in none] == [1.0, 0.0]
            assert [reward.steps for reward in none] == [(), ()]
            scorer.score(PROMPTS, COMPLETIONS, IDS, STEPS)
            assert scorer.without_steps == 0


def test_where_no_answer_has_a_step_no_function_is_asked() -> None:
    def never(steps: Any) -> Any:
        raise AssertionError

    scorer = Scorer([], steps=[RewardSpec(never)])
    with pytest.warns(UserWarning, match="2 of 2 answers have no step; they get no reward"):
        assert scorer.score(PROMPTS, COMPLETIONS, IDS, ((), ())) == [Reward(None, {}, (), {"never": ()})] * 2


def test_rewards_of_answers_alone_need_no_steps() -> None:
    with Scorer([RewardSpec("arithmetic_answer")], none="error") as scorer:
        expected = [Reward(1.0, {"arithmetic_answer": 1.0}), Reward(0.0, {"arithmetic_answer": 0.0})]
        assert scorer.score(PROMPTS, COMPLETIONS, IDS) == expected
        assert scorer.score(PROMPTS, COMPLETIONS, IDS, STEPS) == expected
        assert scorer.step_names == ()


def test_no_answers_no_rewards() -> None:
    with Scorer([], steps=[RewardSpec("arithmetic_steps")], none="error") as scorer:
        assert scorer.score([], [], [], []) == []
