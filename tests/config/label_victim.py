"""A small labelling run that kills itself: `label_victim.py MODEL FOLDER KIND [PHASE NUMBER]`.

PHASE is a function in the middle of which SIGKILL comes, at its NUMBER-th call. The run resumes if it exists.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

from scoreline.config import label as verb
from scoreline.config.label import LabelRun, label
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.environments.steps import Splitter
from scoreline.models.decoder import SharedDecoder
from scoreline.models.policy import Model
from scoreline.reports import jsonl
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import Local

PHASES: dict[str, tuple[Any, str]] = {
    "generation": (SharedDecoder, "step"),
    "rows": (jsonl, "append"),
    "state": (verb, "write"),
}


def deadly(phase: str, number: int) -> None:
    """Die inside the number-th call: the work of the call is done, nothing after it is."""
    owner, name = PHASES[phase]
    calls, original = count(1), getattr(owner, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if next(calls) == number:
            if phase == "rows":
                tear(args[0])
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return result

    setattr(owner, name, patched)


def tear(file: Path) -> None:
    """Leave the half of a line behind, as a process that dies while it writes."""
    with file.open("ab") as stream:
        stream.write(file.read_bytes().split(b"\n")[0][:20])


def run(model: str, folder: Path, kind: Any) -> LabelRun:
    """Four batches of four questions, and one of two."""
    return LabelRun(
        name="victim",
        folder=str(folder),
        kind=kind,
        model=Model(path=model, device="cpu"),
        data=Data(size=40, held_out=4),
        reward=(RewardSpec("format_match", options={"pattern": "[1-4]$"}),),
        steps=Splitter("pattern", at="[3-6]"),
        sampling=Sampling(max_completion_length=12),
        engine=Local(16),
        prompts=18,
        num_generations=4,
        continuations=3,
    )


if __name__ == "__main__":
    if len(sys.argv) > 4:
        deadly(sys.argv[4], int(sys.argv[5]))
    spec = run(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    label(spec, resume=(Path(sys.argv[2]) / "victim").exists())
