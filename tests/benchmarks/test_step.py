"""Both sides of the speed benchmark are given the same questions, in the order in which they are asked."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from ours import Ours
from quickstart_table import Outcome, markdown
from step import PROMPTS, arguments
from turns import make_setup
from workload import WORKLOADS, Setup, stories

from scoreline.rollout.collect import Collector


@pytest.fixture
def setup() -> Setup:
    options = vars(arguments(["--steps", "1", "--warmup", "1"]))
    return make_setup(Namespace(**{**options, "model": "tiny:init"}), 2)


def test_ours_asks_what_is_served_to_the_other_side(setup: Setup, tmp_path: Path) -> None:
    mine = Ours(setup, tmp_path)
    try:
        asked: Collector = mine.built.parts.collector
        served = [row["prompt"] for row in setup.served()]
        first, second = asked.collect(0), asked.collect(2)
        assert [r.prompt.content for r in first.rollouts[::8]] == served[:2]
        assert [r.prompt.content for r in second.rollouts[::8]] == served[2:]
    finally:
        mine.close()


def test_the_parts_of_our_step_add_up(setup: Setup, tmp_path: Path) -> None:
    mine = Ours(setup, tmp_path)
    try:
        step = mine.step()
    finally:
        mine.close()
    assert sum(step.parts.values()) == pytest.approx(step.seconds)
    assert step.tokens <= setup.workload.rows * setup.workload.budget
    assert len(step.prompts) == 2


def test_micro_batch_must_divide_the_answers() -> None:
    with pytest.raises(SystemExit, match="micro-batch of 5 must divide the 16 answers"):
        make_setup(arguments(["--micro-batch", "5"]), 2)


def test_every_workload_has_shapes() -> None:
    assert set(PROMPTS) == set(WORKLOADS)


def test_built_in_questions_differ() -> None:
    told = list(stories(None))
    assert len(set(told)) == len(told)
    assert not any("{" in story for story in told)


def test_quickstart_table() -> None:
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
    measured = {"greedy": interval, "avg@k": interval, "pass@k": interval, "k": 4, "mean_length": 8.0}
    summary = {"eval": {"before": measured, "after": {**measured, "mean_length": 17.5}}, "peak_rss_mb": 420.4}
    shown = markdown([Outcome(seed=1, seconds=61.2, summary=summary)])
    assert shown.splitlines()[-1] == (
        "| 1 | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 0.500 | 0.500 | 8.0 | 17.5 | 61 | 420 |"
    )
