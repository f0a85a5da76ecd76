"""What a recipe must not say: every message names the address, the place, what is accepted and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoreline.backends.runtime import Ray
from scoreline.backends.vllm import Vllm
from scoreline.config.build import check_plan
from scoreline.config.load import load
from scoreline.config.run import Run, SftRun
from scoreline.errors import ConfigError, ScorelineError
from scoreline.rollout.local import Local


def refusal(tmp_path: Path, text: str, *overrides: str, schema: type = Run) -> str:
    file = tmp_path / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScorelineError) as caught:
        load(schema, [file], overrides)
    return str(caught.value).replace(str(file), "recipe.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian = 3", ["Unknown key trian", "trian = 3, from recipe.toml", "did you mean 'train'?"]),
        ("[train]\nlearning_rat = 0.1", ["Unknown key train.learning_rat", "0.1", "did you mean 'learning_rate'?"]),
        ("steps = 3", ["steps is a table", "steps = 3, from recipe.toml", "did you mean 'train.steps'?"]),
        ("every = 3", ["did you mean 'reference.every' or 'eval.every' or 'checkpoint.every'?"]),
        ("[objective.kl]\nbta = 1.0", ["Unknown key objective.kl.bta", "did you mean 'beta'?"]),
        ("[objective.kl.adapt]\ntarge = 1.0", ["Unknown key objective.kl.adapt.targe", "did you mean 'target'?"]),
        ('[[reward]]\nfunction = "boxed"\nwieght = 1.0', ["Unknown key reward.0.wieght", "did you mean 'weight'?"]),
        ('[objective.aggregate]\ntype = "TokenMean"\nshare = 3', ["objective.aggregate.share", "takes no values"]),
        ('[objective.aggregate]\ntype = "TokenMean"\nlength = 3', ["objective.aggregate.length", "not for TokenMean"]),
        ("[runtime]\nlearners = 2", ["runtime.learners is not for Local", "set runtime.type=Ray too"]),
        ('algorithm = "grop"', ['algorithm = "grop", from recipe.toml', "did you mean 'grpo'?"]),
        ("algorithm = 3", ["Unknown algorithm", "one of: actor_critic"]),
        ('[objective.surrogate]\ntype = "Clop"', ["Unknown objective.surrogate.type", "Clip(low", "mean 'Clip'?"]),
        ('[objective]\ncredit = [{gamma = 1.0}]', ["objective.credit.0.type is missing", "GAE or GroupNorm"]),
        ("[[reward]]\nweight = 2", ["reward.0.function is missing", "recipe.toml", "a text"]),
        ("train = 3", ["train is a table", "train = 3, from recipe.toml", "steps, prompts_per_step"]),
        ('reward = "boxed"', ["reward is a list", 'reward = "boxed"', "a list, each item RewardSpec(function"]),
        ('[objective]\nkl = "KL"', ["objective.kl is a table", "beta, estimator, into, adapt"]),
        ('[train]\nsteps = "10"', ["train.steps does not take", 'train.steps = "10"', "accepted: a whole number"]),
        ("[train]\nsteps = 1.5", ["train.steps = 1.5", "a whole number"]),
        ("[train]\nsteps = true", ["train.steps = true", "a whole number"]),
        ("[train]\nlearning_rate = nan", ["train.learning_rate = NaN", "a number"]),
        ("[data]\nchat = 1", ["data.chat = 1", "true or false"]),
        ("[data]\nlimit = 1.5", ["data.limit = 1.5", 'a whole number or "none"']),
        ("[data.columns]\nquestion = 3", ["data.columns", "a table of texts"]),
        ("[model]\npath = 3", ["model.path = 3", "a text"]),
        ('[train]\nschedule = "cosin"', ['train.schedule = "cosin"', '"constant", "linear", "cosine"']),
        ("[train]\nnum_generations = 0", ["num_generations is too small", "at least 1"]),
        ("[[reward]]\nfunction = 3", ["reward.0.function = 3", "accepted: a text"]),
        ('[sampling]\nstop = [3]', ["sampling.stop.0 = 3", "a text"]),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_used(tmp_path: Path, text: str, said: list[str]) -> None:
    message = refusal(tmp_path, text)
    assert not [words for words in said if words not in message], message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stepz=3", ["Unknown key train.stepz", "train.stepz = 3, from the command line", "mean 'steps'?"]),
        ("train.steps=many", ['train.steps = "many", from the command line', "a whole number"]),
        ("algorithm=gppo", ["Unknown algorithm", "the command line", "did you mean 'ppo'?"]),
        ("train.steps", ["An override needs a value", "key=value"]),
        ("=3", ["Unknown key"]),
        ("seed=3\nname='x'", ["seed", "a whole number"]),
        ("objective.credit.2.std=none", ["objective.credit has no item 2", "0 to 1"]),
        ("objective.credit.first.std=none", ["objective.credit has no item first", "0 to 1"]),
        ("reward.0.weight=2", ["reward has no item 0", "a list for reward, which is empty"]),
        ("objective.kl.estimator=k1", ["KL estimator k1 in the loss carries no KL signal", "into='reward'"]),
        ('objective.credit=["GAE"]', ["GAE needs a critic", "add a value loss"]),
    ],
)
def test_an_override_that_cannot_be_used(tmp_path: Path, override: str, said: list[str]) -> None:
    message = refusal(tmp_path, "seed = 1", override)
    assert not [words for words in said if words not in message], message


def test_taking_the_critic_from_gae(tmp_path: Path) -> None:
    assert "GAE needs a critic" in refusal(tmp_path, 'algorithm = "ppo"', "objective.value=none")


def test_a_group_of_one_has_no_baseline() -> None:
    with pytest.raises(ConfigError, match="at least two answers") as caught:
        check_plan(load(Run, [], ["train.num_generations=1"]))
    assert "num_generations >= 2" in str(caught.value)


def test_fine_tuning_knows_no_algorithm(tmp_path: Path) -> None:
    assert "Unknown key algorithm" in refusal(tmp_path, 'algorithm = "grpo"', schema=SftRun)
    assert "sft.batch_size is too small" in refusal(tmp_path, "[sft]\nbatch_size = 0", schema=SftRun)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("max_staleness = -1", ["runtime.max_staleness is too small", "-1", "at least 0"]),
        ("tmeout = 1", ["Unknown key runtime.tmeout", "did you mean 'timeout'?"]),
        ("timeout = inf", ["runtime.timeout is a time", "inf"]),
        ("max_staleness = 1\nstale_correction = {cap = 0.0}", ["cap of an importance weight", "0.0"]),
        ("in_flight = true", ["where none may be stale", "runtime.max_staleness=0", "raise runtime.max_staleness"]),
    ],
)
def test_what_a_runtime_cannot_do(tmp_path: Path, runtime: str, said: list[str]) -> None:
    message = refusal(tmp_path, f'[runtime]\ntype = "ray"\n{runtime}\n')
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ('[runtime]\ntyp = "ray"', ["Unknown key runtime.typ", "did you mean 'type'?"]),
        ('[engine]\ntyp = "vllm"', ["Unknown key engine.typ", "did you mean 'type'?"]),
        ("[engine]\nmmeory = 0.3", ["Unknown key engine.mmeory", "did you mean 'memory'?"]),
        ("[engine]\nmemory = 0.3", ["engine.memory is not for Local", "set engine.type=Vllm too"]),
    ],
)
def test_a_typo_may_be_meant_for_another_kind(tmp_path: Path, recipe: str, said: list[str]) -> None:
    message = refusal(tmp_path, recipe)
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("engine", "runtime", "said"),
    [
        (Local(), Ray(at_once=2), "samples one unit at a time"),
        (Local(), Ray(transfer="stream"), "streamed into vLLM alone"),
        (Vllm(), Ray(max_staleness=1, in_flight=True, transfer="stream"), "waits until nobody samples"),
        (Vllm(probe_every=4), Ray(max_staleness=1, in_flight=True), "is not probed again"),
    ],
)
def test_what_workers_cannot_do(engine: Local | Vllm, runtime: Ray, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_plan(Run(engine=engine, runtime=runtime))


def test_what_workers_can_do() -> None:
    check_plan(Run(engine=Vllm(), runtime=Ray(max_staleness=1, in_flight=True, at_once=4)))
    check_plan(Run(engine=Local(), runtime=Ray(max_staleness=1, in_flight=True)))


def test_files(tmp_path: Path) -> None:
    def message(name: str, content: bytes | None) -> str:
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load(Run, [file])
        assert str(file) in str(caught.value)
        return str(caught.value)

    assert "The recipe is empty" in message("empty.toml", b"")
    assert "The recipe is empty" in message("comment.toml", b"# nothing yet\n")
    assert "not UTF-8" in message("latin.toml", b"seed = 1\nname = '\xe9'\n")
    assert "latin.toml, line 2" in message("latin.toml", None)
    assert "not TOML" in message("broken.toml", b"seed = 1\nname = \n")
    assert "line 2" in message("broken.toml", None)
    assert "line 3" in message("open.toml", b"seed = 1\n\nname = ")
    assert "line 2" in message("twice.toml", b"seed = 1\nseed = 2\n")
    missing = message("brokn.toml", None)
    assert "no such recipe" in missing
    assert "did you mean 'broken.toml'?" in missing
    (tmp_path / "folder.toml").mkdir()
    assert "cannot be read" in message("folder.toml", None)
