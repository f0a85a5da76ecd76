"""A run with parts that only Python knows can still be evaluated, sampled from and exported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from scoreline.config.build import check_plan
from scoreline.config.dump import dump
from scoreline.config.export import recorded
from scoreline.config.run import Run
from scoreline.environments.rewards import RewardSpec
from scoreline.errors import ConfigError
from scoreline.objectives.returns import ToGo
from scoreline.objectives.signal import Signal
from scoreline.objectives.zoo import grpo
from scoreline.train.plan import Plan


@dataclass(frozen=True)
class Mine:
    formula: ClassVar[str] = "A = r"
    source: ClassVar[str] = "nowhere"
    grouped: ClassVar[bool] = True

    def __call__(self, signal: Signal) -> Signal:
        return signal


RUN = Run(algorithm="mine", objective=replace(grpo, credit=(Mine(), ToGo())), reward=(RewardSpec("exact_match"),))


def test_what_it_recorded_is_read_without_its_objective(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.toml").write_text(dump(RUN), encoding="utf-8")
    read = recorded(tmp_path)
    assert read == replace(RUN, objective=grpo)


def test_a_part_of_ones_own_can_ask_for_groups() -> None:
    with pytest.raises(ConfigError, match="at least two answers"):
        check_plan(replace(RUN, train=Plan(num_generations=1)))
