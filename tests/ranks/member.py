"""One rank of a gang:  python member.py WHAT RANK WORLD PORT FOLDER.  It writes what it found to FOLDER/WHAT-WORLD-RANK.json."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from learning import SCENES, Scene, adapted, learner, play, poisoned, resumed, saved, trained

from scoreline.backends.fsdp import Fsdp, join
from scoreline.errors import MemoryLimitError, ModelError
from scoreline.objectives.zoo import naive
from tests import parts


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
    """All scenes, and checkpoints from and to other numbers of ranks."""
    said: dict[str, Any] = {"listening": listening() if sys.platform == "linux" else []}
    for name in SCENES:
        said[name] = trained(name, ranks, folder)
    for name in ("ppo", "grpo"):
        said[f"{name} saved"] = saved(name, ranks, folder)
        for of in sorted({1, 2, ranks.world}):
            said[f"{name} of {of}"] = resumed(name, ranks, folder, of)
    said["poisoned"] = poisoned(ranks)
    said["adapted"] = adapted(ranks, folder)
    said["strangers"] = refused(ranks, seed=ranks.rank)
    said["8 bits"] = refused(ranks, optimizer="adamw_8bit")
    return said


def short(ranks: Fsdp, folder: Path) -> dict[str, Any]:
    """Memory runs out on rank 1, which says so and dies: what does rank 0 see?"""
    scene = SCENES["ppo"]
    made = learner(scene, ranks)
    play(made, scene, scene.told[:1])
    if ranks.rank == 1:

        def full(*_: object) -> None:
            raise MemoryError("no more")

        made.policy.states = full  # type: ignore[assignment, method-assign]
    try:
        play(made, scene, scene.told[1:], 1)
    except MemoryLimitError as error:
        (folder / "short-2-1.json").write_text(json.dumps({"error": str(error)}))
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    except RuntimeError as error:
        return {"error": str(error)}
    return {}


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[5])
    rank, world, port = map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    gang = join(rank, world, f"127.0.0.1:{port}", torch.device("cpu"), timeout=60.0)
    result = {"everything": everything, "short": short}[what](gang, place)
    (place / f"{what}-{world}-{rank}.json").write_text(json.dumps(result))
    if what != "short":
        gang.leave()
