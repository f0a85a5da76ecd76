"""The same updates at any number of ranks: each scene trains a small real learner on rows that all ranks know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from scoreline.models.adapters import Lora
from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.device import Precision
from scoreline.models.policy import Model, Policy, load_policy, recompute_activations
from scoreline.objectives.divergences import EntropyBonus
from scoreline.objectives.objective import Objective
from scoreline.objectives.zoo import ZOO, grpo, ppo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.ranks import Ranks, SumPrecision
from scoreline.types import Batch, Metrics
from tests import parts

COLUMNS = ("logp_old", "logp_ref", "values", "value_end")
TIED: dict[str, Any] = {"tie_word_embeddings": True}


@dataclass(frozen=True)
class Scene:
    """An objective, a model and rows; and what each update is told."""

    objective: Objective
    kind: str = "separate"
    make: Callable[[], Policy] = lambda: parts.policy("llama", **TIED)
    questions: int = 3
    answers: int = 4
    micro: Any = 64
    rate: float = 1e-3
    told: Sequence[Update] = (Update(),) * 4
    mix: float | None = None
    """How far the reference follows after the first update."""
    lora: Lora | None = None
    sums: SumPrecision = "fp32"


def recomputed() -> Policy:
    policy = parts.policy("llama", **TIED)
    recompute_activations(policy.model)
    return policy


def entangled() -> Policy:
    """Two layers with one feed-forward part: they cannot be gathered one by one."""
    policy = parts.policy("llama")
    layers = policy.model.base_model.layers
    layers[1].mlp = layers[0].mlp
    return policy


def lowered() -> Policy:
    precision: Precision = "bf16"
    return parts.policy("llama", precision=precision, **TIED)


def mixture() -> Policy:
    """Experts whose weights are one tensor in memory and many in a folder."""
    sizes = parts.ARCHITECTURES["qwen3"] | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    config = AutoConfig.for_model("qwen3_moe", **sizes, pad_token_id=0, eos_token_id=1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return Policy(model, parts.policy().text, torch.device("cpu"))


HELD = (Update(), Update(hold_policy=True), Update(hold_critic=True), Update(lr_factor=0.5))
SCENES: dict[str, Scene] = {
    "grpo": Scene(grpo, mix=0.5),
    "ppo": Scene(ppo, told=HELD),
    "actor_critic": Scene(ZOO["actor_critic"], kind="shared", told=HELD),
    "five rows one by one": Scene(grpo, questions=1, answers=5, micro=1),
    "one row": Scene(ZOO["actor_critic"], questions=1, answers=1),
    "padded": Scene(ppo, make=lambda: parts.policy("mistral"), micro=3),
    "recomputed": Scene(replace(grpo, entropy=EntropyBonus(0.1)), make=recomputed, micro=20),
    "entangled": Scene(ZOO["ppo_clip"], make=entangled, told=(Update(),) * 2),
    "mixture": Scene(ZOO["naive"], make=mixture, questions=2, answers=2),
    "bf16": Scene(ppo, make=lowered, micro=5, rate=1e-5),
    "exact": Scene(grpo, micro=2, mix=0.5, sums="fp64"),
    "exact, shared": Scene(ZOO["actor_critic"], kind="shared", told=HELD, micro=2, sums="fp64"),
    "exact, bf16": Scene(ppo, make=lowered, micro=2, sums="fp64"),
}
MORE = ("ppo", "actor_critic", "five rows one by one", "one row", "exact", "exact, shared")
"""Scenes that three ranks play too."""
SAVED = ("ppo", "grpo", "mixture")
"""Scenes with a checkpoint half-way."""


def learner(scene: Scene, ranks: Ranks, base: Path | None = None, **more: Any) -> LocalLearner:
    torch.manual_seed(0)
    adapted, kind = scene.lora is not None, cast(Any, scene.kind)
    with nullcontext() if adapted else ranks.making():
        policy = load_policy(Model(path=str(base), device="cpu", lora=scene.lora)) if adapted else scene.make()
        critic = make_critic(CriticConfig(kind=kind), policy, lora=scene.lora) if scene.objective.value else None
        reference = policy.frozen() if scene.objective.kl else None
    settings = {
        "learning_rate": scene.rate,
        "critic_learning_rate": 10 * scene.rate,
        "micro_batch_size": scene.micro,
        "gradient_sums": scene.sums,
    } | more
    return LocalLearner(policy, scene.objective, reference=reference, critic=critic, ranks=ranks, **settings)


def rows_of(ranks: Ranks, count: int) -> Tensor:
    """This rank's rows of so many."""
    return torch.arange(count).tensor_split(ranks.world)[ranks.rank]


def prepared(made: LocalLearner, batch: Batch) -> Batch:
    """The batch annotated by all ranks, each its own rows, and estimated."""
    ranks, objective = made.ranks, made.objective
    own = rows_of(ranks, len(batch))
    said = made.annotate(batch.rows(own), objective.passes(2))
    columns = {name: getattr(said, name) for name in COLUMNS if getattr(said, name) is not None}
    batch = objective.estimate(batch.noted(own, **columns))
    if ranks.world > 1:
        batch = objective.estimate(replace(batch, **{name: summed(getattr(batch, name)) for name in columns}))
    return replace(batch, weights=objective.aggregate(batch.mask))


