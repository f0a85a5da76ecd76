"""Rates from runs, and runs against the model: metrics that follow a known law give its rates back."""

from __future__ import annotations

from pathlib import Path

import pytest
from lawful_runs import LAW, lawful
from scaling_model import Cluster
from scaling_runs import compared, fitted, measured, middle, prompt_tokens, read, runtime

import scoreline as sl
from scoreline.errors import ConfigError


def test_the_rates_that_made_the_metrics_come_back(tmp_path: Path) -> None:
    found = measured([read(lawful(tmp_path / str(n), n)) for n in (4, 16)])
    assert {name: getattr(found, name) for name in LAW} == pytest.approx(LAW, rel=1e-3)
    assert found.unit == pytest.approx(0, abs=1e-3)
    assert found.sources["learn"] == "measured: 4, 16"


def test_what_processes_cost_is_told_from_runs_with_processes(tmp_path: Path) -> None:
    local = [read(lawful(tmp_path / str(n), n)) for n in (4, 16)]
    one = read(lawful(tmp_path / "one", 8, learners=1, unit=2), cores=2)
    two = read(lawful(tmp_path / "two", 8, learners=2, unit=2), cores=2)
    found = measured([*local, one, two])
    assert found.call == pytest.approx(0.2)
    assert found.unit == pytest.approx(0.02, abs=2e-3)
    assert found.hop * found.collectives == pytest.approx(0.03, rel=0.05)
    row = compared(two, found)
    assert row["error"] == pytest.approx(0, abs=0.1), "what two learners exchange is in the model too"


def test_a_lawful_run_is_foretold(tmp_path: Path) -> None:
    found = measured([read(lawful(tmp_path / str(n), n)) for n in (4, 16)])
    row = compared(read(lawful(tmp_path / "new", 8)), found)
    assert row["error"] == pytest.approx(0, abs=0.02)
    assert row["shared"]
    assert (row["questions"], row["steps"]) == (8, 19)


def test_the_runtime_says_who_shares_the_cores() -> None:
    told = {"type": "ray", "learners": 2, "rollouts": 2, "max_staleness": 0, "unit": 4, "threads": "none"}
    assert runtime({}, 2) == Cluster(1, 1, shared=True)
    assert runtime({"runtime": {"type": "local", "unit": 4}}, 2) == Cluster(1, 1, shared=True, unit=4)
    assert runtime({"runtime": told}, 2) == Cluster(2, 2, unit=4, cores=2)
    assert runtime({"runtime": told | {"learners": 1, "rollouts": 1, "unit": "none"}}, 2) == Cluster(1, 1, cores=1)
    stale = runtime({"runtime": told | {"max_staleness": 1, "threads": 1}}, 2)
    assert (stale.overlap, stale.cores, stale.max_staleness) == (True, 2, 1)


def test_a_few_busy_seconds_change_no_rate() -> None:
    rows = [({"tokens": float(n)}, 0.1 * n + (5.0 if n % 7 == 0 else 0.0)) for n in range(1, 30)]
    assert fitted(rows, ("tokens",)) == pytest.approx((0.1,), rel=1e-3)
    assert middle([1.0] * 9 + [100.0]) == 1


def test_no_rate_is_negative() -> None:
    rows = [({"ones": 1.0, "tokens": float(n)}, 2.0 * n - 1) for n in range(1, 20)]
    ones, tokens = fitted(rows, ("ones", "tokens"))
    assert ones == 0
    assert tokens > 0


def test_a_real_run_is_read(tmp_path: Path) -> None:
    run = sl.Run(
        name="real",
        folder=str(tmp_path),
        model=sl.Model(path="tiny"),
        data=sl.Data(source="arithmetic"),
        reward=(sl.RewardSpec("arithmetic_answer"),),
        sampling=sl.Sampling(max_completion_length=8),
        train=sl.Plan(steps=3, prompts_per_step=2, num_generations=4, minibatches=2),
    )
    sl.launch(run)
    found = read(tmp_path / "real")
    assert (found.work.questions, found.work.answers, found.work.updates) == (2, 4, 2)
    assert 4 < found.work.prompt == prompt_tokens(tmp_path / "real") < 12
    assert found.cluster == Cluster(1, 1, shared=True)
    row = compared(found, measured([found]))
    assert row["real"] > 0
    assert row["model"] > 0


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to measure"):
        read(tmp_path)
    stale = lawful(tmp_path / "stale", 4, learners=1, unit=2, stale=1)
    with pytest.raises(ConfigError, match="one learner and one rollout worker"):
        measured([read(stale)])
