"""Judges and step rewards in a run: what is refused before it starts, and what a small run leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scoreline.config.build import build, check_plan
from scoreline.config.launch import train
from scoreline.config.run import Checkpoint, Eval, Judge, Run
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.environments.steps import Splitter
from scoreline.errors import ConfigError, RewardError
from scoreline.models.heads import Kind
from scoreline.models.judges import make_judge
from scoreline.models.policy import Model
from scoreline.objectives.zoo import naive
from scoreline.rollout.engine import Sampling
from scoreline.train.iterate import Reference, Rounds
from scoreline.train.plan import Plan
from tests import parts

TRUTH = (RewardSpec("format_match", options={"pattern": "[0-4]"}),)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jury") / "model"
    parts.policy().save(folder)
    kinds: tuple[Kind, ...] = ("outcome", "process")
    for kind in kinds:
        make_judge(kind, str(folder), seed=1).save(folder / kind)
    return folder


def run(model: Path, folder: Path, **changes: Any) -> Run:
    plain = Run(
        name="jury",
        folder=str(folder),
        model=Model(path=str(model), device="cpu"),
        data=Data(size=40, held_out=6),
        steps=Splitter("pattern", at="[0-9]"),
        sampling=Sampling(max_completion_length=8),
        train=Plan(steps=2, prompts_per_step=4, num_generations=4, learning_rate=1e-3),
        eval=Eval(prompts=6, k=2, reward=TRUTH),
        checkpoint=Checkpoint(every=1, keep=9),
    )
    return replace(plain, **changes)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ASKED = (RewardSpec("judge"),)
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a judge that is not there": (r"there is no \[judge\]", {"reward": ASKED}),
    "a judge that is not asked": ("no reward asks it", {"reward": TRUTH, "judge": Judge("outcome")}),
    "a judge of answers for steps": ("does not fit", {"step_reward": ASKED, "judge": Judge("outcome")}),
    "a judge of steps for answers": ("does not fit", {"reward": ASKED, "judge": Judge("process")}),
    "an option that loads nothing": ("has no option", {"reward": (RewardSpec("outcome", options={"speed": 1}),)}),
    "a judge that nothing corrects": (
        "nothing checks them",
        {"reward": ASKED, "judge": Judge("outcome"), "rounds": Rounds(2), "eval": Eval(prompts=0)},
    ),
    "a step checker for a judge of answers": (
        "a step checker makes none",
        {
            "reward": ASKED,
            "judge": Judge("outcome", step_checker=(RewardSpec("arithmetic_steps"),)),
            "rounds": Rounds(2),
        },
    ),
    "steps without what is right": ("nothing says whether", {"step_reward": ASKED, "eval": Eval(prompts=6)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_first_step(model: Path, tmp_path: Path, case: str) -> None:
    message, changes = REFUSED[case]
    judge: Judge | None = changes.get("judge", Judge("process") if "step_reward" in changes else None)
    if judge is not None:
        changes = changes | {"judge": replace(judge, path=str(model / judge.path), device="cpu")}
    if "speed" in str(changes):
        changes = {"reward": (RewardSpec(str(model / "outcome"), options={"speed": 1}),)}
    with pytest.raises(ConfigError, match=message):
        build(run(model, tmp_path, **changes))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("equal length", {"rounds": Rounds(3), "train": Plan(steps=7)}),
        ("no reference", {"reference": Reference(every=2), "objective": naive, "algorithm": "naive"}),
    ],
)
def test_plans_that_do_not_add_up(tmp_path: Path, message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plan(run(tmp_path, tmp_path, reward=TRUTH, **changes))


def test_a_judge_of_steps_by_its_folder_pays_steps(model: Path, tmp_path: Path) -> None:
    spec = RewardSpec(str(model / "process"), weight=2.0, options={"batch_size": 3, "precision": "fp32"})
    folder = train(run(model, tmp_path, step_reward=(spec,)))
    metrics, evaluations = lines(folder / "metrics.jsonl"), lines(folder / "evaluation.jsonl")
    assert 0 < metrics[0]["step_reward"] < 2
    assert metrics[0]["steps/mean"] > 0
    assert 0 < evaluations[0]["judged"] < 2
    answers = lines(folder / "completions" / "step-000001.jsonl")
    cut = next(row for row in answers if row["steps"])
    assert set(cut["steps"][0]["parts"]) == {"process"}
    assert "".join(step["text"] for step in cut["steps"]) == cut["completion"]


def test_judge_and_checker_add_up_with_their_weights(model: Path, tmp_path: Path) -> None:
    built = build(run(model, tmp_path, reward=(*TRUTH, RewardSpec(str(model / "outcome"), weight=0.5))))
    try:
        gathered = built.parts.collector.collect(0)
        for rollout in gathered.rollouts:
            right, judged = rollout.reward.parts["format_match"], rollout.reward.parts["outcome"]
            assert right is not None
            assert judged is not None
            assert rollout.reward.total == pytest.approx(right + 0.5 * judged)
    finally:
        built.close()


def test_held_out_questions_without_a_column_are_refused_before_the_first_step(model: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+2=", "answer": "3"}\n', encoding="utf-8")
    (tmp_path / "test.jsonl").write_text('{"prompt": "2+2="}\n', encoding="utf-8")
    data = Data(source=str(tmp_path / "train.jsonl"), held_out_source=str(tmp_path / "test.jsonl"))
    rewards = (RewardSpec("arithmetic_answer"),)
    with pytest.raises(RewardError, match="held_out:0"):
        build(run(model, tmp_path, data=data, reward=rewards, eval=Eval(prompts=4)))


def test_the_judge_learns_between_rounds_and_its_old_words_are_forgotten(model: Path, tmp_path: Path) -> None:
    judge = Judge(str(model / "outcome"), device="cpu", prompts=16, num_generations=4, replay=0.4)
    folder = train(run(model, tmp_path, reward=ASKED, judge=judge, rounds=Rounds(2)))
    rounds = lines(folder / "rounds.jsonl")
    assert [row["round"] for row in rounds] == [1, 2]
    assert rounds[0]["metrics"]["judge/replayed"] == 0
    assert rounds[1]["metrics"]["judge/examples"] > 0
    weights = [
        load_file(folder / "checkpoints" / f"step-{step:06d}" / "judge" / "hf" / "model.safetensors") for step in (1, 2)
    ]
    before = load_file(model / "outcome" / "model.safetensors")
    assert not torch.equal(weights[0]["score.weight"], before["score.weight"])
    assert not torch.equal(weights[1]["score.weight"], weights[0]["score.weight"])
    assert len(lines(folder / "judged" / "0.jsonl")) >= 2
    tokens = [row["num_tokens"] for row in lines(folder / "metrics.jsonl")]
    assert tokens[1] - tokens[0] > rounds[0]["metrics"]["judge/tokens"] > 0


def test_a_fixed_judge_stays_as_it_is(model: Path, tmp_path: Path) -> None:
    judge = Judge(str(model / "outcome"), device="cpu", learn=False)
    folder = train(run(model, tmp_path, reward=ASKED, judge=judge, rounds=Rounds(2)))
    assert not (folder / "checkpoints" / "step-000002" / "judge").exists()
    assert (folder / "checkpoints" / "step-000002" / "reference.safetensors").exists()  # refreshed all the same


def test_a_round_without_a_usable_pair_warns_and_teaches_nothing(model: Path, tmp_path: Path) -> None:
    never = (RewardSpec("format_match", options={"pattern": "never"}),)
    judge = Judge(str(model / "outcome"), device="cpu", prompts=4, num_generations=2, checker=never)
    folder = train(run(model, tmp_path, reward=ASKED, judge=judge, rounds=Rounds(2)))
    assert "nothing to learn from" in (folder / "log.txt").read_text(encoding="utf-8")
    assert [row["metrics"]["judge/examples"] for row in lines(folder / "rounds.jsonl")] == [0, 0]
    last = load_file(folder / "checkpoints" / "step-000002" / "judge" / "hf" / "model.safetensors")
    before = load_file(model / "outcome" / "model.safetensors")
    assert all(torch.equal(last[name], before[name]) for name in before)


def test_supplied_pairs_are_shared_out_among_the_rounds(model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+1=", "chosen": f"#{i + 1}", "rejected": f"#{i}"} for i in range(20)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judge = Judge(str(model / "outcome"), device="cpu", data=Data(source=str(file)), held_out=0.0)
    folder = train(run(model, tmp_path, reward=ASKED, judge=judge, rounds=Rounds(2)))
    rounds = lines(folder / "rounds.jsonl")
    assert [row["metrics"]["judge/examples"] for row in rounds] == [10, 10]
    assert [row["metrics"]["judge/tokens"] for row in rounds] == [0, 0]
    assert rounds[1]["metrics"]["judge/replayed"] == 1
