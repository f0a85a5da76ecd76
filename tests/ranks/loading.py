"""What the ranks of a gang hold when their models are made: each scene is a folder, and models of one kind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from scoreline.config.cluster import make_rank
from scoreline.config.run import Run, completed
from scoreline.errors import ScorelineError
from scoreline.models.adapters import Lora
from scoreline.models.critic import CriticConfig
from scoreline.models.policy import Model, Policy, load_policy
from scoreline.objectives.zoo import ZOO, grpo, ppo
from scoreline.train.learner import LocalLearner
from scoreline.train.ranks import Ranks
from tests import parts
from tests.ranks.learning import TIED, keep, mixture


@dataclass(frozen=True)
class Folders:
    """Which folder a scene's models come from, and what is made of them."""

    model: str
    run: Run
    critic: str | None = None


GRPO, PPO, SHARED = (Run(objective=objective) for objective in (grpo, ppo, ZOO["actor_critic"]))
ADAPTED = replace(GRPO, model=Model(lora=Lora(rank=2)))
FAILING = {
    "nothing to read": ["bare/tied", "bare/tied"],
    "nothing on rank 1": ["tied", "nowhere/at/all"],
    "another model on rank 1": ["tied", "bare/untied"],
    "other sizes on rank 1": ["tied", "bare/large"],
}
"""The folder of each rank."""
OTHERWISE: dict[str, tuple[Run, str, dict[str, Any]]] = {
    "rope_parameters.rope_theta": (GRPO, "model", {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}),
    "rms_norm_eps": (ADAPTED, "model", {"rms_norm_eps": 0.01}),
    "critic: hidden_act": (PPO, "critic", {"hidden_act": "gelu"}),
}
"""What differs on rank 1 alone, of which no shape depends: a run, which of its models, and what is written there."""
SCENES: dict[str, Folders] = {
    "tied, with a reference": Folders("tied", GRPO),
    "untied, with a critic": Folders("untied", PPO),
    "a head on the policy's trunk": Folders("tied", replace(SHARED, critic=CriticConfig(kind="shared"))),
    "a critic of its own": Folders("untied", PPO, critic="tied"),
    "bf16": Folders("tied", replace(PPO, model=Model(precision="bf16"))),
    "padded": Folders("windowed", GRPO),
    "conv1d": Folders("gpt2", GRPO),
    "experts": Folders("mixture", GRPO),
    "tied by the configuration alone": Folders("torn", GRPO),
    "an adapter, merged": Folders("adapter", GRPO),
    "fresh": Folders("tiny:init", GRPO),
}
SAVED = ("experts", "tied by the configuration alone", "tied, with a reference")
"""Scenes whose folder is written again."""


def write_folders(place: Path) -> None:
    """The models of all scenes; beside each folder the same one without weights."""
    made: dict[str, Callable[[], Policy]] = {
        "tied": lambda: parts.policy("llama", **TIED),
        "untied": lambda: parts.policy("qwen2", seed=1),
        "windowed": lambda: parts.policy("mistral"),
        "gpt2": lambda: parts.policy("gpt2"),
        "mixture": mixture,
        "torn": lambda: parts.policy("llama", **TIED),
        "large": lambda: parts.policy("llama", hidden_size=256, vocab_size=48_000, intermediate_size=512),
    }
    for name, make in made.items():
        make().save(place / name)
    tear(place / "torn" / "model.safetensors")
    write_adapter(place)
    for number, (_, _, told) in enumerate(OTHERWISE.values()):
        shutil.copytree(place / "tied", place / f"otherwise-{number}")
        file = place / f"otherwise-{number}/config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | told))
    for name in (*made, "adapter"):
        shutil.copytree(place / name, place / "bare" / name, ignore=shutil.ignore_patterns("*.safetensors"))


def tear(file: Path) -> None:
    """A head that the configuration ties to the embedding has other weights in the file."""
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1.0
    save_file(tensors, file, metadata={"format": "pt"})


def write_adapter(place: Path) -> None:
    """An adapter that learned something, on the untied model."""
    policy = load_policy(Model(path=str(place / "untied"), device="cpu", lora=Lora(rank=2, alpha=4)))
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in policy.weights().values():
            weight.normal_()
    policy.save(place / "adapter")


