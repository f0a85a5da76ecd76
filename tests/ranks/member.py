"""One rank of a gang:  python member.py WHAT RANK WORLD PORT FOLDER.

It writes what it found to FOLDER/WHAT-WORLD-RANK.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from scoreline.backends.fsdp import Fsdp, join
from scoreline.errors import MemoryLimitError, ModelError
from scoreline.models.adapters import Lora
from scoreline.models.policy import Model, load_policy
from scoreline.objectives.zoo import naive
from tests import parts
from tests.ranks import loading
from tests.ranks.learning import MORE, SAVED, SCENES, Scene, adapted, learner, play, poisoned, resumed, saved, trained


def listening() -> list[str]:
    """The addresses on which this process listens, as /proc writes them: 0100007F is 127.0.0.1."""
    own = {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }
    found = []
    for family in ("tcp", "tcp6"):
        lines = [line.split() for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]]
        found += [line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own]
    return found


def refused(ranks: Fsdp, **wrong: Any) -> str:
    """What a learner says that cannot be made."""
    seed = wrong.pop("seed", 0)
    try:
        learner(Scene(naive, make=lambda: parts.policy("llama", seed=seed)), ranks, **wrong)
    except ModelError as error:
        return str(error)
    return "nothing"


def everything(ranks: Fsdp, folder: Path) -> dict[str, Any]:
    """All scenes, checkpoints from other numbers of ranks, and what is refused."""
    said: dict[str, Any] = {name: trained(name, ranks, folder) for name in SCENES}
    for name in SAVED:
        said[f"{name} saved"] = saved(name, ranks, folder)
        for of in (1, 2):
            said[f"{name} of {of}"] = resumed(name, ranks, folder, of)
    said["poisoned"] = poisoned(ranks)
    said["adapted"] = adapted(ranks, folder)
    said["adapted exact"] = adapted(ranks, folder, "adapted exact", micro=2, sums="fp64")
    said["strangers"] = adapted_strangers(ranks, folder)
    said["8 bits"] = refused(ranks, optimizer="adamw_8bit")
    said["listening"] = listening() if sys.platform == "linux" else []
    return said


def adapted_strangers(ranks: Fsdp, folder: Path) -> str:
    """Under adapters every rank reads for itself; rank 1 has read another model."""
    torch.manual_seed(0)
    policy = load_policy(Model(path=str(folder / "base"), device="cpu", lora=Lora(rank=2)))
    with torch.no_grad():
        next(iter(policy.weights().values())).add_(ranks.rank)
    try:
        ranks.shard([policy.model])
    except ModelError as error:
        return str(error)
    return "nothing"


def loads(ranks: Fsdp, folder: Path) -> dict[str, Any]:
    """Models from folders, by rank 0 alone; and what all say where one fails."""
    said: dict[str, Any] = {"growth": loading.growth(ranks, folder)} if sys.platform == "linux" else {}
    said |= {name: loading.loaded(name, ranks, folder) for name in loading.SCENES}
    for failing, folders in loading.FAILING.items():
        said[failing] = loading.said(ranks, folder, folders)
    for name in loading.OTHERWISE:
        said[f"otherwise {name}"] = loading.said_otherwise(ranks, folder, name)
    said["by chance"], said["strangers"] = loading.unforeseen(ranks), loading.strangers(ranks)
    return said


def loads_again(ranks: Fsdp, folder: Path) -> dict[str, Any]:
    """The same by more ranks."""
    return {name: loading.loaded(name, ranks, folder) for name in loading.SCENES}


def more(ranks: Fsdp, folder: Path) -> dict[str, Any]:
    """Some scenes, and a checkpoint of two; at the end a rank dies."""
    said: dict[str, Any] = {name: trained(name, ranks, folder) for name in MORE}
    said["ppo of 2"] = resumed("ppo", ranks, folder, 2)
    return said | {"death": short(ranks)}


def short(ranks: Fsdp) -> str:
    """Memory runs out on rank 1, which says so; what do the others see when it is killed?"""
    scene = SCENES["ppo"]
    made = learner(scene, ranks)
    play(made, scene, scene.told[:1])
    if ranks.rank == 1:

        def full(*_: object) -> None:
            raise MemoryError("no more")

        made.policy.states = full  # type: ignore[assignment, method-assign]
    try:
        play(made, scene, scene.told[1:], 1)
    except (MemoryLimitError, RuntimeError) as error:
        return str(error)
    return "nothing"


VERBS = {"everything": everything, "more": more, "loads": loads, "loads_again": loads_again}

if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[5])
    rank, world, port = map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    gang = join(rank, world, f"127.0.0.1:{port}", torch.device("cpu"), timeout=120.0)
    result = VERBS[what](gang, place)
    (place / f"{what}-{world}-{rank}.json").write_text(json.dumps(result))
    if what == "more":
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    gang.leave()
