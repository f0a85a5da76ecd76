"""What a run writes as its configuration is the same run when it is read."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from scoreline.config.compare.recipe import Comparison
from scoreline.config.dump import dump
from scoreline.config.export import Recorded, schema_of
from scoreline.config.load import ALGORITHMS, load
from scoreline.config.run import Run
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.environments.verify import boxed
from scoreline.errors import ObjectiveError
from scoreline.objectives.aggregates import FixedLength, SequenceMean, SequenceSum, TokenMean
from scoreline.objectives.divergences import KL, AdaptiveBeta, EntropyBonus
from scoreline.objectives.groups import GroupNorm, LeaveOneOut
from scoreline.objectives.objective import Objective, Resample
from scoreline.objectives.ratios import Clip, LogProb, TruncatedImportance
from scoreline.objectives.returns import GAE, ToGo, Total, Whiten
from scoreline.objectives.values import LambdaReturn, ValueLoss
from scoreline.rollout.engine import Sampling

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))

number = st.floats(0, 10)
share = st.floats(0, 1)
text = st.text(max_size=12).filter(lambda word: word != "none")
count = st.integers(1, 1000)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


credit = st.one_of(
    st.builds(GroupNorm, st.sampled_from(["sample", "population", "none"]), number),
    st.builds(ToGo, share),
    st.builds(GAE, share, share, st.booleans()),
    st.builds(Whiten, number),
    st.sampled_from([LeaveOneOut(), Total()]),
)
kl = st.builds(
    KL,
    number,
    st.sampled_from(["k1", "k2", "k3", "k3_unbiased"]),
    st.sampled_from(["reward", "loss"]),
    maybe(st.builds(AdaptiveBeta, number, count, share)),
)
sampled = st.builds(Sampling, count, share, share, count, st.lists(text, max_size=2).map(tuple))
value = st.builds(ValueLoss, number, maybe(number), st.builds(LambdaReturn, share, share, st.booleans()))
data = st.builds(
    Data,
    source=text,
    columns=st.dictionaries(text, text, max_size=3),
    template=maybe(text),
    chat=st.booleans(),
    held_out=st.one_of(st.none(), st.integers(0, 99), st.floats(0, 0.99)),
)
reward = st.builds(
    RewardSpec,
    text,
    st.floats(-5, 5),
    st.floats(0.1, 9),
    st.dictionaries(text, text | count | st.lists(count) | st.booleans(), max_size=2),
    st.floats(-5, 5),
)


@st.composite
def objectives(draw: st.DrawFn) -> Objective:
    try:
        return Objective(
            credit=tuple(draw(st.lists(credit, max_size=3))),
            surrogate=draw(st.builds(Clip, share, share, maybe(number)) | st.just(LogProb())),
            aggregate=draw(
                st.builds(FixedLength, maybe(count)) | st.sampled_from([TokenMean(), SequenceMean(), SequenceSum()])
            ),
            kl=draw(maybe(kl)),
            value=draw(maybe(value)),
            correction=draw(maybe(st.builds(TruncatedImportance, number))),
            entropy=draw(maybe(st.builds(EntropyBonus, number))),
            resample=draw(maybe(st.builds(Resample, count))),
        )
    except ObjectiveError:
        assume(False)
        raise


def read_back(run: Recorded, folder: Path) -> Recorded:
    file = folder / "config.resolved.toml"
    file.write_text(dump(run), encoding="utf-8")
    return load(type(run), [file])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(ALGORITHMS)), objectives(), data, sampled, st.lists(reward, max_size=2).map(tuple), text)
def test_any_run_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    algorithm: str,
    objective: Objective,
    data: Data,
    sampling: Sampling,
    reward: tuple[RewardSpec, ...],
    name: str,
) -> None:
    run = Run(name=name, algorithm=algorithm, objective=objective, data=data, sampling=sampling, reward=reward)
    assert read_back(run, tmp_path_factory.getbasetemp()) == run


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_comes_back(name: str, tmp_path: Path) -> None:
    run = Run(algorithm=name, objective=ALGORITHMS[name])
    assert read_back(run, tmp_path) == run


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_comes_back(path: Path, tmp_path: Path) -> None:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    run = load(Comparison if "arm" in tables else schema_of(tables), [path])
    assert read_back(run, tmp_path) == run


def test_everything_is_said() -> None:
    said = tomllib.loads(dump(Run(algorithm="naive", objective=ALGORITHMS["naive"])))
    assert said["objective"]["kl"] == "none"
    assert said["objective"]["surrogate"] == {"type": "LogProb"}
    assert said["train"]["steps"] == Run().train.steps


def test_another_algorithm_over_a_written_configuration_is_that_algorithm(tmp_path: Path) -> None:
    file = tmp_path / "config.resolved.toml"
    file.write_text(dump(Run()), encoding="utf-8")
    assert load(Run, [file], ["algorithm=ppo"]).objective == ALGORITHMS["ppo"]


def test_a_function_is_written_by_the_name_that_imports_it(tmp_path: Path) -> None:
    run = Run(reward=(RewardSpec(boxed), RewardSpec(lambda completions: [0.0 for _ in completions])))
    names = [spec["function"] for spec in tomllib.loads(dump(run))["reward"]]
    assert names == ["scoreline.environments.verify:boxed", "<lambda>"]


def test_infinity_comes_back(tmp_path: Path) -> None:
    run = replace(Run(), train=replace(Run().train, max_grad_norm=math.inf))
    assert read_back(run, tmp_path) == run
