"""The arithmetic of the speed benchmark, on steps whose medians and ratios are known. Nothing is timed."""

from __future__ import annotations

import math

import pytest
from figures import Spread, Step, fastest, memory_table, middle, modes_table, table, versus, warmup_line

PARTS = {"generation": 0.25, "reward": 0.0, "update": 0.5, "rest": 0.25}
QUESTION = ((1, 2, 3),)


def step(seconds: float, tokens: int = 100, prompts: tuple[tuple[int, ...], ...] = QUESTION, **more: float) -> Step:
    parts = {name: share * seconds for name, share in PARTS.items()}
    return Step(seconds, tokens, {**parts, **more}, prompts)


def test_middle_takes_each_median_by_itself() -> None:
    found = middle([step(1.0, 30), step(4.0, 10), step(2.0, 40)])
    assert (found.seconds, found.tokens) == (2.0, 30)
    assert found.seconds_per_token == 0.05  # of 1/30, 0.4 and 0.05: not 2 / 30
    assert found.tokens_per_second == 20.0
    assert found.parts == {"generation": 0.5, "reward": 0.0, "update": 1.0, "rest": 0.5}


def test_one_slow_step_does_not_move_the_ratio() -> None:
    found = versus([step(1.0), step(1.0), step(9.0)], [step(3.0), step(3.0), step(3.0)])
    assert found.ratio == 3.0
    assert (found.lowest, found.highest) == (pytest.approx(1 / 3), 3.0)


def test_per_token_counts_what_each_side_sampled() -> None:
    found = versus([step(1.0, tokens=200)], [step(3.0, tokens=300)])
    assert found.ratio == 3.0
    assert found.per_token == 2.0


def test_other_questions_are_no_comparison() -> None:
    same, other = step(1.0), step(1.0, prompts=((7,),))
    with pytest.raises(ValueError, match="step 2: the two sides answered different questions"):
        versus([same, same], [same, other])


def test_unequal_numbers_of_steps_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="shorter"):
        versus([step(1.0), step(1.0)], [step(1.0)])


def test_table_has_parts_and_details() -> None:
    shown = table("tiny", versus([step(1.0)], [step(2.5, forward=0.75)]))
    assert "| seconds | 1.000 | 2.500 | 2.50 |" in shown
    assert "| - update | 0.500 | 1.250 | 2.50 |" in shown
    assert f"| - reward | 0.000 | 0.000 | {math.nan} |" in shown
    assert "Ratio of medians 2.50" in shown
    assert "Of TRL's seconds: forward 0.750." in shown


def test_lengths_are_those_of_all_answers() -> None:
    steps = [Step(1.0, 12, PARTS, QUESTION, (2, 10)), Step(1.0, 6, PARTS, QUESTION, (5, 1))]
    found = middle(steps)
    assert found.lengths == Spread(4.5, 1, 10)
    assert "| 4 (1 to 10) | 4 (1 to 10) |" in table("uneven", versus(steps, steps))
    assert steps[0].record()["lengths"] == {"mean": 6, "least": 2, "most": 10}


def test_the_fastest_mode_is_the_one_with_the_smallest_lead() -> None:
    # bf16 took longer in seconds, but so did our steps beside it: the machine was busy
    modes = [("amp", versus([step(1.0)], [step(4.0)])), ("bf16", versus([step(2.0)], [step(5.0)]))]
    assert fastest(modes) == "bf16"
    assert "| bf16 (its fastest) | 2.000 | 5.000 | 2.50 | 2.50 |" in modes_table("tiny", modes)


def test_warmup_is_told_apart() -> None:
    assert "Scoreline 9.00, 1.00 s; TRL 3.00, 2.00 s" in warmup_line([step(9.0), step(1.0)], [step(3.0), step(2.0)])


def test_memory_of_a_device_has_a_line() -> None:
    side = {"start": 1, "peak": 2, "device_peak": 4}
    assert "| peak of the device | 4 | 8 | 0.50 |" in memory_table(
        "x", {"ours": side, "trl": {**side, "device_peak": 8}}
    )


def test_memory_table_is_ours_by_theirs() -> None:
    shown = memory_table("tiny", {"ours": {"start": 300, "peak": 500}, "trl": {"start": 400, "peak": 1000}})
    assert "| peak | 500 | 1000 | 0.50 |" in shown
    assert "| after imports | 300 | 400 | 0.75 |" in shown
