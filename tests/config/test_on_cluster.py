"""What the processes of a cluster are told of a run. None of it needs Ray."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoreline.backends.runtime import Ray
from scoreline.backends.vllm import Vllm
from scoreline.config.cluster import make_probe, make_scores, rooted, threads
from scoreline.config.run import Eval, Judge, Run
from scoreline.environments.rewards import RewardSpec
from scoreline.errors import EngineError, ModelError
from scoreline.models.judges import make_judge
from scoreline.models.policy import Model
from scoreline.objectives.zoo import grpo
from scoreline.rollout.local import Local, LocalEngine
from scoreline.train.learner import LocalLearner
from scoreline.types import Prompt
from tests import parts

MINE = "def halves(completions, **columns):\n    return [0.5] * len(completions)\n"


def quarter(completions: list[str]) -> list[float]:
    return [0.25] * len(completions)


def test_rewards_are_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "boxed", there):
        folder.mkdir(parents=True)
    (here / "mine.py").write_text(MINE)
    parts.policy().save(here / "model")
    make_judge("outcome", str(here / "model"), seed=1).save(here / "judges/first")
    named = "mine.py:halves", "judges/first", "boxed", "owner/name", "package.mine.halves", quarter
    specs = tuple(map(RewardSpec, named))
    monkeypatch.chdir(here)
    run = rooted(Run(reward=specs, step_reward=specs[:1], eval=Eval(reward=specs[1:2])))
    file, judge = f"{here}/mine.py:halves", str(here / "judges/first")
    assert [spec.function for spec in run.reward] == [file, judge, *named[2:]], "a built-in is no folder"
    assert ([spec.function for spec in run.step_reward], run.eval.reward[0].function) == ([file], judge)
    monkeypatch.chdir(there)
    with make_scores(replace(run, reward=run.reward[:2], step_reward=())) as scorer:
        reward = scorer.score([Prompt("q", "")], ["1"], [(5,)])[0]
    assert reward.parts["halves"] == 0.5
    assert set(reward.parts) == {"halves", "first"}


def test_a_scorer_loads_no_judge_of_the_evaluation(tmp_path: Path) -> None:
    """Neither is a model, so whoever loads one is told."""
    for name in ("named", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    other, own = RewardSpec(str(tmp_path / "named")), Judge(path=str(tmp_path / "own"))
    run = Run(reward=(RewardSpec(quarter),), eval=Eval(reward=(other, RewardSpec("judge"))), judge=own)
    with make_scores(run) as scorer:
        assert scorer.score([Prompt("q", "")], ["1"], [(5,)])[0].total == 0.25
    with pytest.raises(ModelError):
        make_scores(replace(run, reward=(RewardSpec("judge"),)))


def test_threads_where_the_system_does_not_say_which_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert (threads(Ray(rollouts=2)), threads(Ray(rollouts=3, max_staleness=1))) == (4, 2)


@pytest.mark.parametrize(
    ("engine", "precision", "bounds"),
    [
        (Local(), "fp32", (1e-3, 1e-2)),
        (Local(), "bf16", (0.1, 1.0)),
        (Vllm(dtype="bf16"), "fp32", (0.1, 1.0)),
        (Vllm(mean_gap=0.5, max_gap=3.0), "fp32", (0.5, 3.0)),
        (Vllm(dtype="bf16", max_gap=3.0), "fp32", (0.1, 3.0)),
    ],
)
def test_a_worker_is_probed_by_the_engines_bounds(
    engine: Local | Vllm, precision: str, bounds: tuple[float, float]
) -> None:
    run = Run(engine=engine, model=Model(precision=precision))  # type: ignore[arg-type]
    actor = parts.policy()
    probe = make_probe(run, LocalLearner(actor, grpo), [(5, 6)], streamed=False)
    assert (probe.mean, probe.most) == bounds
    answers = LocalEngine(parts.policy()).generate(probe.requests, probe.sampling)
    probe.check(answers)
    with torch.no_grad():
        next(iter(actor.weights().values())).mul_(-9.0)
    with pytest.raises(EngineError, match="same kind of device") as told:
        probe.check(answers)
    assert ("engine.mean_gap and engine.max_gap" in str(told.value)) is isinstance(engine, Vllm)
