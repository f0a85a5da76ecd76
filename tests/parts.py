"""Small real parts for tests: random models of several architectures, the embedded one untrained, a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from scoreline.models import tiny
from scoreline.models.device import Precision
from scoreline.models.policy import Policy
from scoreline.models.text import Text
from scoreline.types import Completion, Prompt, Reward, Rollout

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 24}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"intermediate_size": 64, "num_key_value_heads": 2},
    "qwen2": SMALL | {"intermediate_size": 64, "num_key_value_heads": 2},
    "qwen3": SMALL | {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8},
    "gemma": SMALL | {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8},
    "mistral": SMALL | {"intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": 6},
    "gemma2": SMALL
    | {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 5.0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 24, "n_positions": 64},
    "granite": SMALL | {"intermediate_size": 64, "num_key_value_heads": 2, "logits_scaling": 4.0},
}

RECIPE = """
name = "small"
reward = ["arithmetic_answer"]

[model]
path = "tiny:init"
device = "cpu"

[data]
level = 1

[sampling]
max_completion_length = 6

[train]
steps = 2
prompts_per_step = 2
num_generations = 2

[eval]
prompts = 4
k = 2
"""
"""The smallest run: an untrained model and two steps."""


def policy(architecture: str = "tiny", *, seed: int = 0, precision: Precision = "fp32", **changed: Any) -> Policy:
    """A policy with random weights that reads the embedded model's characters; `changed` is of its configuration."""
    fresh, tokenizer = tiny.build(seed)
    if architecture == "tiny":
        return Policy(fresh, Text(tokenizer, fresh.generation_config), torch.device("cpu"), precision)
    told = ARCHITECTURES[architecture] | changed
    config = AutoConfig.for_model(architecture, **told, pad_token_id=0, eos_token_id=1)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():  # random models are close to uniform; larger weights make them choose
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return Policy(model, Text(tokenizer, model.generation_config), torch.device("cpu"), precision)


def prompts(count: int) -> list[Prompt]:
    """Sums of different lengths."""
    return [Prompt(f"train:{i}", f"{i}+{i * i}=" if i % 2 else f"{i}+1+{i}=", {"answer": str(i)}) for i in range(count)]


def rollouts(actor: Policy, *, questions: int = 4, answers: int = 4, seed: int = 0, longest: int = 9) -> list[Rollout]:
    """Random answers of different lengths with random rewards, as if sampled."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = len(actor.text.tokenizer)
    made = []
    for group, prompt in enumerate(prompts(questions)):
        for _ in range(answers):
            n = int(torch.randint(1, longest + 1, (1,), generator=generator))
            ids = torch.randint(3, vocabulary, (n,), generator=generator).tolist()
            logps = (-torch.rand(n, generator=generator)).tolist()
            reward = Reward(float(torch.rand(1, generator=generator)), {})
            done = Completion(tuple(ids), tuple(logps), "length" if n == longest else "stop")
            made.append(Rollout(prompt, actor.text.encode(prompt), done, actor.text.decode(ids), reward, group))
    return made


def recipe(folder: Path, text: str = RECIPE) -> Path:
    """The file of a recipe, whose runs go into `runs` beside it."""
    file = folder / "small.toml"
    file.write_text(f'folder = "{(folder / "runs").as_posix()}"\n{text}', encoding="utf-8")
    return file


def shared() -> Path | None:
    """The folder with real questions and models beside a developer's checkout, where there is one."""
    folder = Path(__file__).parents[2] / "shared"
    return folder if folder.is_dir() else None