def summed(column: Tensor) -> Tensor:
    dist.all_reduce(column)
    return column


def updated(made: LocalLearner, batch: Batch, told: Update) -> Metrics:
    own = rows_of(made.ranks, len(batch))
    done = made.update(batch.rows(own), told)
    assert len(done.logp) == len(own)
    return done.metrics


def batch_of(scene: Scene, actor: Policy, seed: int = 0) -> Batch:
    made = parts.rollouts(actor, questions=scene.questions, answers=scene.answers, seed=seed)
    return collate(made, mask_truncated=True)


def play(made: LocalLearner, scene: Scene, told: Sequence[Update], first: int = 0) -> list[Metrics]:
    """One update a batch; the batch numbered `first`, and so on."""
    facts = []
    for number, one in enumerate(told, start=first):
        facts.append(updated(made, prepared(made, batch_of(scene, made.policy, number)), one))
        if scene.mix is not None and number == 0:
            made.refresh(scene.mix)
    return facts


def weights(made: LocalLearner) -> dict[str, Tensor]:
    """All that learns, whole, and what a sampler takes of it."""
    found = {f"policy.{name}": tensor.clone() for name, tensor in made.whole_weights()}
    found |= {f"merged.{name}": tensor.clone() for name, tensor in made.merged_weights(torch.float32)}
    others = {"critic": made.critic.weights() if made.critic else {}}
    others["reference"] = made.reference.weights() if made.reference else {}
    for kind, named in others.items():
        found |= {f"{kind}.{name}": made.ranks.whole(tensor.detach()).clone() for name, tensor in named.items()}
    return found


def trained(name: str, ranks: Ranks, folder: Path) -> list[Metrics]:
    """A scene from its beginning; its last weights in `folder`."""
    scene = SCENES[name]
    made = learner(scene, ranks)
    facts = play(made, scene, scene.told)
    keep(made, folder / f"{name}-{ranks.world}.safetensors")
    return facts


def keep(made: LocalLearner, file: Path) -> None:
    found = weights(made)
    if made.ranks.rank == 0:
        save_file(found, file)


def kept(file: Path) -> dict[str, Tensor]:
    return load_file(file)


def saved(name: str, ranks: Ranks, folder: Path) -> list[Metrics]:
    """Two updates, a checkpoint, and two more."""
    scene = SCENES[name]
    made = learner(scene, ranks)
    play(made, scene, scene.told[:2])
    made.save(folder / f"{name} of {ranks.world}")
    facts = play(made, scene, scene.told[2:], 2)
    keep(made, folder / f"{name} of {ranks.world}, went on.safetensors")
    return facts


def resumed(name: str, ranks: Ranks, folder: Path, of: int) -> list[Metrics]:
    """The last two updates from a checkpoint that other ranks wrote."""
    scene = SCENES[name]
    made = learner(scene, ranks)
    made.restore(folder / f"{name} of {of}")
    keep(made, folder / f"{name} of {of}, as {ranks.world}.safetensors")
    facts = play(made, scene, scene.told[2:], 2)
    keep(made, folder / f"{name} of {of}, resumed by {ranks.world}.safetensors")
    return facts


def poisoned(ranks: Ranks) -> list[float]:
    """An advantage of the last rank is not finite: does any rank step? And can they go on?"""
    scene = SCENES["ppo"]
    made = learner(scene, ranks)
    batch = prepared(made, batch_of(scene, made.policy))
    assert batch.advantages is not None
    before = weights(made)
    bad = batch.advantages.clone()
    bad[-1] = torch.nan
    skipped = [updated(made, replace(batch, advantages=bad), Update())["skipped_updates"]]
    moved = any(not torch.equal(one, before[name]) for name, one in weights(made).items())
    skipped.append(updated(made, batch, Update())["skipped_updates"])
    went_on = any(not torch.equal(one, before[name]) for name, one in weights(made).items())
    return [*skipped, float(moved), float(went_on)]


def adapted(ranks: Ranks, folder: Path, name: str = "adapted", **told: Any) -> list[Metrics]:
    """PPO under adapters, which stay whole on every rank; saved and taken back on the way."""
    scene = replace(SCENES["ppo"], lora=Lora(rank=4, alpha=8), **told)
    made = learner(scene, ranks, folder / "base", learning_rate=1e-2)
    facts = play(made, scene, scene.told[:2])
    made.save(folder / f"{name} of {ranks.world}")
    again = learner(scene, ranks, folder / "base", learning_rate=1e-2)
    again.restore(folder / f"{name} of {ranks.world}")
    facts += play(again, scene, scene.told[2:], 2)
    keep(again, folder / f"{name}-{ranks.world}.safetensors")
    return facts
