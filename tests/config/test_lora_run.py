"""A run under an adapter, through every verb: train, resume, eval, sample, export, sft, and on from its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from scoreline.cli import app
from scoreline.config.judge import JudgeRun
from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run, SftRun
from scoreline.errors import ConfigError
from scoreline.models.adapters import Lora
from scoreline.models.loading import load_causal_lm

ROOT = Path(__file__).parents[2]
RECIPE = """
name = "small"
algorithm = "ppo"
reward = ["arithmetic_answer"]

[model]
device = "cpu"
lora = {rank = 4, alpha = 8, targets = ["q_proj", "v_proj"], rslora = true}

[sampling]
max_completion_length = 6

[train]
steps = 4
prompts_per_step = 2
num_generations = 2
learning_rate = 1e-2

[rounds]
count = 2

[reference]
mix = 0.6

[eval]
prompts = 4
k = 2

[checkpoint]
every = 3
keep = 9
"""


def scoreline(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    files = ["hf/adapter_model", "critic", "reference", "optimizer"]
    found = {file: load_file(checkpoint / f"{file}.safetensors") for file in files}
    return {f"{file}:{name}": tensor for file, named in found.items() for name, tensor in named.items()}


def test_the_table_is_read() -> None:
    run = load(Run, [], ["model.lora.rank=2", 'model.lora.targets=["q_proj", "v_proj"]', "model.lora.rslora=true"])
    assert run.model.lora == Lora(rank=2, targets=("q_proj", "v_proj"), rslora=True)
    assert load(Run, [], ["model.lora.rank=2", "model.lora=none"]).model.lora is None
    assert load(Run, [], ["model.lora.alpha=4"]).model.lora == Lora(alpha=4, targets="all-linear")
    for wrong in ("model.lora.dropout=0.1", "model.lora.targets=all", "model.lora.rank=0"):
        with pytest.raises(ConfigError, match=r"model\.lora\."):
            load(Run, [], [wrong])


def test_a_checkpoint_holds_the_adapter_alone(trained: Path) -> None:
    folder = trained / "checkpoints/step-000004/hf"
    assert not (folder / "model.safetensors").exists()
    base = AutoModelForCausalLM.from_pretrained(ROOT / "src/scoreline/models/tiny", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(folder))
    ids = AutoTokenizer.from_pretrained(folder)("3+8=", return_tensors="pt").input_ids
    assert model.generate(input_ids=ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]
    stored = load_file(folder / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for name, tensor in stored.items() if "lora_B" in name), "it learned"


def test_a_resumed_run_is_the_run_that_was_never_stopped(trained: Path, recipe: Path) -> None:
    again = recipe.parent / "runs" / "again"
    shutil.copytree(trained, again)
    shutil.rmtree(again / "checkpoints/step-000004")
    train(load(Run, [recipe], ["name=again"]), resume=True)
    whole, resumed = (tensors(run / "checkpoints/step-000004") for run in (trained, again))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("arguments", [[], ["model.lora=none"]])
def test_eval_and_sample_read_the_run(trained: Path, arguments: list[str]) -> None:
    scores = json.loads(scoreline("eval", trained, *arguments, "--json").stdout)
    last = [json.loads(line) for line in (trained / "evaluation.jsonl").read_text().splitlines()][-1]
    assert scores["avg@k"]["mean"] == last["avg@k"]["mean"]
    assert scores["mean_length"] == last["mean_length"]
    told = json.loads(scoreline("sample", trained, "3+8=", "-n", "2", "--json").stdout)
    assert len(told["answers"]) == 2


def test_an_adapter_is_given_away_as_it_is_or_merged(trained: Path, tmp_path: Path) -> None:
    said = scoreline("export", trained, "--to", tmp_path / "adapter").output
    assert "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(" in said
    assert "library_name: peft" in (tmp_path / "adapter/README.md").read_text(encoding="utf-8")
    said = scoreline("export", trained, "--to", tmp_path / "merged", "--merge").output
    assert "PeftModel" not in said
    assert "library_name: transformers" in (tmp_path / "merged/README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "merged/adapter_config.json").exists()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).state_dict()
    ours = load_causal_lm(str(tmp_path / "adapter")).state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in ours.items())
    base = load_causal_lm("tiny").state_dict()
    assert {name for name in base if not torch.equal(base[name], ours[name])} == {
        f"model.layers.{i}.self_attn.{part}.weight" for i in range(4) for part in ("q_proj", "v_proj")
    }


def test_the_folders_around_a_base_model_are_nobodys_business(recipe: Path, tmp_path: Path) -> None:
    scoreline("sft", ROOT / "recipes/laptop/make_tiny.toml", *small_sft(tmp_path, "base"))
    path = tmp_path / "base/hf"
    run = train(load(Run, [recipe], ["name=secret", "train.steps=2", f"model.path={path}", "eval.before=false"]))
    kept = json.loads((run / "checkpoints/step-000002/hf/adapter_config.json").read_text())
    assert kept["base_model_name_or_path"] == str(path)
    scoreline("export", run, "--to", tmp_path / "given")
    for file in ("adapter_config.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "given" / file).read_text(encoding="utf-8")


def small_sft(folder: Path, name: str, *more: str) -> list[str]:
    """Two steps of fine-tuning on the examples of the recipe that made the embedded model."""
    return [f"folder={folder}", f"name={name}", "model.device=cpu", "sft.steps=2", *more]


def test_fine_tuning_makes_an_adapter_that_reinforcement_goes_on_with(recipe: Path, tmp_path: Path) -> None:
    changes = ["model.path=tiny", "model.lora.rank=4", "model.lora.alpha=8", "model.lora.rslora=true"]
    targets = 'model.lora.targets=["q_proj", "v_proj"]'
    for name in ("tuned", "same"):
        scoreline("sft", ROOT / "recipes/laptop/make_tiny.toml", *small_sft(tmp_path, name, *changes, targets))
    tuned, same = (load_file(tmp_path / name / "hf/adapter_model.safetensors") for name in ("tuned", "same"))
    assert all(torch.equal(same[name], tensor) for name, tensor in tuned.items()), "the seed says where A begins"
    assert any(bool(tensor.any()) for name, tensor in tuned.items() if "lora_B" in name)
    more: list[Any] = ["name=on", "train.steps=2", "train.learning_rate=0", f"model.path={tmp_path / 'tuned/hf'}"]
    run = train(load(Run, [recipe], more))
    after = load_file(run / "checkpoints/step-000002/hf/adapter_model.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in tuned.items()), "it began where fine-tuning ended"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-6), "and so did its reference"


def test_a_judge_has_no_adapter() -> None:
    from scoreline.config.judge import open_learner

    run = load(JudgeRun, [ROOT / "recipes/laptop/reward_model.toml"], ["model.lora.rank=4"])
    with pytest.raises(ConfigError, match="A judge is trained whole"):
        open_learner(run)


def test_the_recipe_loads() -> None:
    run = load(Run, [ROOT / "recipes/laptop/grpo_lora.toml"])
    assert run.model.lora == Lora(rank=8, alpha=16)
    assert load(SftRun, [], ["model.lora.rank=4"]).model.lora == Lora(rank=4)