def run_of(scene: Folders, ranks: Ranks, place: Path) -> Run:
    """Rank 0 has folders with weights; the others have folders without."""
    own = place if ranks.rank == 0 else place / "bare"

    def path(name: str) -> str:
        return name if name.startswith("tiny") else str(own / name)

    model = replace(scene.run.model, path=path(scene.model), device="cpu")
    critic = scene.run.critic if scene.critic is None else CriticConfig(path=path(scene.critic))
    return replace(scene.run, model=model, critic=critic)


def made(scene: Folders, ranks: Ranks, place: Path) -> LocalLearner:
    """The learner, as a cluster's process makes it."""
    torch.manual_seed(ranks.rank)
    run = run_of(scene, ranks, place)
    return make_rank(run, completed(run), ranks)


def loaded(name: str, ranks: Ranks, place: Path) -> dict[str, Any]:
    """All weights of a scene into a file; what else this rank has."""
    learner = made(SCENES[name], ranks, place)
    keep(learner, place / f"{name}-{ranks.world}.safetensors")
    if name in SAVED:
        learner.save(place / f"{name} of {ranks.world}")
    models = [m for m in (learner.policy.model, learner.reference and learner.reference.model, learner.critic) if m]
    return {
        "rows": sum(ranks.local(weight).numel() for model in models for weight in model.parameters()),
        "tied": len(list(models[0].named_parameters(remove_duplicate=False))) - len(list(models[0].parameters())),
        "buffers": [[key, buffer.flatten().tolist()] for model in models for key, buffer in model.named_buffers()],
        "packs": [learner.policy.packs, learner.critic.packs if learner.critic else None],
        "layers": [kind(module) for model in models for module in model.modules()],
        "eos": learner.policy.text.tokenizer.eos_token_id,
    }


def kind(module: nn.Module) -> str:
    """The class of a module, as it was before it lay in rows."""
    return type(module).__name__.removeprefix("FSDP")


def said(ranks: Ranks, place: Path, folders: list[str]) -> list[str]:
    """The error of making models of one folder a rank."""
    return failed(ranks, replace(GRPO, model=Model(path=str(place / folders[ranks.rank]), device="cpu")))


def said_otherwise(ranks: Ranks, place: Path, name: str) -> list[str]:
    """The error of making models of which one has another configuration on rank 1."""
    run, which, _ = OTHERWISE[name]
    paths = dict.fromkeys(("model", "critic"), str(place / "tied"))
    if ranks.rank == 1:
        paths[which] = str(place / f"otherwise-{list(OTHERWISE).index(name)}")
    model = replace(run.model, path=paths["model"], device="cpu")
    return failed(ranks, replace(run, model=model, critic=CriticConfig(path=paths["critic"])))


def failed(ranks: Ranks, run: Run) -> list[str]:
    """The error of making the models of a run."""
    try:
        make_rank(run, completed(run), ranks)
    except ScorelineError as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]


def unforeseen(ranks: Ranks) -> str:
    """What is said of an error that is nobody's in particular, on rank 1 alone."""
    try:
        with ranks.making():
            if ranks.rank == 1:
                raise ZeroDivisionError("by chance")
    except (ScorelineError, ZeroDivisionError) as error:
        return str(error)
    return "nothing"


def strangers(ranks: Ranks) -> list[float]:
    """Each rank made its models whole, for itself, with other numbers: whose weights do they have in the end?"""
    policy = parts.policy("llama", seed=ranks.rank)
    ranks.shard([policy.model])
    first = ranks.whole(next(iter(policy.weights().values())).detach())
    return [float(first.sum()), *(float(next(parts.policy("llama", seed=i).model.parameters()).sum()) for i in (0, 1))]


def peak() -> int:
    """The most bytes that this process ever had in memory."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def growth(ranks: Ranks, place: Path) -> int:
    """By how much its peak grows while the models are made."""
    naive = Run(objective=ZOO["naive"])
    for name in ("tied", "large"):  # the first one brings in all code
        before = peak()
        learner = made(Folders(name, naive), ranks, place)
        ranks.most(0)
    assert learner.parameters * 4 > 100_000_000
    return peak() - before
