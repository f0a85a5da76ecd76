"""Runs that cannot work say so before the first step, and lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scoreline.config.launch import train
from scoreline.config.run import Checkpoint, Eval, Model, Run
from scoreline.config.session import Interrupted
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.errors import (
    ConfigError,
    DataError,
    DivergenceError,
    ModelError,
    ObjectiveError,
    RewardError,
)
from scoreline.models.critic import CriticConfig
from scoreline.objectives.divergences import KL
from scoreline.objectives.zoo import ppo
from scoreline.rollout.engine import Sampling
from scoreline.train.learner import LocalLearner
from scoreline.train.plan import Plan
from tests import parts


@pytest.fixture
def small(tmp_path: Path) -> Run:
    """Two steps on the embedded architecture, untrained."""
    parts.policy().save(tmp_path / "model")
    return Run(
        name="small",
        folder=str(tmp_path / "runs"),
        model=Model(path=str(tmp_path / "model"), device="cpu"),
        data=Data(size=40, held_out=4),
        reward=(RewardSpec("arithmetic_answer"),),
        sampling=Sampling(max_completion_length=6),
        train=Plan(steps=2, prompts_per_step=2, num_generations=2, learning_rate=1e-3),
        eval=Eval(prompts=4, k=2),
        checkpoint=Checkpoint(every=1),
    )


def folder(run: Run) -> Path:
    return Path(run.folder) / run.name


def rewarded_by(run: Run, path: Path, body: str, **options: object) -> Run:
    path.write_text(f"def score(prompts, completions, **columns):\n    {body}\n", encoding="utf-8")
    return replace(run, reward=(RewardSpec(f"{path}:score", **options),))  # type: ignore[arg-type]


def test_a_group_of_one_with_a_group_baseline(small: Run) -> None:
    with pytest.raises(ConfigError, match=r"at least two answers[\s\S]*num_generations=1[\s\S]*to do"):
        train(replace(small, train=replace(small.train, num_generations=1)))
    assert not folder(small).exists()


def test_gae_without_a_critic() -> None:
    with pytest.raises(ObjectiveError, match=r"GAE needs a critic"):
        replace(ppo, value=None)


def test_k1_in_the_loss() -> None:
    with pytest.raises(ObjectiveError, match=r"k1 in the loss carries no KL signal"):
        replace(ppo, kl=KL(0.05, "k1", into="loss"))


def test_greedy_training(small: Run) -> None:
    with pytest.raises(ConfigError, match=r"temperature above 0"):
        train(replace(small, sampling=replace(small.sampling, temperature=0.0)))


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc", "..", ".hidden", "", "a\0b", "x" * 121])
def test_a_run_name_with_path_parts(small: Run, name: str) -> None:
    with pytest.raises(ConfigError, match=r"one plain folder name"):
        train(replace(small, name=name))


def test_a_run_that_exists_is_not_overwritten(small: Run) -> None:
    train(small)
    before = (folder(small) / "summary.json").read_text()
    with pytest.raises(ConfigError, match=r"A run of this name exists[\s\S]*--resume[\s\S]*--overwrite"):
        train(small)
    assert (folder(small) / "summary.json").read_text() == before
    train(replace(small, train=replace(small.train, steps=1)), overwrite=True)
    assert [path.name for path in (folder(small) / "checkpoints").glob("step-*")] == ["step-000001"]
    train(small, overwrite=True)
    assert len((folder(small) / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_finished_run_that_is_resumed_stays_as_it_is(small: Run) -> None:
    train(small)
    before = (folder(small) / "metrics.jsonl").read_text()
    train(small, resume=True)
    assert (folder(small) / "metrics.jsonl").read_text() == before


def test_a_prompt_longer_than_the_context(small: Run, tmp_path: Path) -> None:
    rows = [
        {"prompt": "1+1=", "answer": "2"},
        {"prompt": "1+" * 80 + "1=", "answer": "81"},
        {"prompt": "2+2=", "answer": "4"},
    ]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    long = replace(small, data=Data(source=str(tmp_path / "long.jsonl"), held_out=0))
    with pytest.raises(
        DataError, match=r"1 of 3 prompts leave no room[\s\S]*train:1 with 162 tokens[\s\S]*at most 122"
    ):
        train(long)
    for name, overlong in (("drop", "drop"), ("cut", "truncate")):
        train(replace(long, name=name, overlong=overlong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise KeyError('boom')", r"score[\s\S]*KeyError[\s\S]*boom"),
        ("return [1.0]", r"score[\s\S]*1[\s\S]*(4|8)"),
        ("return [float('nan')] * len(prompts)", r"score[\s\S]*nan"),
        ("return [float('inf')] * len(prompts)", r"score[\s\S]*inf"),
        ("return ['good'] * len(prompts)", r"score[\s\S]*good"),
    ],
)
def test_a_reward_that_misbehaves_is_named(small: Run, tmp_path: Path, body: str, told: str) -> None:
    with pytest.raises(RewardError, match=told):
        train(rewarded_by(small, tmp_path / "reward.py", body))


def test_a_reward_that_fails_later_loses_no_step(small: Run, tmp_path: Path) -> None:
    body = """
import pathlib
def score(prompts, completions, **columns):
    count = pathlib.Path(__file__).with_name("count")
    count.write_text(count.read_text() + "x" if count.exists() else "x")
    return [len(c) / 8 if len(count.read_text()) < 5 else float("nan") for c in completions]
