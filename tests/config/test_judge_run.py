"""The verb that trains a judge: what it leaves, and what it refuses before it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scoreline.config.dump import dump
from scoreline.config.judge import JudgeRun, train_judge
from scoreline.config.load import load
from scoreline.environments.prompts import Data
from scoreline.errors import ConfigError, DataError, ModelError
from scoreline.models.judges import load_judge
from scoreline.models.policy import Model
from scoreline.train.judging import JudgeFit

RECIPES = Path(__file__).parents[2] / "recipes"
PAIRS = [{"prompt": f"{a}+{a}=", "chosen": f"#{2 * a}", "rejected": f"#{b}#"} for a in range(20) for b in range(2)]
STEPS = [{"prompt": f"{a}+{a}=", "completions": [f"{a}+{a}={2 * a};", "#3"], "labels": [1, 0.25]} for a in range(20)]


def recipe(folder: Path, kind: str, rows: list[dict[str, Any]]) -> JudgeRun:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return JudgeRun(
        name="judge",
        folder=str(folder / "runs"),
        kind=kind,  # type: ignore[arg-type]
        model=Model("tiny", device="cpu"),
        data=Data(str(folder / "rows.jsonl"), held_out=0.2),
        fit=JudgeFit(steps=3, batch_size=8, learning_rate=1e-3),
    )


@pytest.fixture
def pairs(tmp_path: Path) -> JudgeRun:
    return recipe(tmp_path, "outcome", PAIRS)


@pytest.fixture
def steps(tmp_path: Path) -> JudgeRun:
    return recipe(tmp_path, "process", STEPS)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_leaves_a_judge_and_what_it_measured(pairs: JudgeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_judge(pairs)
    judge = load_judge(str(folder / "hf"), device="cpu")
    assert judge.kind == "outcome"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["steps"], summary["rows"], summary["held_out"]) == (3, 32, 8)
    before, after = summary["eval"]["before"], summary["eval"]["after"]
    assert before.keys() == after.keys() == {"loss", "accuracy", "margin", "calibration_error"}
    assert before != after
    metrics = rows(folder)
    assert [row["step"] for row in metrics] == [0, 1, 2, 3]
    assert metrics[0]["held_out/loss"] == before["loss"]
    assert metrics[3]["held_out/loss"] == after["loss"]
    assert "loss" in metrics[1]
    assert "held_out/loss" not in metrics[1]
    said = capsys.readouterr().out
    assert "32 pairs of 16 prompts to train on, 8 of 4 held out" in said
    assert f"held-out before training  loss {before['loss']:.3f}  accuracy" in said
    assert "held-out after training" in said
    assert load(JudgeRun, [folder / "config.resolved.toml"]) == pairs
    assert json.loads((folder / "environment.json").read_text(encoding="utf-8"))["device"].startswith("cpu")


def test_the_accuracies_are_those_of_the_judge_that_is_left(pairs: JudgeRun) -> None:
    folder = train_judge(pairs)
    after = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["eval"]["after"]
    trained = {row["prompt"] for row in PAIRS} - held_out(pairs)
    assert len(trained) == 16
    judge = load_judge(str(folder / "hf"), device="cpu")
    held = [row for row in PAIRS if row["prompt"] in held_out(pairs)]
    chosen = judge([row["prompt"] for row in held], [row["chosen"] for row in held])
    rejected = judge([row["prompt"] for row in held], [row["rejected"] for row in held])
    margins = [float(c) - float(r) for c, r in zip(chosen, rejected, strict=True)]  # type: ignore[arg-type]
    assert sum(margins) / len(margins) == pytest.approx(after["margin"], abs=1e-6)


def held_out(run: JudgeRun) -> set[Any]:
    from scoreline.config.judge import load_rows

    return {row.prompt.content for row in load_rows(run)[1]}


def test_a_process_judge(steps: JudgeRun) -> None:
    folder = train_judge(steps)
    assert load_judge(str(folder / "hf")).kind == "process"
    after = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["eval"]["after"]
    assert after.keys() == {"loss", "accuracy", "calibration_error", "majority"}
    assert after["majority"] == 0.5


def test_the_same_recipe_makes_the_same_judge(pairs: JudgeRun) -> None:
    one, same = train_judge(pairs), train_judge(replace(pairs, name="again"))
    assert (one / "hf/model.safetensors").read_bytes() == (same / "hf/model.safetensors").read_bytes()


def test_a_judge_goes_on_learning(pairs: JudgeRun) -> None:
    folder = train_judge(pairs)
    further = replace(pairs, name="further", model=replace(pairs.model, path=str(folder)))
    first, second = (json.loads((f / "summary.json").read_text())["eval"] for f in (folder, train_judge(further)))
    assert second["before"] == pytest.approx(first["after"])


def test_nothing_held_out_measures_nothing(pairs: JudgeRun) -> None:
    folder = train_judge(replace(pairs, data=replace(pairs.data, held_out=0)))
    assert json.loads((folder / "summary.json").read_text())["eval"] == {"before": None, "after": None}
    assert rows(folder)[0] == {"step": 0}


def test_less_memory_and_precision(pairs: JudgeRun) -> None:
    model = replace(pairs.model, precision="bf16", gradient_checkpointing=True)
    folder = train_judge(replace(pairs, model=model))
    weights = load_judge(str(folder / "hf"), device="cpu").model.score.weight
    assert weights.dtype == torch.float32


def test_a_run_is_not_lost(pairs: JudgeRun) -> None:
    train_judge(pairs)
    with pytest.raises(ConfigError, match="A run of this name exists"):
        train_judge(pairs)
    folder = train_judge(replace(pairs, fit=replace(pairs.fit, steps=1)), overwrite=True)
    assert [row["step"] for row in rows(folder)] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "change", "error", "message"),
    [
        ("outcome", {"data": {"held_out": 40}}, DataError, r"Nothing would be left[\s\S]*40 of 40 rows"),
        ("process", {}, DataError, r"no `completions` column[\s\S]*columns prompt, chosen, rejected"),
        ("outcome", {"fit": {"max_length": 6}}, DataError, r"train:\d+ is too long[\s\S]*at most 6"),
        ("outcome", {"model": {"path": "no/such/folder"}}, ModelError, r"model folder is missing"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(
    pairs: JudgeRun, kind: Any, change: dict[str, dict[str, Any]], error: type[Exception], message: str
) -> None:
    run = replace(pairs, kind=kind, **{name: replace(getattr(pairs, name), **new) for name, new in change.items()})
    with pytest.raises(error, match=message):
        train_judge(run)
    assert not Path(run.folder).exists()


@pytest.mark.parametrize("name", ["reward_model", "process_reward_model"])
@pytest.mark.parametrize("where", ["laptop", "gpu"])
def test_recipes_say_what_can_be(where: str, name: str) -> None:
    run = load(JudgeRun, [RECIPES / where / f"{name}.toml"])
    assert run.kind == ("process" if name.startswith("process") else "outcome")
    assert run.data.source.endswith("steps.jsonl" if run.kind == "process" else "pairs.jsonl")
    assert run.fit.warmup < (run.fit.steps or 1 << 30)


def test_what_is_dumped_is_a_recipe(steps: JudgeRun, tmp_path: Path) -> None:
    told = replace(steps, separator="\n", seed=3)
    (tmp_path / "run.toml").write_text(dump(told), encoding="utf-8")
    assert load(JudgeRun, [tmp_path / "run.toml"]) == told
