"""Both sides of the speed benchmark are given the same questions, in the order in which they are asked."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from command import options
from ours import Ours
from quickstart_table import Outcome, between, markdown
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


def test_uneven_answers_end_at_will_and_are_asked_to_be_brief() -> None:
    work = WORKLOADS["uneven"]("tiny", 4)
    assert (work.budget, work.fixed_length, work.rows) == (256, False, 32)
    assert "one or two sentences" in work.wish


def test_a_child_is_told_the_same_options() -> None:
    told = {"trl_micro_batch": 8, "trl": ["amp", "bf16"], "memory": True, "floor": False, "beta": 0.0, "model": None}
    asked = list(options(told))
    assert asked == ["--trl-micro-batch", "8", "--trl", "amp", "bf16", "--memory", "--beta", "0.0"]
    assert arguments(asked).trl == ["amp", "bf16"]


def test_quickstart_seconds_are_those_of_evaluations_and_steps(tmp_path: Path) -> None:
    (tmp_path / "evaluation.jsonl").write_text('{"seconds": 2.0}\n{"seconds": 3.0}\n', encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text('{"time/step": 0.5}\n{"time/step": 0.25}\n', encoding="utf-8")
    assert between(tmp_path) == 5.75


def test_quickstart_table() -> None:
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
    measured = {"greedy": interval, "avg@k": interval, "pass@k": interval, "k": 4, "mean_length": 8.0}
    summary = {"eval": {"before": measured, "after": {**measured, "mean_length": 17.5}}, "peak_rss_mb": 420.4}
    shown = markdown([Outcome(seed=1, seconds=61.2, between=48.4, summary=summary)])
    assert shown.splitlines()[-1] == (
        "| 1 | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 0.500 | 0.500 | 8.0 | 17.5 | 61 | 48 | 420 |"
    )