"""
    (tmp_path / "later.py").write_text(body, encoding="utf-8")
    run = replace(small, reward=(RewardSpec(f"{tmp_path}/later.py:score"),), checkpoint=Checkpoint(every=0, best=None))
    with pytest.raises(RewardError, match=r"score[\s\S]*nan"):
        train(replace(run, train=replace(run.train, steps=9)))
    kept = [path.name for path in (folder(run) / "checkpoints").glob("step-*")]
    assert kept == ["step-000002"], "two evaluations and two steps were scored"


def test_a_reward_that_hangs_is_killed(small: Run, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"score[\s\S]*1(\.0)? s"):
        train(rewarded_by(small, tmp_path / "reward.py", "import time; time.sleep(600)", timeout_s=1.0))


def test_a_column_that_the_reward_wants_and_the_data_lack(small: Run, tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text("def score(prompts, completions, solution):\n    return [0.0]\n")
    with pytest.raises(RewardError, match=r"solution[\s\S]*answer"):
        train(replace(small, reward=(RewardSpec(f"{tmp_path}/reward.py:score"),)))
    assert not folder(small).exists(), "before anything is written"


def test_a_pickled_model_is_refused(small: Run) -> None:
    weights = Path(small.model.path) / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match=r"(?i)pickle"):
        train(small)


def test_a_non_finite_gradient_stops_after_a_bound(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    backward = LocalLearner._backward
    calls = 0

    def poisoned(self: LocalLearner, *args: object) -> object:
        nonlocal calls
        calls += 1
        facts = backward(self, *args)  # type: ignore[arg-type]
        if calls > 1:
            for parameter in self.policy.model.parameters():
                parameter.grad.fill_(float("nan"))
        return facts

    monkeypatch.setattr(LocalLearner, "_backward", poisoned)
    run = replace(small, train=replace(small.train, steps=9, max_bad_updates=3))
    with pytest.raises(DivergenceError, match=r"not finite in 3 updates in a row"):
        train(run)
    kept = [path.name for path in (folder(run) / "checkpoints").glob("step-*")]
    assert "step-000003" in kept
    rows = [json.loads(line) for line in (folder(run) / "metrics.jsonl").read_text().splitlines()]
    assert [row["skipped_updates"] for row in rows] == [0, 1, 1]


STOPPED = """
import os, signal, sys
from pathlib import Path
sys.argv = ["victim.py", sys.argv[1], sys.argv[2], "grpo", sys.argv[3]]
sys.path.insert(0, "tests/faults")
import victim
from scoreline.config import launch
from scoreline.config.session import Interrupted
from scoreline.train.learner import LocalLearner
original, calls = LocalLearner.update, 0
def update(self, *args):
    global calls
    calls += 1
    if calls == 5:
        os.kill(os.getpid(), getattr(signal, sys.argv[4]))
    return original(self, *args)
LocalLearner.update = update
try:
    launch.train(victim.run(sys.argv[1], Path(sys.argv[2]), "grpo"))
except Interrupted as error:
    print(error, error.code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals as Unix does")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stop_signal_writes_a_checkpoint_and_ends_cleanly(small: Run, tmp_path: Path, name: str, code: int) -> None:
    """The signal comes in the middle of step 3, which has no checkpoint due."""
    told = [sys.executable, "-c", STOPPED, small.model.path, str(tmp_path / "told"), name]
    out = subprocess.run(told, cwd=Path(__file__).parents[2], capture_output=True, text=True, env=dict(os.environ))
    assert f"after step 3; a checkpoint is in {tmp_path}/told/victim" in out.stdout, out.stderr
    assert str(code) in out.stdout.splitlines()[-1]
    assert (tmp_path / "told/victim/checkpoints/step-000003/manifest.json").exists()


def test_an_interruption_is_an_error_with_an_exit_code() -> None:
    assert Interrupted("stopped").code == 128 + signal.SIGINT


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the kernel's table of sockets")
def test_a_run_opens_no_port(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("a run listened on a port")

    monkeypatch.setattr(socket.socket, "listen", refused)
    train(small)


def test_a_context_that_ends_before_an_answer_may(small: Run) -> None:
    """The embedded architecture has 128 tokens."""
    cut = replace(small, sampling=replace(small.sampling, max_completion_length=128))
    with pytest.raises(ConfigError, match=r"no room for a prompt[\s\S]*a context of 128 tokens[\s\S]*below 128"):
        train(cut)
    assert not folder(small).exists()


def test_a_prompt_that_leaves_no_room_in_the_context(small: Run) -> None:
    tight = replace(small, sampling=replace(small.sampling, max_completion_length=125))
    with pytest.raises(DataError, match=r"leave no room[\s\S]*at most 3 tokens[\s\S]*overlong='drop'"):
        train(tight)


def test_shifted_rewards_do_not_say_what_is_right(small: Run) -> None:
    marks = (RewardSpec("arithmetic_answer", weight=30.0, offset=60.0),)
    with pytest.raises(ConfigError, match=r"rewards are shifted[\s\S]*offset = 60[\s\S]*eval.right_at = 1"):
        train(replace(small, reward=marks))
    assert not folder(small).exists()
    train(replace(small, reward=marks, eval=replace(small.eval, reward=(RewardSpec("arithmetic_answer"),))))
    [step, *_] = map(json.loads, (folder(small) / "metrics.jsonl").read_text().splitlines())
    assert 60.0 <= step["reward"] <= 90.0
    assert step["rewards/arithmetic_answer/mean"] <= 1.0


def test_a_critic_that_is_not_there_cannot_be_frozen(small: Run) -> None:
    with pytest.raises(ConfigError, match=r"no critic to freeze[\s\S]*critic.freeze_after=1"):
        train(replace(small, critic=CriticConfig(freeze_after=1)))


@pytest.mark.parametrize("wrong", [{"freeze_after": 0}, {"freeze_after": 2, "warmup_steps": 3}])
def test_a_critic_is_frozen_after_it_learned(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"learns before, and through its warm-up"):
        CriticConfig(**wrong)  # type: ignore[arg-type]
