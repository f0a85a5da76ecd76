"""The comparisons of recipes/ladder: every arm loads, and every claim is about arms that are there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from scoreline.config.build import check_plan
from scoreline.config.load import load, resolve
from scoreline.config.probe import Probe, objective_of
from scoreline.config.recipe import Said
from scoreline.config.run import Run
from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.types import Prompt

LADDER = Path(__file__).parents[2] / "recipes" / "ladder"
FILES = sorted(LADDER.glob("*.toml"))


def told(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_arm_loads_and_every_claim_has_its_arms(file: Path) -> None:
    recipe = told(file)
    names = [arm["name"] for arm in recipe["arm"]]
    runs: list[Run] = []
    for arm in recipe["arm"]:
        files = [(LADDER / path).resolve() for path in (*recipe["recipe"], *arm.get("recipe", ()))]
        runs.append(load(Run, files, [*recipe["set"], *arm["set"]]))
        check_plan(runs[-1])
    assert len(set(map(repr, runs))) == len(set(names)) == len(names), "no arm is another one again"
    assert recipe["name"] == file.stem
    for claim in recipe["claim"]:
        assert {claim["arm"], claim["against"]} <= {*names, "start"}
        assert claim["expects"] in ("more", "less", "same")
        assert claim["expects"] != "same" or claim["margin"] > 0


@pytest.mark.parametrize("file", [f for f in FILES if "probe" in told(f)], ids=lambda file: file.stem)
def test_what_is_probed_can_be(file: Path, tmp_path: Path) -> None:
    probe: Probe = resolve(Probe, Probe(), [Said(told(file)["probe"], str(file))], "")
    (tmp_path / "config.resolved.toml").write_text('algorithm = "actor_critic"', encoding="utf-8")
    assert all(objective_of(tmp_path, line).credit for line in probe.line)


def test_the_judge_is_impressed_by_large_numbers_up_to_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LADDER.parents[1])
    with Scorer([RewardSpec("recipes/ladder/rewards.py:large_number")]) as scorer:
        prompts = [Prompt("train:0", "3+8+2=", {"answer": "13"})] * 3
        rewards = scorer.score(prompts, ["3+8=11;11+2=13#13", "#999", "13"], [(1,), (1,), (1,)])
    assert [reward.total for reward in rewards] == [13.0, 100.0, 0.0]
