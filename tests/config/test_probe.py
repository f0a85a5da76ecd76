"""Probing a real run: what is measured, that it can be measured again, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scoreline.cli import app
from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.probe import Line, Probe, named, probe
from scoreline.config.run import Run
from scoreline.errors import CheckpointError, ConfigError
from scoreline.train.checkpoint import digest

RECIPE = """
name = "small"
algorithm = "actor_critic"
reward = [{function = "arithmetic_answer"}]

[model]
path = "tiny"
device = "cpu"

[data]
level = 1

[sampling]
max_completion_length = 10

[train]
steps = 3
prompts_per_step = 6
num_generations = 4
learning_rate = 1e-3

[eval]
prompts = 4
k = 2

[checkpoint]
every = 1
keep = 9
"""

GROUP = Line("group", ("algorithm=rloo", "objective.kl=none"))
NAIVE, CRITIC = named(["naive", "actor_critic"])
MARKS = Line("marks", ("algorithm=naive",), scale=30.0, shift=60.0)
TIMES100 = Line("times100", ("algorithm=naive",), scale=100.0)
LAG = Line("lag", ("algorithm=actor_critic",), critic="step-000001")


@pytest.fixture(scope="module")
def without_critic(recipe: Path) -> Path:
    return train(load(Run, [recipe], ["algorithm=naive", "name=naive", "train.steps=1"]))


@pytest.fixture(scope="module")
def facts(trained: Path) -> dict[str, Any]:
    return probe(trained, Probe(batches=8, line=(NAIVE, CRITIC, GROUP, MARKS, TIMES100, LAG)))


def test_the_facts_say_what_was_measured(facts: dict[str, Any]) -> None:
    assert (facts["checkpoint"], facts["step"], facts["batches"]) == ("step-000003", 3, 8)
    assert (facts["prompts"], facts["num_generations"], facts["skipped"]) == (6, 4, {})
    assert list(facts["noise"]) == ["naive", "actor_critic", "group", "marks", "times100", "lag"]
    assert all(noise["variance"] > 0 for noise in facts["noise"].values())


def test_marks_out_of_100_are_noisier_and_a_factor_changes_nothing(facts: dict[str, Any]) -> None:
    noise = facts["noise"]
    assert noise["marks"]["times"]["against"] == "naive"
    assert noise["marks"]["times"]["variance"]["low"] > 30**2, "the shift comes on top of the factor"
    assert noise["times100"]["ratio"] == pytest.approx(noise["naive"]["ratio"], rel=1e-3)
    assert noise["times100"]["times"]["variance"]["times"] == pytest.approx(1e4, rel=1e-3)
    assert "times" not in noise["naive"]


def test_a_critic_of_another_checkpoint_is_another_line(facts: dict[str, Any]) -> None:
    assert facts["noise"]["lag"]["variance"] != facts["noise"]["actor_critic"]["variance"]


def test_it_measures_the_same_again_and_touches_nothing(trained: Path, facts: dict[str, Any]) -> None:
    before = {path: digest(path) for path in trained.rglob("*") if path.is_file() and path.name != "probe.json"}
    assert probe(trained, Probe(batches=8, line=(NAIVE, CRITIC, GROUP, MARKS, TIMES100, LAG))) == facts
    assert {path: digest(path) for path in before} == before
    other = probe(trained, Probe(batches=8, seed=1, checkpoint="best"))
    assert (other["checkpoint"], other["seed"], facts["seed"]) == ("best", 1, 0)
    assert other["samples"] != facts["samples"]


def test_the_first_model_is_at_no_distance_from_itself(trained: Path, facts: dict[str, Any]) -> None:
    start = probe(trained, Probe(batches=4, prompts=2, checkpoint="start"))
    assert (start["step"], start["prompts"]) == (0, 2)
    assert start["kl"]["answer"] == pytest.approx(0.0, abs=1e-6)
    assert list(start["noise"]) == ["own"]
    assert facts["kl"]["answer"] > 0.0
    assert facts["kl"]["answer"] > facts["kl"]["token"]


def test_rewards_are_held_against_the_truth(facts: dict[str, Any]) -> None:
    samples = facts["samples"]
    assert samples["reward"] == pytest.approx(samples["accuracy"]), "what trains is what says right"
    assert samples["reward_orders"] == 1.0
    assert 1.0 <= samples["mean_length"] <= 10.0


def test_a_line_that_needs_a_critic_is_left_out_where_there_is_none(without_critic: Path, trained: Path) -> None:
    told = probe(without_critic, Probe(batches=4, prompts=2, line=(NAIVE, CRITIC)))
    assert list(told["noise"]) == ["naive"]
    assert told["skipped"] == {"actor_critic": "it needs a critic, and the run trained none"}
    given = Line("given", CRITIC.set, critic=str(trained / "checkpoints/step-000003"))
    assert list(probe(without_critic, Probe(batches=4, prompts=2, line=(given,)))["noise"]) == ["given"]


def test_a_group_of_one_has_no_group_baseline(recipe: Path) -> None:
    told = ["algorithm=naive", "name=single", "train.steps=1", "train.num_generations=1", "data.held_out=0"]
    facts = probe(train(load(Run, [recipe], told)), Probe(batches=4, line=(NAIVE, GROUP)))
    assert list(facts["skipped"]) == ["group"]
    assert set(facts["samples"]) == {"reward", "mean_length"}, "nothing says what is right"


def test_the_verb_prints_a_table_or_json(trained: Path) -> None:
    told = [str(trained), "--as", "naive", "--as", "actor_critic", "batches=4", "prompts=2"]
    text = CliRunner().invoke(app, ["probe", *told]).output
    assert "step-000003: 4 batches of 2 x 4 answers" in text
    assert [line.split()[0] for line in text.split("tr Cov(g)")[1].splitlines()[1:3]] == ["naive", "actor_critic"]
    said = CliRunner().invoke(app, ["probe", *told, "--json"]).stdout
    assert json.loads(said) == json.loads((trained / "probe.json").read_text())


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"batches": 3}, r"difference between batches[\s\S]*3 batches"),
        ({"prompts": 0}, r"a number of questions"),
        ({"line": (NAIVE, NAIVE)}, r"a name of its own[\s\S]*naive"),
        ({"line": ()}, r"a name of its own"),
    ],
)
def test_impossible_probes_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Probe(**told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"checkpoint": "step-000009"}, r"no such checkpoint[\s\S]*start, best, step-000001"),
        ({"line": (Line("x", CRITIC.set, critic="step-9"),)}, r"no such critic[\s\S]*step-000001"),
        ({"line": (Line("x", ("train.steps=5",)),)}, r"changes the objective alone[\s\S]*train.steps=5"),
        ({"line": (Line("x", ("algorithm=gpro",)),)}, r"Unknown algorithm[\s\S]*'grpo'"),
    ],
)
def test_what_the_run_has_not_is_said(trained: Path, told: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message):
        probe(trained, Probe(**told))


def test_folders_that_are_no_training_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a training run[\s\S]*no config.resolved.toml"):
        probe(tmp_path)
    (tmp_path / "config.resolved.toml").write_text("[sft]\nsteps = 1\n")
    with pytest.raises(CheckpointError, match=r"not a training run[\s\S]*another verb"):
        probe(tmp_path)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Unknown algorithm[\s\S]*'naive'"):
        named(["naiv"])
